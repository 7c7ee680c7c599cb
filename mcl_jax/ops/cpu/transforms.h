// Winograd's transforms (Lavin & Gray 2016, arXiv:1509.09308).

#ifndef MCL_JAX_NATIVE_TRANSFORMS_H_
#define MCL_JAX_NATIVE_TRANSFORMS_H_

#include <cstdint>

#include "products.h"

namespace {

// The 1-D transforms of F(4, 3): Aᵀ[(G w) ⊙ (Bᵀ x)] are four outputs of six inputs x and three weights w.
// They use the points 0, ±1/√2, ±√2 and ∞, whose rounding errors are a quarter of those of the usual points
// 0, ±1, ±2 and ∞.
constexpr int kOut = 4, kIn = 6;
constexpr float kSmall = 0.70710678f, kLarge = 1.41421356f;

// Bᵀ applied to six inputs.
inline void Input(const Vector* x, Vector* y) {
  const Vector a = x[4] - 2.0f * x[2], b = kSmall * (x[3] - 2.0f * x[1]);
  const Vector c = x[4] - 0.5f * x[2], d = kLarge * (x[3] - 0.5f * x[1]);
  y[0] = x[0] - 2.5f * x[2] + x[4];
  y[1] = a + b;
  y[2] = a - b;
  y[3] = c + d;
  y[4] = c - d;
  y[5] = x[1] - 2.5f * x[3] + x[5];
}

// G applied to three weights.
inline void Kernel(const Vector* x, Vector* y) {
  const Vector a = (-2.0f / 3.0f) * (x[0] + 0.5f * x[2]), b = (-2.0f / 3.0f * kSmall) * x[1];
  const Vector c = (1.0f / 6.0f) * (x[0] + 2.0f * x[2]), d = (1.0f / 6.0f * kLarge) * x[1];
  y[0] = x[0];
  y[1] = a + b;
  y[2] = a - b;
  y[3] = c + d;
  y[4] = c - d;
  y[5] = x[2];
}

// Aᵀ: gives four outputs.
inline void Output(const Vector* x, Vector* y) {
  const Vector a = x[1] + x[2], b = x[1] - x[2], c = x[3] + x[4], d = x[3] - x[4];
  y[0] = x[0] + a + c;
  y[1] = kSmall * b + kLarge * d;
  y[2] = 0.5f * a + 2.0f * c;
  y[3] = 0.5f * kSmall * b + 2.0f * kLarge * d + x[5];
}

// A applied to the gradient of four outputs.
inline void Gradient(const Vector* x, Vector* y) {
  const Vector a = x[0] + 0.5f * x[2], b = kSmall * (x[1] + 0.5f * x[3]);
  const Vector c = x[0] + 2.0f * x[2], d = kLarge * (x[1] + 2.0f * x[3]);
  y[0] = x[0];
  y[1] = a + b;
  y[2] = a - b;
  y[3] = c + d;
  y[4] = c - d;
  y[5] = x[3];
}

// Gᵀ: gives the gradient of three weights.
inline void KernelBack(const Vector* x, Vector* y) {
  const Vector a = (-2.0f / 3.0f) * (x[1] + x[2]), b = (-2.0f / 3.0f * kSmall) * (x[1] - x[2]);
  const Vector c = (1.0f / 6.0f) * (x[3] + x[4]), d = (1.0f / 6.0f * kLarge) * (x[3] - x[4]);
  y[0] = x[0] + a + c;
  y[1] = b + d;
  y[2] = 0.5f * a + 2.0f * c + x[5];
}

}  // namespace

#endif
