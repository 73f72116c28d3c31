#include "recast/run/image_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "recast/base/error.h"
#include "recast/data/visit_rows.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

class ImageStream final : public BatchStream {
 public:
  ImageStream(const Pixels& pixels, std::vector<std::int64_t> order, const LoaderOptions& options, const Key& key,
              const Preprocessing& preprocessing, const ImageSourceOptions& source)
      : loader_(pixels, std::move(order), options, key), preprocessing_(preprocessing), source_(source) {}

  std::optional<Batch> next() override {
    std::optional<LoadedBatch> loaded = loader_.next();
    if (!loaded) return {};
    Batch batch;
    batch.rows = loaded->labels.size(0);
    batch.at["input"] = normalise(loaded->pixels.to(source_.device), preprocessing_);
    batch.at["label"] = task_labels(loaded->labels).to(source_.device);
    batch.at["sample"] = at::tensor(loaded->rows, at::kLong).to(source_.device);
    return batch;
  }

 private:
  at::Tensor task_labels(const at::Tensor& classes) const {
    if (source_.label_of_class.empty()) return classes;
    return at::tensor(source_.label_of_class, at::kLong).index_select(0, classes);
  }

  Loader loader_;
  const Preprocessing& preprocessing_;
  const ImageSourceOptions& source_;
};

}  // namespace

std::vector<std::int64_t> all_rows(std::int64_t rows) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

ImageSource::ImageSource(std::shared_ptr<const Dataset> dataset, Split split, const Preprocessing& preprocessing,
                         ImageSourceOptions options)
    : dataset_(std::move(dataset)),
      split_(split),
      preprocessing_(preprocessing),
      pixels_(options.pixels ? options.pixels
                             : std::make_shared<Pixels>(*dataset_, split, preprocessing, options.cache_bytes)),
      options_(std::move(options)),
      rows_(all_rows(pixels_->size())) {}

std::unique_ptr<BatchStream> ImageSource::open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                               Key key) const {
  LoaderOptions options;
  options.batch_size = batch_size;
  options.threads = options_.threads;
  if (augmented) options.augmentation = options_.augmentation;
  for (auto& row : order) row = rows_.at(static_cast<std::size_t>(row));
  return std::make_unique<ImageStream>(*pixels_, std::move(order), options, key, preprocessing_, options_);
}

namespace {

// Faults of an image itself. Others may be gone next time, and a run that went on would not be repeatable.
bool is_fault_of_image(const Error& error) {
  return error.code() == Code::kDataCorruption || error.code() == Code::kUnsupported ||
         error.code() == Code::kExhausted;
}

}  // namespace

void ImageSource::decode_all(const std::atomic<bool>* stop, Listener* listener) {
  std::vector<std::optional<std::string>> faults(rows_.size());
  VisitOptions options{std::max(1, options_.threads), stop, {}};
  if (listener) options.progress = [listener](std::int64_t done, std::int64_t total) { listener->step(done, total); };
  const bool complete = visit_rows(rows(), options, [&]() -> RowVisitor {
    return [&](std::int64_t row) {
      try {
        pixels_->pixels(rows_[static_cast<std::size_t>(row)]);
      } catch (const Error& error) {
        if (options_.bad_images == BadImages::kStop || !is_fault_of_image(error)) throw;
        faults[static_cast<std::size_t>(row)] = error.what();
      }
    };
  });
  if (!complete) fail(Code::kCancelled, "[data] stopped while reading images");
  leave_out(std::move(faults));
}

void ImageSource::leave_out(std::vector<std::optional<std::string>> faults) {
  const auto& examples = dataset_->examples(split_);
  std::vector<std::int64_t> kept, left(dataset_->classes().size());
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const Example& example = examples[static_cast<std::size_t>(rows_[i])];
    if (faults[i]) {
      skipped_.push_back({example.id, std::move(*faults[i])});
    } else {
      kept.push_back(rows_[i]);
      ++left[static_cast<std::size_t>(example.label)];
    }
  }
  const auto empty = std::find(left.begin(), left.end(), 0);
  if (!skipped_.empty() && split_ == Split::kTrain && empty != left.end()) {
    fail(Code::kDataCorruption, "[data] {}: no training image of class '{}' can be read; the first that cannot: {}",
         printable_path(dataset_->path()),
         printable(dataset_->classes()[static_cast<std::size_t>(empty - left.begin())]), skipped_.front().reason);
  }
  if (kept.empty()) {
    fail(Code::kDataCorruption, "[data] {}: no {} image can be read; the first: {}", printable_path(dataset_->path()),
         name(split_), skipped_.front().reason);
  }
  rows_ = std::move(kept);
}

BadImages parse_bad_images(std::string_view text) {
  if (text == "stop") return BadImages::kStop;
  if (text == "skip") return BadImages::kSkip;
  fail(Code::kInvalidArgument, "[data] bad images are to 'stop' the run or to be left out ('skip'), got '{}'",
       printable(text));
}

nlohmann::json describe_skipped(const std::vector<BadImage>& skipped, std::size_t most) {
  auto first = nlohmann::json::array();
  for (std::size_t i = 0; i < std::min(most, skipped.size()); ++i) {
    first.push_back({{"image", printable(skipped[i].id, 300)}, {"reason", skipped[i].reason}});
  }
  return {{"count", skipped.size()}, {"first", first}};
}

}  // namespace recast
