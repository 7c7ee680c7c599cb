// Divides the gradient of a kernel, which is a sum over images, among threads.

#ifndef MCL_JAX_NATIVE_GROUPS_H_
#define MCL_JAX_NATIVE_GROUPS_H_

#include <algorithm>
#include <cstdint>

#include "products.h"
#include "threads.h"

namespace {

// Number of groups of images; it depends only on the shape. One thread sums each group.
int64_t Groups(int64_t images, int64_t floats) {
  const int64_t most = int64_t{1} << 22;  // 16 MB
  return std::max<int64_t>(1, std::min({images, int64_t{8}, most / floats}));
}

// Number of parts of the output channels, chosen so that all threads have work.
int64_t PanelParts(ffi::ThreadPool& pool, int64_t groups, int64_t panels) {
  return std::clamp<int64_t>(Ceil(pool.num_threads(), groups), 1, panels);
}

}  // namespace

#endif
