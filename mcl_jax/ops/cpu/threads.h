// Memory and threads.

#ifndef MCL_JAX_NATIVE_THREADS_H_
#define MCL_JAX_NATIVE_THREADS_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <type_traits>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// Memory that a thread keeps between calls, because the first use of new pages is slow.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }

  float* Get(int64_t floats) {
    if (floats > size_) {
      std::free(data_);
      size_ = 0;
      data_ = static_cast<float*>(std::aligned_alloc(64, (floats + 15) / 16 * 64));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = floats;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  int64_t size_ = 0;
};

thread_local Scratch of_call, of_item;

// Runs work(0), …, work(count − 1) on all threads of the pool and returns when all are done. The caller works
// too, and never waits for a thread that has not started, so calls from threads of the pool cannot deadlock.
// If one runs out of memory, the others still run, and the caller gets std::bad_alloc.
template <typename Work>
void ForEach(ffi::ThreadPool& pool, int64_t count, const Work& work) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::atomic<bool> out_of_memory{false};
    std::mutex mutex;
    std::condition_variable all_done;
  };
  auto state = std::make_shared<State>();
  auto run = [state, count, &work] {
    for (int64_t i; (i = state->next.fetch_add(1)) < count;) {
      try {
        work(i);
      } catch (const std::bad_alloc&) {
        state->out_of_memory = true;
      }
      if (state->done.fetch_add(1) + 1 == count) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->all_done.notify_all();
      }
    }
  };
  for (int64_t i = 1; i < std::min(pool.num_threads(), count); ++i)
    pool.Schedule(std::decay_t<decltype(run)>(run));
  run();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done.load() == count; });
  if (state->out_of_memory) throw std::bad_alloc();
}

}  // namespace

#endif
