// Convolutions with any kernel and stride.

#ifndef MCL_JAX_NATIVE_DIRECT_H_
#define MCL_JAX_NATIVE_DIRECT_H_

#include <algorithm>
#include <cstdint>

#include "groups.h"
#include "images.h"
#include "products.h"
#include "threads.h"

namespace {

// The pixels and channels under one row of the kernel are contiguous in the image, so each row of the kernel
// is one product over kw · c numbers.
void ConvolveDirectly(ffi::ThreadPool& pool, const float* x, Images in, const float* kernel, Window k,
                      float* y, Images out, Finish finish) {
  const int64_t depth = k.kw * in.c, panel = PanelFor(out.c);
  float* panels = of_call.Get(k.kh * depth * Widened(out.c, panel));
  ToPanels(kernel, k.kh * depth, out.c, panels, panel);
  const Bands bands{out.n, out.h, out.w};
  ForEach(pool, bands.count(), [&](int64_t i) {
    const Band band = bands[i];
    const Seen seen(band, k);
    float* cut = of_item.Get(seen.rows * seen.columns * in.c + kRows * panel);
    float* sums = cut + seen.rows * seen.columns * in.c;
    Cut(x + band.image * in.size(), in, seen.top, seen.left, seen.rows, seen.columns, cut);
    for (int64_t p = 0; p < out.c; p += panel)
      for (int64_t row = 0; row < band.rows; ++row)
        InParts(band.columns, [&](int64_t column, int64_t pixels) {
          Rows(pixels, panel)(cut + (row * seen.columns + column) * k.stride * in.c, seen.columns * in.c,
                              k.stride * in.c, panels + p * k.kh * depth, k.kh, depth, sums, panel);
          const int64_t at = ((band.image * out.h + band.top + row) * out.w + band.left + column) * out.c + p;
          for (int64_t r = 0; r < pixels; ++r)
            for (int64_t v = 0; v < std::min(panel, out.c - p); v += kLanes) {
              const int64_t here = at + r * out.c + v, count = out.c - p - v;
              SetPart(y + here, finish(At(sums + r * panel + v), here, p + v, count), count);
            }
        });
  });
}

// Copies a band's pixels of c numbers, each padded with zeros to `wide`; returns the copy.
const float* Copy(const float* from, const Band& band, int64_t row_step, int64_t c, int64_t wide, float* to) {
  for (int64_t pixel = 0; pixel < band.rows * band.columns; ++pixel) {
    const int64_t row = pixel / band.columns, column = pixel % band.columns;
    float* end = std::copy_n(from + row * row_step + column * c, c, to + pixel * wide);
    std::fill(end, to + (pixel + 1) * wide, 0.0f);
  }
  return to;
}

// Writes the gradient [kh · kw · c, d] of a kernel.
void KernelGradientDirectly(ffi::ThreadPool& pool, const float* x, Images in, const float* g, Images out,
                            Window k, float* to) {
  const int64_t depth = k.kw * in.c, panel = PanelFor(out.c), wide = Widened(out.c, panel);
  const int64_t size = k.kh * depth * wide, panels = wide / panel;
  const int64_t groups = Groups(in.n, size), parts = PanelParts(pool, groups, panels);
  float* all_sums = of_call.Get(groups * size);  // [groups, panels, kh, depth, panel]
  const Bands bands{out.n, out.h, out.w};
  const int64_t each = bands.count() / out.n;
  ForEach(pool, groups * parts, [&](int64_t item) {
    const int64_t group = item / parts, part = item % parts;
    const int64_t first = panels * part / parts, last = panels * (part + 1) / parts;
    float* sums = all_sums + group * size;
    std::fill(sums + first * k.kh * depth * panel, sums + last * k.kh * depth * panel, 0.0f);
    for (int64_t i = in.n * group / groups * each; i < in.n * (group + 1) / groups * each; ++i) {
      const Band band = bands[i];
      const Seen seen(band, k);
      const int64_t begin = (band.image * out.h + band.top) * out.w + band.left;
      const int64_t end = begin + (band.rows - 1) * out.w + band.columns;  // pixels
      float* cut = of_item.Get(seen.rows * seen.columns * in.c + band.rows * band.columns * wide);
      Cut(x + band.image * in.size(), in, seen.top, seen.left, seen.rows, seen.columns, cut);
      const float* gradient = g + begin * out.c;
      int64_t row_step = out.w * out.c, step = out.c;
      // A pixel's vector may reach into the next pixels (those sums are ignored), but not beyond the last.
      if ((out.n * out.h * out.w - end + 1) * out.c < wide) {
        gradient = Copy(gradient, band, row_step, out.c, wide, cut + seen.rows * seen.columns * in.c);
        row_step = band.columns * wide, step = wide;
      }
      for (int64_t p = first; p < last; ++p)
        for (int64_t row = 0; row < k.kh; ++row)
          InParts(depth, [&](int64_t from, int64_t rows) {
            TransposedRows(rows, panel)(cut + row * seen.columns * in.c + from,
                                        k.stride * seen.columns * in.c, k.stride * in.c, gradient + p * panel,
                                        row_step, step, band.rows, band.columns,
                                        sums + ((p * k.kh + row) * depth + from) * panel);
          });
    }
  });
  ForEach(pool, panels, [&](int64_t p) {
    for (int64_t row = 0; row < k.kh * depth; ++row)
      for (int64_t v = 0; v < std::min(panel, out.c - p * panel); v += kLanes) {
        Vector sum = {};
        for (int64_t group = 0; group < groups; ++group)
          sum += At(all_sums + group * size + (p * k.kh * depth + row) * panel + v);
        SetPart(to + row * out.c + p * panel + v, sum, out.c - p * panel - v);
      }
  });
}

}  // namespace

#endif
