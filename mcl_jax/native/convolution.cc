// Convolutions of float32 images, channels last, for the CPU that this file is compiled on.
//
// A 3×3 kernel with stride 1 goes through Winograd's F(2×2, 3×3) (Lavin & Gray 2016, arXiv:1509.09308): 16
// products for every 2×2 outputs instead of 36. Tiles are transformed, multiplied and transformed back some at
// a time, so that what lies between stays in a core's cache; that is what XLA's loops cannot do. Every other
// kernel is a product of runs of pixels with it. Both end in the same product of registers, `Multiply`, and
// the gradients of kernels in its counterpart, `MultiplyTransposed`.
//
// Results are the same whatever the number of threads: sums that threads could share are cut by shape alone.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// As many sums as leave registers for two vectors of the kernel and one number of the image.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16, kRows = 14;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int64_t kLanes = 8, kRows = 6;
#elif defined(__aarch64__)
constexpr int64_t kLanes = 4, kRows = 14;
#else
constexpr int64_t kLanes = 4, kRows = 6;
#endif
constexpr int64_t kPanel = 2 * kLanes;  // output channels of a product
constexpr int64_t kChannels = 128;      // output channels that are transformed back together
constexpr int64_t kBand = 8;            // output rows and, at most, columns that are computed together
constexpr int64_t kColumns = 56;

// Need not lie at a multiple of its size.
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

inline Vector& At(float* p) { return *reinterpret_cast<Vector*>(p); }
inline const Vector& At(const float* p) { return *reinterpret_cast<const Vector*>(p); }

inline int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ---------------------------------------------------------------------------------------------- memory, threads

// Asks for large pages where an array is about to be written. XLA's memory is new in every execution, and the
// system needs longer to hand out a gigabyte in pages of 4 KB than these functions need to fill it.
void InLargePages(float* data, int64_t floats) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = uintptr_t{1} << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(data + floats) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// Memory that a thread keeps from call to call, as first use of fresh pages is slow.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }

  float* Get(int64_t floats) {
    if (floats > size_) {
      std::free(data_);
      data_ = static_cast<float*>(std::aligned_alloc(64, Ceil(floats, 16) * 64));
      size_ = data_ == nullptr ? 0 : floats;
      if (data_ == nullptr) std::abort();
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  int64_t size_ = 0;
};

thread_local Scratch of_call, of_item;

// Runs work(0), …, work(count − 1) on all threads of the pool and returns when all are done. The caller takes
// part and waits for none that has not begun, so calls from threads of the pool cannot wait for each other.
template <typename Work>
void ForEach(ffi::ThreadPool& pool, int64_t count, const Work& work) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all_done;
  };
  auto state = std::make_shared<State>();
  auto run = [state, count, &work] {
    for (int64_t i; (i = state->next.fetch_add(1)) < count;) {
      work(i);
      if (state->done.fetch_add(1) + 1 == count) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->all_done.notify_all();
      }
    }
  };
  for (int64_t i = 1; i < std::min(pool.num_threads(), count); ++i) pool.Schedule(std::decay_t<decltype(run)>(run));
  run();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done.load() == count; });
}

// ------------------------------------------------------------------------------------------- products in registers

// y[r] = Σ over i < times, k < depth of a[i · a_time + r · a_row + k] · b[(i · depth + k) · kPanel …], for R rows.
template <int R>
void Multiply(const float* a, int64_t a_time, int64_t a_row, const float* b, int64_t times, int64_t depth,
              float* y, int64_t y_row) {
  Vector sums[R][2] = {};
  for (int64_t i = 0; i < times; ++i) {
    const float* at = a + i * a_time;
    for (int64_t k = 0; k < depth; ++k, b += kPanel) {
      const Vector b0 = At(b), b1 = At(b + kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float x = at[r * a_row + k];
        sums[r][0] += x * b0;
        sums[r][1] += x * b1;
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    At(y + r * y_row) = sums[r][0];
    At(y + r * y_row + kLanes) = sums[r][1];
  }
}

// y[r] += Σ over i < times, k < depth of a[i · a_time + k · a_step + r] · b[i · b_time + k · b_step …], for R rows.
template <int R>
void MultiplyTransposed(const float* a, int64_t a_time, int64_t a_step, const float* b, int64_t b_time,
                        int64_t b_step, int64_t times, int64_t depth, float* y) {
  Vector sums[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    sums[r][0] = At(y + r * kPanel);
    sums[r][1] = At(y + r * kPanel + kLanes);
  }
  for (int64_t i = 0; i < times; ++i) {
    const float *at = a + i * a_time, *bt = b + i * b_time;
    for (int64_t k = 0; k < depth; ++k, at += a_step, bt += b_step) {
      const Vector b0 = At(bt), b1 = At(bt + kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float x = at[r];
        sums[r][0] += x * b0;
        sums[r][1] += x * b1;
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    At(y + r * kPanel) = sums[r][0];
    At(y + r * kPanel + kLanes) = sums[r][1];
  }
}

using MultiplyRows = decltype(&Multiply<1>);
using MultiplyTransposedRows = decltype(&MultiplyTransposed<1>);

template <int... R>
MultiplyRows Rows(int64_t rows, std::integer_sequence<int, R...>) {
  static constexpr MultiplyRows of[] = {&Multiply<R + 1>...};
  return of[rows - 1];
}

template <int... R>
MultiplyTransposedRows TransposedRows(int64_t rows, std::integer_sequence<int, R...>) {
  static constexpr MultiplyTransposedRows of[] = {&MultiplyTransposed<R + 1>...};
  return of[rows - 1];
}

using UpToRows = std::make_integer_sequence<int, kRows>;

// Calls part(begin, size) for as few parts of at most kRows as there can be, of sizes as equal as they can be.
template <typename Part>
inline void InParts(int64_t count, const Part& part) {
  const int64_t parts = Ceil(count, kRows);
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t begin = count * i / parts;
    part(begin, count * (i + 1) / parts - begin);
  }
}

// ------------------------------------------------------------------------------------------- images and kernels

struct Images {
  int64_t n, h, w, c;
  int64_t size() const { return h * w * c; }
};

// What becomes of a sum: bias and residual are added where there are any; below zero it is multiplied by slope.
struct Finish {
  const float* bias;
  const float* residual;
  float slope;

  // `at` is where in the output, d which channel.
  inline Vector operator()(Vector sum, int64_t at, int64_t d) const {
    if (bias != nullptr) sum += At(bias + d);
    if (residual != nullptr) sum += At(residual + at);
    if (slope == 1.0f) return sum;
    return sum <= 0.0f ? slope * sum : sum;  // so that NaN stays
  }
};

// Copies rows [top, top + rows) and columns [left, left + columns) of an image; outside of it are zeros.
void Cut(const float* image, const Images& of, int64_t top, int64_t left, int64_t rows, int64_t columns, float* to) {
  const int64_t first = std::clamp<int64_t>(-left, 0, columns), last = std::clamp<int64_t>(of.w - left, first, columns);
  for (int64_t y = 0; y < rows; ++y, to += columns * of.c) {
    if (top + y < 0 || top + y >= of.h) {
      std::fill(to, to + columns * of.c, 0.0f);
      continue;
    }
    std::fill(to, to + first * of.c, 0.0f);
    std::memcpy(to + first * of.c, image + ((top + y) * of.w + left + first) * of.c, (last - first) * of.c * sizeof(float));
    std::fill(to + last * of.c, to + columns * of.c, 0.0f);
  }
}

// Writes a matrix [depth, d] as panels [d / kPanel, depth, kPanel].
void ToPanels(const float* matrix, int64_t depth, int64_t d, float* panels) {
  for (int64_t p = 0; p < d; p += kPanel)
    for (int64_t k = 0; k < depth; ++k, panels += kPanel)
      std::memcpy(panels, matrix + k * d + p, kPanel * sizeof(float));
}

// The bands that an output is cut into: which image, and which of its rows and columns.
struct Band {
  int64_t image, top, rows, left, columns;
};

struct Bands {
  int64_t n, h, w;
  int64_t across() const { return Ceil(w, kColumns); }
  int64_t down() const { return Ceil(h, kBand); }
  int64_t count() const { return n * down() * across(); }
  Band operator[](int64_t i) const {
    const int64_t column = i % across(), row = i / across() % down();
    const int64_t top = h * row / down(), left = w * column / across();
    return {i / across() / down(), top, h * (row + 1) / down() - top, left, w * (column + 1) / across() - left};
  }
};

struct Window {
  int64_t kh, kw, stride, top, left;  // size, stride, and the zeros above and to the left
};

// The part of the padded input that a band sees.
struct Seen {
  int64_t top, left, rows, columns;
  Seen(const Band& band, const Window& k)
      : top(band.top * k.stride - k.top),
        left(band.left * k.stride - k.left),
        rows((band.rows - 1) * k.stride + k.kh),
        columns((band.columns - 1) * k.stride + k.kw) {}
};

// ------------------------------------------------------------------------------------------------------ directly

// A row of the kernel and all channels lie one behind the other in an image too, so that each row of the kernel
// is one product over kw · c numbers.
void ConvolveDirectly(ffi::ThreadPool& pool, const float* x, Images in, const float* kernel, Window k, float* y,
                      Images out, Finish finish) {
  const int64_t depth = k.kw * in.c;
  float* panels = of_call.Get(k.kh * depth * out.c);
  ToPanels(kernel, k.kh * depth, out.c, panels);
  const Bands bands{out.n, out.h, out.w};
  ForEach(pool, bands.count(), [&](int64_t i) {
    const Band band = bands[i];
    const Seen seen(band, k);
    float* cut = of_item.Get(seen.rows * seen.columns * in.c + kRows * kPanel);
    float* sums = cut + seen.rows * seen.columns * in.c;
    Cut(x + band.image * in.size(), in, seen.top, seen.left, seen.rows, seen.columns, cut);
    for (int64_t p = 0; p < out.c; p += kPanel)
      for (int64_t row = 0; row < band.rows; ++row)
        InParts(band.columns, [&](int64_t column, int64_t pixels) {
          Rows(pixels, UpToRows())(cut + (row * seen.columns + column) * k.stride * in.c, seen.columns * in.c,
                                   k.stride * in.c, panels + p * k.kh * depth, k.kh, depth, sums, kPanel);
          const int64_t at = ((band.image * out.h + band.top + row) * out.w + band.left + column) * out.c + p;
          for (int64_t r = 0; r < pixels; ++r)
            for (int64_t v = 0; v < kPanel; v += kLanes)
              At(y + at + r * out.c + v) = finish(At(sums + r * kPanel + v), at + r * out.c + v, p + v);
        });
  });
}

// ------------------------------------------------------------------------------------------------------ Winograd

// The 1-D transforms of F(outputs, 3): Bᵀ of inputs, G of weights, Aᵀ to outputs; their transposes for gradients.
struct TwoOutputs {
  static constexpr int kOut = 2, kIn = 4;
  static void Input(const Vector* x, Vector* y) {
    y[0] = x[0] - x[2];
    y[1] = x[1] + x[2];
    y[2] = x[2] - x[1];
    y[3] = x[1] - x[3];
  }
  static void Kernel(const Vector* x, Vector* y) {
    const Vector ends = 0.5f * (x[0] + x[2]), middle = 0.5f * x[1];
    y[0] = x[0];
    y[1] = ends + middle;
    y[2] = ends - middle;
    y[3] = x[2];
  }
  static void Output(const Vector* x, Vector* y) {
    y[0] = x[0] + x[1] + x[2];
    y[1] = x[1] - x[2] - x[3];
  }
  static void Gradient(const Vector* x, Vector* y) {
    y[0] = x[0];
    y[1] = x[0] + x[1];
    y[2] = x[0] - x[1];
    y[3] = -x[1];
  }
  static void KernelBack(const Vector* x, Vector* y) {
    const Vector sum = 0.5f * (x[1] + x[2]);
    y[0] = x[0] + sum;
    y[1] = 0.5f * (x[1] - x[2]);
    y[2] = x[3] + sum;
  }
};

// At the points 0, ±1/√2, ±√2 and ∞, whose error is a quarter of that of the usual 0, ±1, ±2 and ∞.
struct FourOutputs {
  static constexpr int kOut = 4, kIn = 6;
  static constexpr float kSmall = 0.70710678f, kLarge = 1.41421356f;
  static void Input(const Vector* x, Vector* y) {
    const Vector a = x[4] - 2.0f * x[2], b = kSmall * (x[3] - 2.0f * x[1]);
    const Vector c = x[4] - 0.5f * x[2], d = kLarge * (x[3] - 0.5f * x[1]);
    y[0] = x[0] - 2.5f * x[2] + x[4];
    y[1] = a + b;
    y[2] = a - b;
    y[3] = c + d;
    y[4] = c - d;
    y[5] = x[1] - 2.5f * x[3] + x[5];
  }
  static void Kernel(const Vector* x, Vector* y) {
    const Vector a = (-2.0f / 3.0f) * (x[0] + 0.5f * x[2]), b = (-2.0f / 3.0f * kSmall) * x[1];
    const Vector c = (1.0f / 6.0f) * (x[0] + 2.0f * x[2]), d = (1.0f / 6.0f * kLarge) * x[1];
    y[0] = x[0];
    y[1] = a + b;
    y[2] = a - b;
    y[3] = c + d;
    y[4] = c - d;
    y[5] = x[2];
  }
  static void Output(const Vector* x, Vector* y) {
    const Vector a = x[1] + x[2], b = x[1] - x[2], c = x[3] + x[4], d = x[3] - x[4];
    y[0] = x[0] + a + c;
    y[1] = kSmall * b + kLarge * d;
    y[2] = 0.5f * a + 2.0f * c;
    y[3] = 0.5f * kSmall * b + 2.0f * kLarge * d + x[5];
  }
  static void Gradient(const Vector* x, Vector* y) {
    const Vector a = x[0] + 0.5f * x[2], b = kSmall * (x[1] + 0.5f * x[3]);
    const Vector c = x[0] + 2.0f * x[2], d = kLarge * (x[1] + 2.0f * x[3]);
    y[0] = x[0];
    y[1] = a + b;
    y[2] = a - b;
    y[3] = c + d;
    y[4] = c - d;
    y[5] = x[3];
  }
  static void KernelBack(const Vector* x, Vector* y) {
    const Vector a = (-2.0f / 3.0f) * (x[1] + x[2]), b = (-2.0f / 3.0f * kSmall) * (x[1] - x[2]);
    const Vector c = (1.0f / 6.0f) * (x[3] + x[4]), d = (1.0f / 6.0f * kLarge) * (x[3] - x[4]);
    y[0] = x[0] + a + c;
    y[1] = b + d;
    y[2] = 0.5f * a + 2.0f * c + x[5];
  }
};

// Applies a 1-D transform to the columns and then to the rows of from × from vectors.
template <int from, int to>
inline void InTwoDimensions(void (*transform)(const Vector*, Vector*), const Vector (&x)[from][from],
                            Vector (&y)[to][to]) {
  Vector half[from][to];
#pragma GCC unroll 6
  for (int j = 0; j < from; ++j) {
    Vector column[from];
#pragma GCC unroll 6
    for (int i = 0; i < from; ++i) column[i] = x[i][j];
    transform(column, half[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < to; ++i) {
    Vector row[from];
#pragma GCC unroll 6
    for (int j = 0; j < from; ++j) row[j] = half[j][i];
    transform(row, y[i]);
  }
}

// How many tiles are transformed together: more where there are more weights to fetch for them, and fewer where
// threads would have none.
int64_t TilesAtOnce(const ffi::ThreadPool& pool, int64_t channels, int64_t tiles) {
  const int64_t most = kRows * Ceil(channels, 64);
  const int64_t fair = Ceil(Ceil(tiles, std::max<int64_t>(pool.num_threads(), 1)), kRows) * kRows;
  return std::min(most, fair);
}

// Writes size × size vectors, one into each plane.
template <int size>
inline void ToPlanes(const Vector (&x)[size][size], float* to, int64_t plane) {
#pragma GCC unroll 6
  for (int i = 0; i < size; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < size; ++j) At(to + (i * size + j) * plane) = x[i][j];
}

template <int size>
inline void FromPlanes(const float* from, int64_t plane, Vector (&x)[size][size]) {
#pragma GCC unroll 6
  for (int i = 0; i < size; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < size; ++j) x[i][j] = At(from + (i * size + j) * plane);
}

// The tiles that images are cut into, in order.
template <typename F>
struct Tiling {
  int64_t h, w, down, across;
  explicit Tiling(const Images& images)
      : h(images.h), w(images.w), down(Ceil(h, F::kOut)), across(Ceil(w, F::kOut)) {}
  int64_t each() const { return down * across; }
  int64_t image(int64_t tile) const { return tile / each(); }
  int64_t top(int64_t tile) const { return tile % each() / across * F::kOut; }
  int64_t left(int64_t tile) const { return tile % across * F::kOut; }
};

// Transforms what a tile sees of the images; `zeros` is what lies outside.
template <typename F>
void TransformInput(const float* x, const Images& in, const Tiling<F>& tiling, int64_t tile, const float* zeros,
                    float* to, int64_t plane) {
  const int64_t image = tiling.image(tile), top = tiling.top(tile) - 1, left = tiling.left(tile) - 1;
  const float* pixels[F::kIn][F::kIn];
  for (int64_t i = 0; i < F::kIn; ++i)
    for (int64_t j = 0; j < F::kIn; ++j) {
      const bool inside = top + i >= 0 && top + i < in.h && left + j >= 0 && left + j < in.w;
      pixels[i][j] = inside ? x + ((image * in.h + top + i) * in.w + left + j) * in.c : zeros;
    }
  for (int64_t c = 0; c < in.c; c += kLanes) {
    Vector seen[F::kIn][F::kIn], transformed[F::kIn][F::kIn];
#pragma GCC unroll 6
    for (int i = 0; i < F::kIn; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < F::kIn; ++j) seen[i][j] = At(pixels[i][j] + c);
    InTwoDimensions(F::Input, seen, transformed);
    ToPlanes(transformed, to + c, plane);
  }
}

// Transforms d products of a tile, from channel `first` on, into its outputs.
template <typename F>
void TransformOutput(const float* products, int64_t plane, const Images& out, const Tiling<F>& tiling, int64_t tile,
                     int64_t first, int64_t d, const Finish& finish, float* y) {
  const int64_t top = tiling.top(tile), left = tiling.left(tile);
  const int64_t tile_at = ((tiling.image(tile) * out.h + top) * out.w + left) * out.c + first;
  const int64_t rows = std::min<int64_t>(F::kOut, out.h - top), columns = std::min<int64_t>(F::kOut, out.w - left);
  for (int64_t c = 0; c < d; c += kLanes) {
    Vector sums[F::kIn][F::kIn], outputs[F::kOut][F::kOut];
    FromPlanes(products + c, plane, sums);
    InTwoDimensions(F::Output, sums, outputs);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t at = tile_at + (i * out.w + j) * out.c + c;
        At(y + at) = finish(outputs[i][j], at, first + c);
      }
  }
}

// Transforms channels [p, p + kPanel) of a kernel [3, 3, c, d] into panels [c, kPanel], one in each plane.
template <typename F>
void TransformKernel(const float* kernel, int64_t c, int64_t d, int64_t p, float* to, int64_t plane) {
  for (int64_t k = 0; k < c; ++k)
    for (int64_t v = 0; v < kPanel; v += kLanes) {
      Vector weights[3][3], transformed[F::kIn][F::kIn];
      FromPlanes(kernel + k * d + p + v, c * d, weights);
      InTwoDimensions(F::Kernel, weights, transformed);
      ToPlanes(transformed, to + k * kPanel + v, plane);
    }
}

template <typename F>
void ConvolveByTiles(ffi::ThreadPool& pool, const float* x, Images in, const float* kernel, float* y, Images out,
                     Finish finish) {
  constexpr int64_t planes = F::kIn * F::kIn;
  const Tiling<F> tiling(in);
  const int64_t kernel_plane = in.c * out.c, tiles = in.n * tiling.each();
  float* weights = of_call.Get(planes * kernel_plane);  // [planes, d / kPanel, c, kPanel]
  ForEach(pool, out.c / kPanel, [&](int64_t p) {
    TransformKernel<F>(kernel, in.c, out.c, p * kPanel, weights + p * in.c * kPanel, kernel_plane);
  });
  const int64_t block = TilesAtOnce(pool, in.c, tiles);
  const int64_t row = in.c + 16;  // rows of 2^n numbers would all lie in the same places of the cache
  const int64_t channels = std::min(out.c, kChannels), product_row = channels + 16;
  const int64_t plane = block * row, product_plane = block * product_row;
  ForEach(pool, Ceil(tiles, block), [&](int64_t item) {
    const int64_t first = item * block, count = std::min(block, tiles - first);
    float* zeros = of_item.Get(in.c + planes * (plane + product_plane));
    float* transformed = zeros + in.c;
    float* products = transformed + planes * plane;
    std::fill(zeros, zeros + in.c, 0.0f);
    for (int64_t t = 0; t < count; ++t)
      TransformInput<F>(x, in, tiling, first + t, zeros, transformed + t * row, plane);
    for (int64_t d = 0; d < out.c; d += channels) {
      const int64_t these = std::min(channels, out.c - d);
      for (int64_t i = 0; i < planes; ++i)
        for (int64_t p = 0; p < these; p += kPanel)
          InParts(count, [&](int64_t t, int64_t rows) {
            Rows(rows, UpToRows())(transformed + i * plane + t * row, 0, row,
                                   weights + i * kernel_plane + (d + p) * in.c, 1, in.c,
                                   products + i * product_plane + t * product_row + p, product_row);
          });
      for (int64_t t = 0; t < count; ++t)
        TransformOutput<F>(products + t * product_row, product_plane, out, tiling, first + t, d, these, finish, y);
    }
  });
}

// --------------------------------------------------------------------------------------------- gradients of kernels

// Images are summed in groups, whose number depends on the shape alone; each is summed by one thread.
int64_t Groups(int64_t images, int64_t floats) {
  const int64_t most = int64_t{1} << 22;  // 16 MB
  return std::max<int64_t>(1, std::min({images, int64_t{8}, most / floats}));
}

// How many parts the output channels are cut into, so that there is work for all threads.
int64_t PanelParts(ffi::ThreadPool& pool, int64_t groups, int64_t panels) {
  return std::clamp<int64_t>(Ceil(pool.num_threads(), groups), 1, panels);
}

// Sums up in `sums` [groups, kh · kw · c / … as panels], and writes the gradient [kh · kw · c, d].
void KernelGradientDirectly(ffi::ThreadPool& pool, const float* x, Images in, const float* g, Images out, Window k,
                            float* to) {
  const int64_t depth = k.kw * in.c, size = k.kh * depth * out.c, panels = out.c / kPanel;
  const int64_t groups = Groups(in.n, size), parts = PanelParts(pool, groups, panels);
  float* all_sums = of_call.Get(groups * size);  // [groups, panels, kh, depth, kPanel]
  const Bands bands{out.n, out.h, out.w};
  const int64_t each = bands.count() / out.n;
  ForEach(pool, groups * parts, [&](int64_t item) {
    const int64_t group = item / parts, part = item % parts;
    const int64_t first = panels * part / parts, last = panels * (part + 1) / parts;
    float* sums = all_sums + group * size;
    std::fill(sums + first * k.kh * depth * kPanel, sums + last * k.kh * depth * kPanel, 0.0f);
    for (int64_t i = in.n * group / groups * each; i < in.n * (group + 1) / groups * each; ++i) {
      const Band band = bands[i];
      const Seen seen(band, k);
      float* cut = of_item.Get(seen.rows * seen.columns * in.c);
      Cut(x + band.image * in.size(), in, seen.top, seen.left, seen.rows, seen.columns, cut);
      const float* gradient = g + ((band.image * out.h + band.top) * out.w + band.left) * out.c;
      for (int64_t p = first; p < last; ++p)
        for (int64_t row = 0; row < k.kh; ++row)
          InParts(depth, [&](int64_t from, int64_t rows) {
            TransposedRows(rows, UpToRows())(cut + row * seen.columns * in.c + from, k.stride * seen.columns * in.c,
                                             k.stride * in.c, gradient + p * kPanel, out.w * out.c, out.c, band.rows,
                                             band.columns, sums + ((p * k.kh + row) * depth + from) * kPanel);
          });
    }
  });
  ForEach(pool, panels, [&](int64_t p) {
    for (int64_t row = 0; row < k.kh * depth; ++row)
      for (int64_t v = 0; v < kPanel; v += kLanes) {
        Vector sum = {};
        for (int64_t group = 0; group < groups; ++group)
          sum += At(all_sums + group * size + (p * k.kh * depth + row) * kPanel + v);
        At(to + row * out.c + p * kPanel + v) = sum;
      }
  });
}

// Transforms the gradient of a tile's outputs into panels [panels, count, kPanel] of each plane, for d channels from
// `first` on.
template <typename F>
void TransformGradient(const float* g, const Images& out, const Tiling<F>& tiling, int64_t tile, int64_t first,
                       int64_t d, float* to, int64_t panel, int64_t plane) {
  const int64_t top = tiling.top(tile), left = tiling.left(tile);
  const float* tile_at = g + ((tiling.image(tile) * out.h + top) * out.w + left) * out.c + first;
  const int64_t rows = std::min<int64_t>(F::kOut, out.h - top), columns = std::min<int64_t>(F::kOut, out.w - left);
  for (int64_t c = 0; c < d; c += kLanes) {
    Vector gradient[F::kOut][F::kOut] = {}, transformed[F::kIn][F::kIn];
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) gradient[i][j] = At(tile_at + (i * out.w + j) * out.c + c);
    InTwoDimensions(F::Gradient, gradient, transformed);
    ToPlanes(transformed, to + c / kPanel * panel + c % kPanel, plane);
  }
}

template <typename F>
void KernelGradientByTiles(ffi::ThreadPool& pool, const float* x, Images in, const float* g, Images out, float* to) {
  constexpr int64_t planes = F::kIn * F::kIn, block = 8 * kRows;
  const Tiling<F> tiling(in);
  const int64_t panels = out.c / kPanel, kernel_plane = in.c * out.c, size = planes * kernel_plane;
  const int64_t groups = Groups(in.n, size), parts = PanelParts(pool, groups, panels);
  float* all_sums = of_call.Get(groups * size);  // [groups, planes, panels, c, kPanel]
  const int64_t row = in.c + 16;
  ForEach(pool, groups * parts, [&](int64_t item) {
    const int64_t group = item / parts, part = item % parts;
    const int64_t first = panels * part / parts, last = panels * (part + 1) / parts, d = (last - first) * kPanel;
    float* sums = all_sums + group * size;
    for (int64_t i = 0; i < planes; ++i)
      std::fill(sums + i * kernel_plane + first * in.c * kPanel, sums + i * kernel_plane + last * in.c * kPanel, 0.0f);
    float* zeros = of_item.Get(in.c + planes * block * (row + d));
    float* inputs = zeros + in.c;                        // [planes, block, row]
    float* gradients = inputs + planes * block * row;    // [planes, panels, block, kPanel]
    std::fill(zeros, zeros + in.c, 0.0f);
    const int64_t end = in.n * (group + 1) / groups * tiling.each();
    for (int64_t tile = in.n * group / groups * tiling.each(); tile < end; tile += block) {
      const int64_t count = std::min(block, end - tile);
      for (int64_t t = 0; t < count; ++t) {
        TransformInput<F>(x, in, tiling, tile + t, zeros, inputs + t * row, block * row);
        TransformGradient<F>(g, out, tiling, tile + t, first * kPanel, d, gradients + t * kPanel, block * kPanel,
                             block * d);
      }
      for (int64_t i = 0; i < planes; ++i)
        for (int64_t p = first; p < last; ++p)
          InParts(in.c, [&](int64_t c, int64_t rows) {
            TransposedRows(rows, UpToRows())(inputs + i * block * row + c, 0, row,
                                             gradients + (i * d + (p - first) * kPanel) * block, 0, kPanel, 1, count,
                                             sums + i * kernel_plane + (p * in.c + c) * kPanel);
          });
    }
  });
  ForEach(pool, panels, [&](int64_t p) {
    for (int64_t c = 0; c < in.c; ++c)
      for (int64_t v = 0; v < kPanel; v += kLanes) {
        Vector sums[F::kIn][F::kIn] = {}, gradient[3][3];
        for (int64_t group = 0; group < groups; ++group) {
          Vector of_group[F::kIn][F::kIn];
          FromPlanes(all_sums + group * size + (p * in.c + c) * kPanel + v, kernel_plane, of_group);
          for (int i = 0; i < F::kIn; ++i)
            for (int j = 0; j < F::kIn; ++j) sums[i][j] += of_group[i][j];
        }
        InTwoDimensions(F::KernelBack, sums, gradient);
        ToPlanes(gradient, to + c * out.c + p * kPanel + v, in.c * out.c);
      }
  });
}

// ----------------------------------------------------------------------------------------------------------- for XLA

Images Of(const ffi::Buffer<ffi::F32>& x) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], d[3]};
}

bool ByTiles(const Images& in, const Images& out, const Window& k) {
  return k.kh == 3 && k.kw == 3 && k.stride == 1 && k.top == 1 && k.left == 1 && in.h == out.h && in.w == out.w &&
         in.c % kLanes == 0;
}

ffi::Error Check(const Images& out) {
  if (out.c % kPanel == 0) return ffi::Error::Success();
  return ffi::Error::InvalidArgument("a convolution for this CPU needs a multiple of its channels");
}

ffi::Error Convolve(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> kernel,
                    ffi::Buffer<ffi::F32> bias, ffi::Buffer<ffi::F32> residual, ffi::ResultBuffer<ffi::F32> y,
                    int64_t stride, int64_t top, int64_t left, float slope) {
  const Images in = Of(x), out = Of(*y);
  const auto size = kernel.dimensions();
  const Window window{size[0], size[1], stride, top, left};
  const Finish finish{bias.element_count() ? bias.typed_data() : nullptr,
                      residual.element_count() ? residual.typed_data() : nullptr, slope};
  if (auto error = Check(out); error.failure()) return error;
  InLargePages(y->typed_data(), out.n * out.size());
  if (ByTiles(in, out, window))
    ConvolveByTiles<FourOutputs>(pool, x.typed_data(), in, kernel.typed_data(), y->typed_data(), out, finish);
  else
    ConvolveDirectly(pool, x.typed_data(), in, kernel.typed_data(), window, y->typed_data(), out, finish);
  return ffi::Error::Success();
}

ffi::Error KernelGradient(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> gradient,
                          ffi::ResultBuffer<ffi::F32> to, int64_t stride, int64_t top, int64_t left) {
  const Images in = Of(x), out = Of(gradient);
  const auto size = to->dimensions();
  const Window window{size[0], size[1], stride, top, left};
  if (auto error = Check(out); error.failure()) return error;
  if (ByTiles(in, out, window))
    KernelGradientByTiles<FourOutputs>(pool, x.typed_data(), in, gradient.typed_data(), out, to->typed_data());
  else
    KernelGradientDirectly(pool, x.typed_data(), in, gradient.typed_data(), out, window, to->typed_data());
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
