#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recast/data/loader.h"
#include "recast/train/learn.h"

namespace recast {

/// What is done about images that cannot be decoded.
enum class BadImages { kStop, kSkip };
/// "stop" or "skip". Throws kInvalidArgument.
BadImages parse_bad_images(std::string_view text);

/// An image that was left out, and the error that decoding it gave.
struct BadImage {
  std::string id, reason;
};

struct ImageSourceOptions {
  Augmentation augmentation;  ///< for streams that are opened augmented
  int threads = 2;            ///< of each open stream
  std::int64_t cache_bytes = Pixels::kDefaultCacheBytes;
  at::Device device = at::kCPU;              ///< where batches come out
  std::vector<std::int64_t> label_of_class;  ///< task's label for each class of the dataset; empty: the same
  BadImages bad_images = BadImages::kStop;   ///< what decode_all() does
  /// Pixels shared with other runs, of the same images cut and scaled alike; empty: pixels of its own, of which it
  /// keeps `cache_bytes`.
  std::shared_ptr<const Pixels> pixels;
};

/// One split of a dataset as rows to learn from. Batches: "input" fp32 [B, 3, S, S] normalised, "label" int64 [B],
/// "sample" int64 [B] = row of the split. Rows are those of the split less the ones that decode_all() left out;
/// "sample" and the augmentation keep to the split's numbers, so an image that is left out changes no other.
class ImageSource : public Source {
 public:
  ImageSource(std::shared_ptr<const Dataset> dataset, Split split, const Preprocessing& preprocessing,
              ImageSourceOptions options);
  std::int64_t rows() const override { return static_cast<std::int64_t>(rows_.size()); }
  std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                    Key key) const override;
  /// Decodes every image once, into the cache as far as it reaches, so that a bad one shows before anything is learned.
  /// With kSkip, images that are damaged, of a format that is not read or above a limit (kDataCorruption, kUnsupported,
  /// kExhausted) are left out from now on, the same ones whenever the files are the same; call it once, before
  /// anything else. A file that is gone or out of reach is an error in any case: the next run would learn from others.
  /// Throws what Pixels::pixels() throws, that of the lowest row; kCancelled when `stop` is set; kDataCorruption: a
  /// class has no training image left, or the split no image.
  void decode_all(const std::atomic<bool>* stop, Listener* listener);
  /// The split's row of each row.
  const std::vector<std::int64_t>& split_rows() const { return rows_; }
  /// What decode_all() left out, in the order of rows.
  const std::vector<BadImage>& skipped() const { return skipped_; }

 private:
  std::shared_ptr<const Dataset> dataset_;
  Split split_;
  Preprocessing preprocessing_;
  std::shared_ptr<const Pixels> pixels_;
  void leave_out(std::vector<std::optional<std::string>> faults);

  ImageSourceOptions options_;
  std::vector<std::int64_t> rows_;  // of the split
  std::vector<BadImage> skipped_;
};

/// {"count": n, "first": [{"image", "reason"}]}, at most `most` of them, printable.
nlohmann::json describe_skipped(const std::vector<BadImage>& skipped, std::size_t most = 5);

/// 0 .. rows-1.
std::vector<std::int64_t> all_rows(std::int64_t rows);

}  // namespace recast
