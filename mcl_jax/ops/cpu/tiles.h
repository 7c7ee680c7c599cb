// Convolutions with a 3×3 kernel and stride 1, by Winograd's algorithm.

#ifndef MCL_JAX_NATIVE_TILES_H_
#define MCL_JAX_NATIVE_TILES_H_

#include <algorithm>
#include <cstdint>

#include "groups.h"
#include "images.h"
#include "products.h"
#include "threads.h"
#include "transforms.h"

namespace {

constexpr int64_t kChannels = 128;  // output channels that are transformed back together

// Applies a 1-D transform to the columns and then to the rows of `from` × `from` vectors.
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

// Writes size × size vectors, one to each plane.
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

// Divides images into tiles, in order.
struct Tiling {
  int64_t down, across;
  explicit Tiling(const Images& images) : down(Ceil(images.h, kOut)), across(Ceil(images.w, kOut)) {}
  int64_t each() const { return down * across; }
  int64_t image(int64_t tile) const { return tile / each(); }
  int64_t top(int64_t tile) const { return tile % each() / across * kOut; }
  int64_t left(int64_t tile) const { return tile % across * kOut; }
};

// Transforms the input of a tile; `zeros` replaces pixels outside the images.
void TransformInput(const float* x, const Images& in, const Tiling& tiling, int64_t tile, const float* zeros,
                    float* to, int64_t plane) {
  const int64_t image = tiling.image(tile), top = tiling.top(tile) - 1, left = tiling.left(tile) - 1;
  const float* pixels[kIn][kIn];
  for (int64_t i = 0; i < kIn; ++i)
    for (int64_t j = 0; j < kIn; ++j) {
      const bool inside = top + i >= 0 && top + i < in.h && left + j >= 0 && left + j < in.w;
      pixels[i][j] = inside ? x + ((image * in.h + top + i) * in.w + left + j) * in.c : zeros;
    }
  for (int64_t c = 0; c < in.c; c += kLanes) {
    Vector seen[kIn][kIn], transformed[kIn][kIn];
#pragma GCC unroll 6
    for (int i = 0; i < kIn; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < kIn; ++j) seen[i][j] = At(pixels[i][j] + c);
    InTwoDimensions(Input, seen, transformed);
    ToPlanes(transformed, to + c, plane);
  }
}

// Transforms d channels of a tile's products, starting at channel `first`, into its outputs.
void TransformOutput(const float* products, int64_t plane, const Images& out, const Tiling& tiling,
                     int64_t tile, int64_t first, int64_t d, const Finish& finish, float* y) {
  const int64_t top = tiling.top(tile), left = tiling.left(tile);
  const int64_t tile_at = ((tiling.image(tile) * out.h + top) * out.w + left) * out.c + first;
  const int64_t rows = std::min<int64_t>(kOut, out.h - top), columns = std::min<int64_t>(kOut, out.w - left);
  for (int64_t c = 0; c < d; c += kLanes) {
    Vector sums[kIn][kIn], outputs[kOut][kOut];
    FromPlanes(products + c, plane, sums);
    InTwoDimensions(Output, sums, outputs);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t at = tile_at + (i * out.w + j) * out.c + c;
        At(y + at) = finish(outputs[i][j], at, first + c);
      }
  }
}

// Transforms channels [p, p + kPanel) of a kernel [3, 3, c, d] into panels [c, kPanel], one for each plane.
void TransformKernel(const float* kernel, int64_t c, int64_t d, int64_t p, float* to, int64_t plane) {
  for (int64_t k = 0; k < c; ++k)
    for (int64_t v = 0; v < kPanel; v += kLanes) {
      Vector weights[3][3], transformed[kIn][kIn];
      FromPlanes(kernel + k * d + p + v, c * d, weights);
      InTwoDimensions(Kernel, weights, transformed);
      ToPlanes(transformed, to + k * kPanel + v, plane);
    }
}

// Number of tiles that are transformed together: more if there are more weights, so that these are fetched
// from memory less often, and fewer if threads would be idle. It does not change results.
int64_t TilesAtOnce(const ffi::ThreadPool& pool, int64_t channels, int64_t tiles) {
  const int64_t most = kRows * Ceil(channels, 64);
  const int64_t fair = Ceil(Ceil(tiles, std::max<int64_t>(pool.num_threads(), 1)), kRows) * kRows;
  return std::min(most, fair);
}

void ConvolveByTiles(ffi::ThreadPool& pool, const float* x, Images in, const float* kernel, float* y,
                     Images out, Finish finish) {
  constexpr int64_t planes = kIn * kIn;
  const Tiling tiling(in);
  const int64_t kernel_plane = in.c * out.c, tiles = in.n * tiling.each();
  float* weights = of_call.Get(planes * kernel_plane);  // [planes, d / kPanel, c, kPanel]
  ForEach(pool, out.c / kPanel, [&](int64_t p) {
    TransformKernel(kernel, in.c, out.c, p * kPanel, weights + p * in.c * kPanel, kernel_plane);
  });
  const int64_t block = TilesAtOnce(pool, in.c, tiles);
  const int64_t row = in.c + 16;  // rows of 2^n numbers would compete for the same cache lines
  const int64_t channels = std::min(out.c, kChannels), product_row = channels + 16;
  const int64_t plane = block * row, product_plane = block * product_row;
  ForEach(pool, Ceil(tiles, block), [&](int64_t item) {
    const int64_t first = item * block, count = std::min(block, tiles - first);
    float* zeros = of_item.Get(in.c + planes * (plane + product_plane));
    float* transformed = zeros + in.c;
    float* products = transformed + planes * plane;
    std::fill(zeros, zeros + in.c, 0.0f);
    for (int64_t t = 0; t < count; ++t)
      TransformInput(x, in, tiling, first + t, zeros, transformed + t * row, plane);
    for (int64_t d = 0; d < out.c; d += channels) {
      const int64_t these = std::min(channels, out.c - d);
      for (int64_t i = 0; i < planes; ++i)
        for (int64_t p = 0; p < these; p += kPanel)
          InParts(count, [&](int64_t t, int64_t rows) {
            Rows(rows)(transformed + i * plane + t * row, 0, row, weights + i * kernel_plane + (d + p) * in.c,
                       1, in.c, products + i * product_plane + t * product_row + p, product_row);
          });
      for (int64_t t = 0; t < count; ++t)
        TransformOutput(products + t * product_row, product_plane, out, tiling, first + t, d, these, finish,
                        y);
    }
  });
}

// Transforms the gradient of a tile's outputs into panels [panels, count, kPanel] of each plane, for d
// channels starting at `first`.
void TransformGradient(const float* g, const Images& out, const Tiling& tiling, int64_t tile, int64_t first,
                       int64_t d, float* to, int64_t panel, int64_t plane) {
  const int64_t top = tiling.top(tile), left = tiling.left(tile);
  const float* tile_at = g + ((tiling.image(tile) * out.h + top) * out.w + left) * out.c + first;
  const int64_t rows = std::min<int64_t>(kOut, out.h - top), columns = std::min<int64_t>(kOut, out.w - left);
  for (int64_t c = 0; c < d; c += kLanes) {
    Vector gradient[kOut][kOut] = {}, transformed[kIn][kIn];
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) gradient[i][j] = At(tile_at + (i * out.w + j) * out.c + c);
    InTwoDimensions(Gradient, gradient, transformed);
    ToPlanes(transformed, to + c / kPanel * panel + c % kPanel, plane);
  }
}

void KernelGradientByTiles(ffi::ThreadPool& pool, const float* x, Images in, const float* g, Images out,
                           float* to) {
  constexpr int64_t planes = kIn * kIn, block = 8 * kRows;
  const Tiling tiling(in);
  const int64_t panels = out.c / kPanel, kernel_plane = in.c * out.c, size = planes * kernel_plane;
  const int64_t groups = Groups(in.n, size), parts = PanelParts(pool, groups, panels);
  float* all_sums = of_call.Get(groups * size);  // [groups, planes, panels, c, kPanel]
  const int64_t row = in.c + 16;
  ForEach(pool, groups * parts, [&](int64_t item) {
    const int64_t group = item / parts, part = item % parts;
    const int64_t first = panels * part / parts, last = panels * (part + 1) / parts;
    const int64_t d = (last - first) * kPanel;
    float* sums = all_sums + group * size;
    for (int64_t i = 0; i < planes; ++i)
      std::fill(sums + i * kernel_plane + first * in.c * kPanel,
                sums + i * kernel_plane + last * in.c * kPanel, 0.0f);
    float* zeros = of_item.Get(in.c + planes * block * (row + d));
    float* inputs = zeros + in.c;                      // [planes, block, row]
    float* gradients = inputs + planes * block * row;  // [planes, panels, block, kPanel]
    std::fill(zeros, zeros + in.c, 0.0f);
    const int64_t end = in.n * (group + 1) / groups * tiling.each();
    for (int64_t tile = in.n * group / groups * tiling.each(); tile < end; tile += block) {
      const int64_t count = std::min(block, end - tile);
      for (int64_t t = 0; t < count; ++t) {
        TransformInput(x, in, tiling, tile + t, zeros, inputs + t * row, block * row);
        TransformGradient(g, out, tiling, tile + t, first * kPanel, d, gradients + t * kPanel, block * kPanel,
                          block * d);
      }
      for (int64_t i = 0; i < planes; ++i)
        for (int64_t p = first; p < last; ++p)
          InParts(in.c, [&](int64_t c, int64_t rows) {
            TransposedRows(rows)(inputs + i * block * row + c, 0, row,
                                 gradients + (i * d + (p - first) * kPanel) * block, 0, kPanel, 1, count,
                                 sums + i * kernel_plane + (p * in.c + c) * kPanel);
          });
    }
  });
  ForEach(pool, panels, [&](int64_t p) {
    for (int64_t c = 0; c < in.c; ++c)
      for (int64_t v = 0; v < kPanel; v += kLanes) {
        Vector sums[kIn][kIn] = {}, gradient[3][3];
        for (int64_t group = 0; group < groups; ++group) {
          Vector of_group[kIn][kIn];
          FromPlanes(all_sums + group * size + (p * in.c + c) * kPanel + v, kernel_plane, of_group);
          for (int i = 0; i < kIn; ++i)
            for (int j = 0; j < kIn; ++j) sums[i][j] += of_group[i][j];
        }
        InTwoDimensions(KernelBack, sums, gradient);
        ToPlanes(gradient, to + c * out.c + p * kPanel + v, in.c * out.c);
      }
  });
}

}  // namespace

#endif
