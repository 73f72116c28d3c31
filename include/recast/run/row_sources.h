#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "recast/train/learn.h"

namespace recast {

/// Rows of features in memory, which enter at the feature slot: the backbone is not run. Batches: "features" [B, D]
/// fp32, "label" int64 [B], "sample" int64 [B]. Nothing is augmented: the images are not here any more.
class FeatureSource final : public Source {
 public:
  /// features [n, D] fp32, labels [n] int64, samples [n] int64: kept, not copied. Throws kShapeMismatch.
  FeatureSource(at::Tensor features, at::Tensor labels, at::Tensor samples);
  std::int64_t rows() const override { return labels_.size(0); }
  std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                    Key key) const override;
  /// A row is small and costs no forward pass.
  std::int64_t plain_batch() const override { return 4096; }

 private:
  at::Tensor features_, labels_, samples_;
};

/// Some rows of a source, in the order given.
class ChosenRows final : public Source {
 public:
  struct Labels {
    std::int64_t first = 0;  ///< taken off each label
    bool shown = true;       ///< false: batches have no "label"
  };
  /// Throws kInvalidArgument for a row that is not there.
  ChosenRows(std::shared_ptr<const Source> source, std::vector<std::int64_t> rows, Labels labels);
  ChosenRows(std::shared_ptr<const Source> source, std::vector<std::int64_t> rows)
      : ChosenRows(std::move(source), std::move(rows), Labels()) {}
  std::int64_t rows() const override { return static_cast<std::int64_t>(rows_.size()); }
  std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                    Key key) const override;
  std::int64_t plain_batch() const override { return source_->plain_batch(); }

 private:
  std::shared_ptr<const Source> source_;
  std::vector<std::int64_t> rows_;
  Labels labels_;
};

}  // namespace recast
