#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "recast/base/key.h"
#include "recast/data/augment.h"
#include "recast/data/dataset.h"
#include "recast/data/preprocess.h"

namespace recast {

/// One split's images as evaluation_pixels(), decoded on first use and kept in memory up to `max_bytes`; images beyond
/// that are decoded again each time. The dataset must outlive it.
/// Threads  all calls may run in parallel; two that ask for the same new image both decode it.
class Pixels {
 public:
  static constexpr std::int64_t kDefaultCacheBytes = 2ll << 30;

  /// Throws kInvalidArgument for bad `preprocessing`.
  Pixels(const Dataset& dataset, Split split, Preprocessing preprocessing, std::int64_t max_bytes = kDefaultCacheBytes);
  ~Pixels();

  /// uint8 [3, S, S]; shared with the cache, so do not write to it. Throws what Dataset::image() throws.
  at::Tensor pixels(std::int64_t row) const;

  std::int64_t size() const { return static_cast<std::int64_t>(dataset_.examples(split_).size()); }
  std::int64_t label(std::int64_t row) const { return dataset_.examples(split_).at(row).label; }
  const Preprocessing& preprocessing() const { return preprocessing_; }
  /// Bytes of pixels held now.
  std::int64_t cached_bytes() const;

 private:
  const Dataset& dataset_;
  const Split split_;
  const Preprocessing preprocessing_;
  struct Cache;
  std::unique_ptr<Cache> cache_;
};

struct LoadedBatch {
  at::Tensor pixels;               ///< uint8 [B, 3, S, S], contiguous
  at::Tensor labels;               ///< int64 [B]
  std::vector<std::int64_t> rows;  ///< [B] rows of the split
};

struct LoaderOptions {
  std::int64_t batch_size = 64;
  int threads = 2;   ///< workers, kMostReaders at most; 0 loads inside next()
  int prefetch = 4;  ///< batches ready or in work ahead of next(), at least 1
  Augmentation augmentation = {};
};

/// Walks `rows` of a split once, in batches, in their order; the last batch may be short. The augmentation of a row
/// depends on `key` and the row number alone, so neither batch size, threads nor order change an image: pass a key that
/// was folded with the epoch. The workers are one-threaded in libtorch and stop in the destructor.
/// Threads  next() is for one caller at a time. `pixels` must outlive the loader.
class Loader {
 public:
  /// Throws kInvalidArgument for options or rows out of range.
  Loader(const Pixels& pixels, std::vector<std::int64_t> rows, const LoaderOptions& options, const Key& key);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch, or nothing after the last. Rethrows what a worker met at the batch where it met it; after a throw
  /// the loader is at its end.
  std::optional<LoadedBatch> next();
  std::int64_t batches() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace recast
