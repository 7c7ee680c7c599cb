// Convolutions of float32 images, channels last, for the CPU that this is compiled for, as calls for XLA.
//
// A 3×3 kernel with stride 1 goes through Winograd's F(4×4, 3×3) (tiles.h): 36 products for every 4×4 outputs
// instead of 144. Tiles are transformed, multiplied and transformed back some at a time, so that what lies
// between stays in a core's cache. Any other kernel is a product of it and runs of pixels (direct.h). Both
// end in the same products of matrices, whose sums stay in registers (products.h).
//
// Results are the same whatever the number of threads: a sum that threads share is cut by its shape alone
// (groups.h).
//
// The distances between embeddings (distances.h) are those products too, and so are here.

#include <cstdint>

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

bool ByTiles(const Images& in, const Images& out, const Window& k) {
  return k.kh == 3 && k.kw == 3 && k.stride == 1 && k.top == 1 && k.left == 1 && in.h == out.h &&
         in.w == out.w && in.c % kLanes == 0 && out.c % kPanel == 0;
}

ffi::Error Convolve(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> kernel,
                    ffi::Buffer<ffi::F32> bias, ffi::Buffer<ffi::F32> residual, ffi::ResultBuffer<ffi::F32> y,
                    int64_t stride, int64_t top, int64_t left, float slope) {
  const Images in = Of(x), out = Of(*y);
  const auto size = kernel.dimensions();
  const Window window{size[0], size[1], stride, top, left};
  const Finish finish{bias.element_count() ? bias.typed_data() : nullptr,
                      residual.element_count() ? residual.typed_data() : nullptr, slope};
  if (ByTiles(in, out, window))
    ConvolveByTiles(pool, x.typed_data(), in, kernel.typed_data(), y->typed_data(), out, finish);
  else
    ConvolveDirectly(pool, x.typed_data(), in, kernel.typed_data(), window, y->typed_data(), out, finish);
  return ffi::Error::Success();
}

ffi::Error KernelGradient(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> gradient,
                          ffi::ResultBuffer<ffi::F32> to, int64_t stride, int64_t top, int64_t left) {
  const Images in = Of(x), out = Of(gradient);
  const auto size = to->dimensions();
  const Window window{size[0], size[1], stride, top, left};
  if (ByTiles(in, out, window))
    KernelGradientByTiles(pool, x.typed_data(), in, gradient.typed_data(), out, to->typed_data());
  else
    KernelGradientDirectly(pool, x.typed_data(), in, gradient.typed_data(), out, window, to->typed_data());
  return ffi::Error::Success();
}

ffi::Error Distances(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> y,
                     ffi::ResultBuffer<ffi::F32> to, bool euclidean) {
  const auto of_x = x.dimensions(), of_y = y.dimensions();
  SumDistances(pool, x.typed_data(), y.typed_data(), {of_x[1], of_x[0], of_y[0], of_x[2]}, euclidean,
               to->typed_data());
  return ffi::Error::Success();
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
