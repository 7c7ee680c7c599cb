// Vectors, and matrix products that keep their sums in registers; nearly all computing time is spent here.

#ifndef MCL_JAX_NATIVE_PRODUCTS_H_
#define MCL_JAX_NATIVE_PRODUCTS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

namespace {

// The number of sums that leaves registers for two vectors of the kernel and one number of the image.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16, kRows = 14;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int64_t kLanes = 8, kRows = 6;
#elif defined(__aarch64__)
constexpr int64_t kLanes = 4, kRows = 14;
#else
constexpr int64_t kLanes = 4, kRows = 6;
#endif
constexpr int64_t kPanel = 2 * kLanes;  // output channels of a product; kLanes if there are no more

// A vector at any address, aligned or not.
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

inline Vector& At(float* p) { return *reinterpret_cast<Vector*>(p); }
inline const Vector& At(const float* p) { return *reinterpret_cast<const Vector*>(p); }

// Likewise for the first `count` numbers only; there may be no more.
inline Vector Part(const float* p, int64_t count) {
  if (count >= kLanes) return At(p);
  Vector x = {};
  std::memcpy(&x, p, count * sizeof(float));
  return x;
}
inline void SetPart(float* p, const Vector& x, int64_t count) {
  if (count >= kLanes)
    At(p) = x;
  else
    std::memcpy(p, &x, count * sizeof(float));
}

inline int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

// y[r] = Σ over i < times, k < depth of a[i · a_time + r · a_row + k] · b[(i · depth + k) · panel …], for R
// rows and panels of V vectors.
template <int R, int V>
void Multiply(const float* a, int64_t a_time, int64_t a_row, const float* b, int64_t times, int64_t depth,
              float* y, int64_t y_row) {
  Vector sums[R][V] = {};
  for (int64_t i = 0; i < times; ++i) {
    const float* at = a + i * a_time;
    for (int64_t k = 0; k < depth; ++k, b += V * kLanes) {
      Vector row[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) row[v] = At(b + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float x = at[r * a_row + k];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[r][v] += x * row[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) At(y + r * y_row + v * kLanes) = sums[r][v];
}

// y[r] += Σ over i < times, k < depth of a[i · a_time + k · a_step + r] · b[i · b_time + k · b_step …], for R
// rows and panels of V vectors.
template <int R, int V>
void MultiplyTransposed(const float* a, int64_t a_time, int64_t a_step, const float* b, int64_t b_time,
                        int64_t b_step, int64_t times, int64_t depth, float* y) {
  Vector sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums[r][v] = At(y + (r * V + v) * kLanes);
  for (int64_t i = 0; i < times; ++i) {
    const float *at = a + i * a_time, *bt = b + i * b_time;
    for (int64_t k = 0; k < depth; ++k, at += a_step, bt += b_step) {
      Vector row[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) row[v] = At(bt + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float x = at[r];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[r][v] += x * row[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) At(y + (r * V + v) * kLanes) = sums[r][v];
}

using MultiplyRows = decltype(&Multiply<1, 1>);
using MultiplyTransposedRows = decltype(&MultiplyTransposed<1, 1>);

template <int V, int... R>
MultiplyRows RowsOf(int64_t rows, std::integer_sequence<int, R...>) {
  static constexpr MultiplyRows of[] = {&Multiply<R + 1, V>...};
  return of[rows - 1];
}

template <int V, int... R>
MultiplyTransposedRows TransposedRowsOf(int64_t rows, std::integer_sequence<int, R...>) {
  static constexpr MultiplyTransposedRows of[] = {&MultiplyTransposed<R + 1, V>...};
  return of[rows - 1];
}

using UpToRows = std::make_integer_sequence<int, kRows>;

// The products for a number of rows, and panels of a number of channels.
inline MultiplyRows Rows(int64_t rows, int64_t panel = kPanel) {
  return panel == kPanel ? RowsOf<2>(rows, UpToRows()) : RowsOf<1>(rows, UpToRows());
}
inline MultiplyTransposedRows TransposedRows(int64_t rows, int64_t panel = kPanel) {
  return panel == kPanel ? TransposedRowsOf<2>(rows, UpToRows()) : TransposedRowsOf<1>(rows, UpToRows());
}

// Calls part(begin, size) for the smallest number of parts with at most kRows rows, as equal in size as
// possible.
template <typename Part>
inline void InParts(int64_t count, const Part& part) {
  const int64_t parts = Ceil(count, kRows);
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t begin = count * i / parts;
    part(begin, count * (i + 1) / parts - begin);
  }
}

}  // namespace

#endif
