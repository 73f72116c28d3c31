#include "recast/run/image_source.h"

#include <ATen/ATen.h>

#include <numeric>

#include "recast/base/error.h"

namespace recast {
namespace {

class ImageStream final : public BatchStream {
 public:
  ImageStream(const Pixels& pixels, std::vector<std::int64_t> order, const LoaderOptions& options, const Key& key,
              const ImageSourceOptions& source)
      : loader_(pixels, std::move(order), options, key), preprocessing_(pixels.preprocessing()), source_(source) {}

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
      pixels_(*dataset_, split, preprocessing, options.cache_bytes),
      options_(std::move(options)) {}

std::unique_ptr<BatchStream> ImageSource::open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                               Key key) const {
  LoaderOptions options;
  options.batch_size = batch_size;
  options.threads = options_.threads;
  if (augmented) options.augmentation = options_.augmentation;
  return std::make_unique<ImageStream>(pixels_, std::move(order), options, key, options_);
}

void ImageSource::decode_all(const std::atomic<bool>* stop, Listener* listener) const {
  LoaderOptions options;
  options.batch_size = 32;
  options.threads = options_.threads;
  Loader loader(pixels_, all_rows(rows()), options, Key(0));
  for (std::int64_t done = 0; auto batch = loader.next();) {
    if (stop && *stop) fail(Code::kCancelled, "[data] stopped while reading images");
    done += batch->labels.size(0);
    if (listener) listener->step(done, rows());
  }
}

}  // namespace recast
