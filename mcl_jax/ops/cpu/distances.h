// Distances between embeddings of several parts.

#ifndef MCL_JAX_NATIVE_DISTANCES_H_
#define MCL_JAX_NATIVE_DISTANCES_H_

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstdint>

#include "images.h"
#include "products.h"
#include "threads.h"

namespace {

inline Vector Root(Vector x) {
#if defined(__AVX512F__)
  // An estimate of 14 bits and one Newton step, correct to two units in the last place, because the exact
  // instruction takes as long as forty multiplications. Infinity becomes NaN.
  const Vector guess = x == 0.0f ? Vector{} : Vector(_mm512_rsqrt14_ps(__m512(x)));
  const Vector root = x * guess;
  return root * (1.5f - 0.5f * (root * guess));
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// Embeddings x [n, parts, c] and y [m, parts, c].
struct Pairs {
  int64_t parts, n, m, c;
};

// Writes |x|² of `count` vectors of c numbers, `step` apart. Numbers are summed in the same order as in the
// products, so that an embedding's distance to itself is exactly 0. Several sums run at once, because each
// addition waits for the previous one of its sum.
void Squares(const float* x, int64_t step, int64_t count, int64_t c, float* to) {
  constexpr int64_t together = 8;
  for (int64_t first = 0; first < count; first += together) {
    const int64_t size = std::min(together, count - first);
    float sums[together] = {};
    for (int64_t k = 0; k < c; ++k)
      for (int64_t r = 0; r < together; ++r) {
        const float number = x[(first + std::min(r, size - 1)) * step + k];
        sums[r] += number * number;
      }
    std::copy_n(sums, size, to + first);
  }
}

// Writes one part of up to kPanel embeddings, `step` apart, as a panel [c + 1, kPanel], padded with zeros;
// the last row has the squares |y|².
void ToPanel(const float* embeddings, int64_t step, int64_t count, int64_t c, float* panel) {
  if (count < kPanel) std::fill(panel, panel + (c + 1) * kPanel, 0.0f);
  for (int64_t j = 0; j < count; ++j)
    for (int64_t k = 0; k < c; ++k) panel[k * kPanel + j] = embeddings[j * step + k];
  Squares(embeddings, step, count, c, panel + c * kPanel);
}

// Writes Σ over parts of √(|x|² + |y|² − 2 x · y), or of x · y if not `euclidean`, as [n, m].
void SumDistances(ffi::ThreadPool& pool, const float* x, const float* y, Pairs pairs, bool euclidean,
                  float* to) {
  constexpr int64_t block = 12 * kRows;
  const int64_t n = pairs.n, m = pairs.m, c = pairs.c, step = pairs.parts * c;
  const int64_t across = Ceil(m, kPanel), size = (c + 1) * kPanel;  // of a panel and its squares
  float* panels = of_call.Get(pairs.parts * across * size);         // [parts, across, c + 1, kPanel]
  ForEach(pool, pairs.parts * across, [&](int64_t item) {
    const int64_t part = item / across, first = item % across * kPanel;
    ToPanel(y + first * step + part * c, step, std::min(kPanel, m - first), c, panels + item * size);
  });
  ForEach(pool, Ceil(n, block), [&](int64_t item) {
    const int64_t first = item * block, count = std::min(block, n - first);
    float* products = of_item.Get(kRows * kPanel + block * (c + 1));
    // Copies one part of x, because its rows in x would compete for the same cache lines.
    float* rows = products + kRows * kPanel;
    float* own = rows + block * c;  // their squares
    for (int64_t part = 0; part < pairs.parts; ++part) {
      for (int64_t r = 0; r < count; ++r) std::copy_n(x + (first + r) * step + part * c, c, rows + r * c);
      Squares(rows, c, count, c, own);
      for (int64_t p = 0; p < m; p += kPanel)
        InParts(count, [&](int64_t r, int64_t some) {
          const float* panel = panels + (part * across + p / kPanel) * size;
          Rows(some)(rows + r * c, 0, c, panel, 1, c, products, kPanel);
          for (int64_t i = 0; i < some; ++i)
            for (int64_t v = 0; v < std::min(kPanel, m - p); v += kLanes) {
              Vector sum = At(products + i * kPanel + v);
              if (euclidean) {
                sum = own[r + i] + At(panel + c * kPanel + v) - 2.0f * sum;
                // Rounding may make it negative; NaN is kept.
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
