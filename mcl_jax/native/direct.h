// Convolutions with any kernel and stride.

#ifndef MCL_JAX_NATIVE_DIRECT_H_
#define MCL_JAX_NATIVE_DIRECT_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "groups.h"
#include "images.h"
#include "products.h"
#include "threads.h"

namespace {

// A row of the kernel and all channels lie one behind the other in an image too, so that each row of the
// kernel is one product over kw · c numbers.
void ConvolveDirectly(ffi::ThreadPool& pool, const float* x, Images in, const float* kernel, Window k,
                      float* y, Images out, Finish finish) {
  const int64_t depth = k.kw * in.c;
  float* panels = of_call.Get(k.kh * depth * Widened(out.c));
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
            for (int64_t v = 0; v < std::min(kPanel, out.c - p); v += kLanes) {
              const int64_t here = at + r * out.c + v, count = out.c - p - v;
              SetPart(y + here, finish(At(sums + r * kPanel + v), here, p + v, count), count);
            }
        });
  });
}

// Writes the gradient [kh · kw · c, d] of a kernel.
void KernelGradientDirectly(ffi::ThreadPool& pool, const float* x, Images in, const float* g, Images out,
                            Window k, float* to) {
  const int64_t depth = k.kw * in.c, wide = Widened(out.c), size = k.kh * depth * wide,
                panels = wide / kPanel;
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
      float* cut = of_item.Get(seen.rows * seen.columns * in.c + band.rows * band.columns * wide);
      float* gradient = cut + seen.rows * seen.columns * in.c;  // [rows, columns, wide]
      Cut(x + band.image * in.size(), in, seen.top, seen.left, seen.rows, seen.columns, cut);
      for (int64_t pixel = 0; pixel < band.rows * band.columns; ++pixel) {
        const int64_t row = band.top + pixel / band.columns, column = band.left + pixel % band.columns;
        std::memcpy(gradient + pixel * wide, g + ((band.image * out.h + row) * out.w + column) * out.c,
                    out.c * sizeof(float));
        std::fill(gradient + pixel * wide + out.c, gradient + (pixel + 1) * wide, 0.0f);
      }
      for (int64_t p = first; p < last; ++p)
        for (int64_t row = 0; row < k.kh; ++row)
          InParts(depth, [&](int64_t from, int64_t rows) {
            TransposedRows(rows, UpToRows())(cut + row * seen.columns * in.c + from,
                                             k.stride * seen.columns * in.c, k.stride * in.c,
                                             gradient + p * kPanel, band.columns * wide, wide, band.rows,
                                             band.columns, sums + ((p * k.kh + row) * depth + from) * kPanel);
          });
    }
  });
  ForEach(pool, panels, [&](int64_t p) {
    for (int64_t row = 0; row < k.kh * depth; ++row)
      for (int64_t v = 0; v < std::min(kPanel, out.c - p * kPanel); v += kLanes) {
        Vector sum = {};
        for (int64_t group = 0; group < groups; ++group)
          sum += At(all_sums + group * size + (p * k.kh * depth + row) * kPanel + v);
        SetPart(to + row * out.c + p * kPanel + v, sum, out.c - p * kPanel - v);
      }
  });
}

}  // namespace

#endif
