#include "recast/data/loader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <variant>

#include "recast/base/error.h"
#include "recast/data/visit_rows.h"
#include "worker_threads.h"

namespace recast {

struct Pixels::Cache {
  const std::int64_t max_bytes;
  mutable std::mutex mutex;
  std::vector<at::Tensor> images;  // guarded by mutex, as is all below
  std::int64_t bytes = 0;
};

Pixels::Pixels(const Dataset& dataset, Split split, Preprocessing preprocessing, std::int64_t max_bytes)
    : dataset_(dataset),
      split_(split),
      preprocessing_(std::move(preprocessing)),
      cache_(new Cache{max_bytes, {}, std::vector<at::Tensor>(dataset.examples(split).size())}) {
  check(preprocessing_);
}

Pixels::~Pixels() = default;

at::Tensor Pixels::pixels(std::int64_t row) const {
  {
    std::lock_guard lock(cache_->mutex);
    if (const auto& held = cache_->images.at(static_cast<std::size_t>(row)); held.defined()) return held;
  }
  at::Tensor image = evaluation_pixels(dataset_.image(split_, row), preprocessing_);
  std::lock_guard lock(cache_->mutex);
  auto& held = cache_->images[static_cast<std::size_t>(row)];
  const auto bytes = static_cast<std::int64_t>(image.nbytes());
  if (!held.defined() && cache_->bytes + bytes <= cache_->max_bytes) {
    held = image;
    cache_->bytes += bytes;
  }
  return image;
}

std::int64_t Pixels::cached_bytes() const {
  std::lock_guard lock(cache_->mutex);
  return cache_->bytes;
}

struct Loader::Impl {
  using Outcome = std::variant<LoadedBatch, std::exception_ptr>;

  Impl(const Pixels& pixels, std::vector<std::int64_t> all_rows, const LoaderOptions& options, const Key& key)
      : source(pixels),
        rows(std::move(all_rows)),
        options(options),
        key(key),
        batches((static_cast<std::int64_t>(rows.size()) + options.batch_size - 1) / options.batch_size) {}

  ~Impl() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    for (auto& worker : workers) worker.join();
  }

  void start() {
    settle_threads();
    for (int i = 0; i < std::min(options.threads, kMostReaders); ++i) workers.emplace_back([this] { work(); });
  }

  LoadedBatch load(std::int64_t batch) const {
    const auto begin = rows.begin() + batch * options.batch_size;
    const auto end = rows.begin() + std::min((batch + 1) * options.batch_size, static_cast<std::int64_t>(rows.size()));
    LoadedBatch out;
    out.rows.assign(begin, end);
    std::vector<at::Tensor> images;
    std::vector<std::int64_t> labels;
    for (const auto row : out.rows) {
      images.push_back(augment(source.pixels(row), options.augmentation, key.fold("augment", row)));
      labels.push_back(source.label(row));
    }
    out.pixels = at::stack(images);
    out.labels = at::tensor(labels, at::kLong);
    return out;
  }

  Outcome attempt(std::int64_t batch) const {
    try {
      return load(batch);
    } catch (...) {
      return std::current_exception();
    }
  }

  void work() {
    own_threads(1);  // else each worker builds a team of its own
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return stopping || started >= batches || started < given + options.prefetch; });
      if (stopping || started >= batches) return;
      const auto batch = started++;
      lock.unlock();
      Outcome outcome = attempt(batch);
      lock.lock();
      ready.emplace(batch, std::move(outcome));
      changed.notify_all();
    }
  }

  Outcome take() {
    if (options.threads == 0) return attempt(given++);
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return ready.count(given) > 0; });
    auto node = ready.extract(given++);
    changed.notify_all();
    return std::move(node.mapped());
  }

  std::optional<LoadedBatch> next() {
    if (given >= batches) return std::nullopt;
    Outcome outcome = take();
    if (auto* batch = std::get_if<LoadedBatch>(&outcome)) return std::move(*batch);
    {
      std::lock_guard lock(mutex);
      stopping = true;
      given = batches;
    }
    changed.notify_all();
    std::rethrow_exception(std::get<std::exception_ptr>(outcome));
  }

  const Pixels& source;
  const std::vector<std::int64_t> rows;
  const LoaderOptions options;
  const Key key;
  const std::int64_t batches;

  std::mutex mutex;  // guards all below; only next() writes `given`, so next() may read it without
  std::condition_variable changed;
  std::map<std::int64_t, Outcome> ready;
  std::int64_t started = 0, given = 0;
  bool stopping = false;
  std::vector<std::thread> workers;
};

Loader::Loader(const Pixels& pixels, std::vector<std::int64_t> rows, const LoaderOptions& options, const Key& key) {
  if (options.batch_size < 1 || options.threads < 0 || options.prefetch < 1) {
    fail(Code::kInvalidArgument,
         "[data] loading takes batch size 1 or more, threads 0 or more and prefetch 1 or more, "
         "got {}, {}, {}",
         options.batch_size, options.threads, options.prefetch);
  }
  for (const auto row : rows) {
    if (row < 0 || row >= pixels.size()) {
      fail(Code::kInvalidArgument, "[data] row {} is not in a split of {}", row, pixels.size());
    }
  }
  impl_ = std::make_unique<Impl>(pixels, std::move(rows), options, key);
  impl_->start();
}

Loader::~Loader() = default;

std::optional<LoadedBatch> Loader::next() { return impl_->next(); }

std::int64_t Loader::batches() const { return impl_->batches; }

}  // namespace recast
