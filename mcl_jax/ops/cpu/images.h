// Images, parts of them, and kernels.

#ifndef MCL_JAX_NATIVE_IMAGES_H_
#define MCL_JAX_NATIVE_IMAGES_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "products.h"

namespace {

constexpr int64_t kBand = 8;      // max. output rows that are computed together
constexpr int64_t kColumns = 56;  // max. output columns that are computed together

struct Images {
  int64_t n, h, w, c;
  int64_t size() const { return h * w * c; }
};

// Turns a sum into an output: adds bias and residual, if any, and multiplies negative results by the slope.
struct Finish {
  const float* bias;
  const float* residual;
  float slope;

  // `at` is the position in the output, d the first channel, and `count` the number of channels.
  inline Vector operator()(Vector sum, int64_t at, int64_t d, int64_t count = kLanes) const {
    if (bias != nullptr) sum += Part(bias + d, count);
    if (residual != nullptr) sum += Part(residual + at, count);
    if (slope == 1.0f) return sum;
    // Written so that NaN is kept, and because 0 · −∞ would be NaN.
    if (slope == 0.0f) return sum <= 0.0f ? Vector{} : sum;
    return sum <= 0.0f ? slope * sum : sum;
  }
};

// Copies rows [top, top + rows) and columns [left, left + columns) of an image; zeros outside the image.
void Cut(const float* image, const Images& of, int64_t top, int64_t left, int64_t rows, int64_t columns,
         float* to) {
  const int64_t first = std::clamp<int64_t>(-left, 0, columns),
                last = std::clamp<int64_t>(of.w - left, first, columns);
  for (int64_t y = 0; y < rows; ++y, to += columns * of.c) {
    if (top + y < 0 || top + y >= of.h) {
      std::fill(to, to + columns * of.c, 0.0f);
      continue;
    }
    std::fill(to, to + first * of.c, 0.0f);
    std::memcpy(to + first * of.c, image + ((top + y) * of.w + left + first) * of.c,
                (last - first) * of.c * sizeof(float));
    std::fill(to + last * of.c, to + columns * of.c, 0.0f);
  }
}

// Number of output channels of a product: those of one vector if there are no more.
inline int64_t PanelFor(int64_t channels) { return channels <= kLanes ? kLanes : kPanel; }

// Number of channels, rounded up to whole panels.
inline int64_t Widened(int64_t channels, int64_t panel = kPanel) { return Ceil(channels, panel) * panel; }

// Writes a matrix [depth, d] as panels [panels, depth, panel]; the last one is padded with zeros.
void ToPanels(const float* matrix, int64_t depth, int64_t d, float* panels, int64_t panel = kPanel) {
  for (int64_t p = 0; p < d; p += panel)
    for (int64_t k = 0; k < depth; ++k, panels += panel) {
      const int64_t count = std::min(panel, d - p);
      std::memcpy(panels, matrix + k * d + p, count * sizeof(float));
      std::fill(panels + count, panels + panel, 0.0f);
    }
}

// Divides an output into bands: rows and columns of one image.
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
    return {i / across() / down(), top, h * (row + 1) / down() - top, left,
            w * (column + 1) / across() - left};
  }
};

struct Window {
  int64_t kh, kw, stride, top, left;  // size, stride, and the zeros above and to the left
};

// The part of the padded input that a band needs.
struct Seen {
  int64_t top, left, rows, columns;
  Seen(const Band& band, const Window& k)
      : top(band.top * k.stride - k.top),
        left(band.left * k.stride - k.left),
        rows((band.rows - 1) * k.stride + k.kh),
        columns((band.columns - 1) * k.stride + k.kw) {}
};

}  // namespace

#endif
