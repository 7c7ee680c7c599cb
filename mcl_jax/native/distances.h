// Distances between embeddings of several parts.

#ifndef MCL_JAX_NATIVE_DISTANCES_H_
#define MCL_JAX_NATIVE_DISTANCES_H_

#include <algorithm>
#include <cstdint>

#include "images.h"
#include "products.h"
#include "threads.h"

namespace {

inline Vector Root(Vector x) {
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

// Embeddings x [parts, n, c] and y [parts, c, m].
struct Pairs {
  int64_t parts, n, m, c;
};

// Writes Σ over parts of √(|x|² + |y|² − 2 x · y), or of x · y alone where not `euclidean`, as [n, m].
void SumDistances(ffi::ThreadPool& pool, const float* x, const float* y, Pairs pairs, bool euclidean,
                  float* to) {
  constexpr int64_t block = 12 * kRows;
  const int64_t n = pairs.n, m = pairs.m, c = pairs.c, wide = Widened(m);
  float* panels = of_call.Get(pairs.parts * (c + 1) * wide);  // [parts, panels, c, kPanel]
  float* squares = panels + pairs.parts * c * wide;           // [parts, wide]
  ForEach(pool, pairs.parts, [&](int64_t part) {
    float* at = panels + part * c * wide;
    ToPanels(y + part * c * m, c, m, at);
    for (int64_t p = 0; p < wide; p += kPanel)
      for (int64_t v = 0; v < kPanel; v += kLanes) {
        Vector sum = {};
        for (int64_t k = 0; k < c; ++k) {
          const Vector number = At(at + p * c + k * kPanel + v);
          sum += number * number;
        }
        At(squares + part * wide + p + v) = sum;
      }
  });
  ForEach(pool, Ceil(n, block), [&](int64_t item) {
    const int64_t first = item * block, count = std::min(block, n - first);
    float* products = of_item.Get(kRows * kPanel + block);
    float* own = products + kRows * kPanel;  // squares of x
    for (int64_t part = 0; part < pairs.parts; ++part) {
      const float* rows = x + (part * n + first) * c;
      for (int64_t r = 0; r < count; ++r) {
        float sum = 0.0f;
        for (int64_t k = 0; k < c; ++k) sum += rows[r * c + k] * rows[r * c + k];
        own[r] = sum;
      }
      for (int64_t p = 0; p < m; p += kPanel)
        InParts(count, [&](int64_t r, int64_t size) {
          Rows(size)(rows + r * c, 0, c, panels + part * c * wide + p * c, 1, c, products, kPanel);
          for (int64_t i = 0; i < size; ++i)
            for (int64_t v = 0; v < std::min(kPanel, m - p); v += kLanes) {
              Vector sum = At(products + i * kPanel + v);
              if (euclidean) {
                sum = own[r + i] + At(squares + part * wide + p + v) - 2.0f * sum;
                // Rounding can leave it below zero; NaN stays.
                sum = Root(sum < 0.0f ? Vector{} : sum);
              }
              float* at = to + (first + r + i) * m + p + v;
              const int64_t left = m - p - v;
              if (part > 0) sum += Part(at, left);
              SetPart(at, sum, left);
            }
        });
    }
  });
}

}  // namespace

#endif
