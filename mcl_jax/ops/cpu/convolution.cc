// Convolutions of float32 images (channels last) as functions that XLA calls; compiled for this machine's
// CPU.
//
// A 3×3 kernel with stride 1 uses Winograd's F(4×4, 3×3) (tiles.h): 36 multiplications for 4×4 outputs
// instead of 144. A few tiles at a time are transformed, multiplied and transformed back, so that
// intermediate results stay in a core's cache. For any other kernel, runs of pixels are multiplied with it
// directly (direct.h). Both use the same matrix products, which keep their sums in registers (products.h).
//
// Results do not depend on the number of threads: sums are divided among threads by their shape only
// (groups.h).
//
// Distances between embeddings (distances.h) use the same products, so they are in this library too.

#include <cstdint>
#include <new>
#include <string>

#include "direct.h"
#include "distances.h"
#include "images.h"
#include "products.h"
#include "threads.h"
#include "tiles.h"
#include "xla/ffi/api/ffi.h"

namespace {

Images Of(const ffi::Buffer<ffi::F32>& x) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], d[3]};
}

ffi::Error Refuse(const char* what) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, std::string("mcl_jax: ") + what);
}

template <typename Work>
ffi::Error Within(const Work& work) {
  try {
    work();
    return ffi::Error::Success();
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "mcl_jax: not enough memory for a convolution");
  }
}

template <typename... Buffers>
bool HaveRank(size_t rank, const Buffers&... buffers) {
  return ((buffers.dimensions().size() == rank) && ...);
}

// Whether the shapes of input, kernel and output fit together.
bool Fit(const Images& in, const Images& out, ffi::Span<const int64_t> kernel, int64_t stride, int64_t top,
         int64_t left) {
  return in.n == out.n && kernel[2] == in.c && kernel[3] == out.c && stride > 0 && top >= 0 && left >= 0 &&
         kernel[0] > 0 && kernel[1] > 0 && (out.h - 1) * stride - top < in.h &&
         (out.w - 1) * stride - left < in.w;
}

bool ByTiles(const Images& in, const Images& out, const Window& k) {
  return k.kh == 3 && k.kw == 3 && k.stride == 1 && k.top == 1 && k.left == 1 && in.h == out.h &&
         in.w == out.w && in.c % kLanes == 0 && out.c % kPanel == 0;
}

ffi::Error Convolve(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> kernel,
                    ffi::Buffer<ffi::F32> bias, ffi::Buffer<ffi::F32> residual, ffi::ResultBuffer<ffi::F32> y,
                    int64_t stride, int64_t top, int64_t left, float slope) {
  if (!HaveRank(4, x, kernel, *y)) return Refuse("a convolution takes four dimensions");
  const Images in = Of(x), out = Of(*y);
  const auto size = kernel.dimensions();
  const auto fits = [&](const auto& given, size_t count) { return !given || given == count; };
  if (!Fit(in, out, size, stride, top, left) || !fits(bias.element_count(), out.c) ||
      !fits(residual.element_count(), y->element_count()))
    return Refuse("the shapes of a convolution do not fit together");
  const Window window{size[0], size[1], stride, top, left};
  const Finish finish{bias.element_count() ? bias.typed_data() : nullptr,
                      residual.element_count() ? residual.typed_data() : nullptr, slope};
  return Within([&] {
    if (ByTiles(in, out, window))
      ConvolveByTiles(pool, x.typed_data(), in, kernel.typed_data(), y->typed_data(), out, finish);
    else
      ConvolveDirectly(pool, x.typed_data(), in, kernel.typed_data(), window, y->typed_data(), out, finish);
  });
}

ffi::Error KernelGradient(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> gradient,
                          ffi::ResultBuffer<ffi::F32> to, int64_t stride, int64_t top, int64_t left) {
  if (!HaveRank(4, x, gradient, *to)) return Refuse("the gradient of a kernel takes four dimensions");
  const Images in = Of(x), out = Of(gradient);
  const auto size = to->dimensions();
  if (!Fit(in, out, size, stride, top, left)) return Refuse("the shapes of a gradient do not fit together");
  const Window window{size[0], size[1], stride, top, left};
  return Within([&] {
    if (ByTiles(in, out, window))
      KernelGradientByTiles(pool, x.typed_data(), in, gradient.typed_data(), out, to->typed_data());
    else
      KernelGradientDirectly(pool, x.typed_data(), in, gradient.typed_data(), out, window, to->typed_data());
  });
}

ffi::Error Distances(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> y,
                     ffi::ResultBuffer<ffi::F32> to, bool euclidean) {
  const auto of_x = x.dimensions(), of_y = y.dimensions(), of_to = to->dimensions();
  if (!HaveRank(3, x, y) || !HaveRank(2, *to) || of_x[1] != of_y[1] || of_x[2] != of_y[2] ||
      of_to[0] != of_x[0] || of_to[1] != of_y[0])
    return Refuse("the shapes of embeddings do not fit together");
  return Within([&] {
    SumDistances(pool, x.typed_data(), y.typed_data(), {of_x[1], of_x[0], of_y[0], of_x[2]}, euclidean,
                 to->typed_data());
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(MclConvolve, Convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left")
                                  .Attr<float>("slope"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(MclKernelGradient, KernelGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(MclDistances, Distances,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("euclidean"));
