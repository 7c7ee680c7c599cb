// How the gradient of a kernel, a sum over images, is cut into sums of threads.

#ifndef MCL_JAX_NATIVE_GROUPS_H_
#define MCL_JAX_NATIVE_GROUPS_H_

#include <algorithm>
#include <cstdint>

#include "products.h"
#include "threads.h"

namespace {

// Images are summed in groups, whose number depends on the shape alone; each is summed by one thread.
int64_t Groups(int64_t images, int64_t floats) {
  const int64_t most = int64_t{1} << 22;  // 16 MB
  return std::max<int64_t>(1, std::min({images, int64_t{8}, most / floats}));
}

// How many parts the output channels are cut into, so that there is work for all threads.
int64_t PanelParts(ffi::ThreadPool& pool, int64_t groups, int64_t panels) {
  return std::clamp<int64_t>(Ceil(pool.num_threads(), groups), 1, panels);
}

}  // namespace

#endif
