#include "recast/run/row_sources.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "recast/base/error.h"

namespace recast {
namespace {

class FeatureStream final : public BatchStream {
 public:
  FeatureStream(Fields columns, std::vector<std::int64_t> order, std::int64_t batch_size)
      : columns_(std::move(columns)),
        order_(at::tensor(order, at::kLong)),
        batch_size_(std::max<std::int64_t>(batch_size, 1)) {}

  std::optional<Batch> next() override {
    const std::int64_t left = order_.size(0) - done_;
    if (left <= 0) return {};
    const at::Tensor rows = order_.narrow(0, done_, std::min(left, batch_size_));
    done_ += rows.size(0);
    Batch batch{{}, rows.size(0)};
    for (const auto& [name, column] : columns_) batch.at[name] = column.index_select(0, rows);
    return batch;
  }

 private:
  Fields columns_;
  at::Tensor order_;
  std::int64_t batch_size_, done_ = 0;
};

class ChosenStream final : public BatchStream {
 public:
  ChosenStream(std::unique_ptr<BatchStream> rows, const ChosenRows::Labels& labels)
      : rows_(std::move(rows)), labels_(labels) {}

  std::optional<Batch> next() override {
    std::optional<Batch> batch = rows_->next();
    if (!batch) return batch;
    if (!labels_.shown)
      batch->at.erase("label");
    else if (labels_.first != 0)
      batch->at["label"] = batch->column("label") - labels_.first;
    return batch;
  }

 private:
  std::unique_ptr<BatchStream> rows_;
  ChosenRows::Labels labels_;
};

}  // namespace

FeatureSource::FeatureSource(at::Tensor features, at::Tensor labels, at::Tensor samples)
    : features_(std::move(features)), labels_(std::move(labels)), samples_(std::move(samples)) {
  const std::int64_t rows = labels_.dim() == 1 ? labels_.size(0) : -1;
  if (features_.dim() != 2 || features_.size(0) != rows || samples_.dim() != 1 || samples_.size(0) != rows)
    fail(Code::kShapeMismatch, "[data] features {}, labels {} and samples {} are not of the same rows",
         fmt::join(features_.sizes(), "x"), fmt::join(labels_.sizes(), "x"), fmt::join(samples_.sizes(), "x"));
}

std::unique_ptr<BatchStream> FeatureSource::open(std::vector<std::int64_t> order, std::int64_t batch_size, bool,
                                                 Key) const {
  Fields columns{{"features", features_}, {"label", labels_}, {"sample", samples_}};
  return std::make_unique<FeatureStream>(std::move(columns), std::move(order), batch_size);
}

ChosenRows::ChosenRows(std::shared_ptr<const Source> source, std::vector<std::int64_t> rows, Labels labels)
    : source_(std::move(source)), rows_(std::move(rows)), labels_(labels) {
  for (const std::int64_t row : rows_)
    if (row < 0 || row >= source_->rows())
      fail(Code::kInvalidArgument, "[data] row {} chosen from a source of {} rows", row, source_->rows());
}

std::unique_ptr<BatchStream> ChosenRows::open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                              Key key) const {
  for (std::int64_t& row : order) row = rows_.at(static_cast<std::size_t>(row));
  return std::make_unique<ChosenStream>(source_->open(std::move(order), batch_size, augmented, key), labels_);
}

}  // namespace recast
