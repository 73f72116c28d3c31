#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "recast/data/loader.h"
#include "recast/train/learn.h"

namespace recast {

struct ImageSourceOptions {
  Augmentation augmentation;  ///< for streams that are opened augmented
  int threads = 2;            ///< of each open stream
  std::int64_t cache_bytes = Pixels::kDefaultCacheBytes;
  at::Device device = at::kCPU;              ///< where batches come out
  std::vector<std::int64_t> label_of_class;  ///< task's label for each class of the dataset; empty: the same
};

/// One split of a dataset as rows to learn from. Batches: "input" fp32 [B, 3, S, S] normalised, "label" int64 [B],
/// "sample" int64 [B] = row of the split.
class ImageSource : public Source {
 public:
  ImageSource(std::shared_ptr<const Dataset> dataset, Split split, const Preprocessing& preprocessing,
              ImageSourceOptions options);
  std::int64_t rows() const override { return pixels_.size(); }
  std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                    Key key) const override;
  /// Decodes every image once, into the cache as far as it reaches, so that a bad one shows before anything is learned.
  /// Throws what Pixels::pixels() throws; kCancelled when `stop` is set.
  void decode_all(const std::atomic<bool>* stop, Listener* listener) const;

 private:
  std::shared_ptr<const Dataset> dataset_;
  Pixels pixels_;
  ImageSourceOptions options_;
};

/// 0 .. rows-1.
std::vector<std::int64_t> all_rows(std::int64_t rows);

}  // namespace recast
