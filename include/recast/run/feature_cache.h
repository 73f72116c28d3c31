#pragma once
#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <list>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "recast/data/cache_folder.h"
#include "recast/data/contents.h"
#include "recast/data/dataset.h"
#include "recast/run/image_source.h"
#include "recast/run/model_directory.h"

namespace recast {

/// Whose features, of which images: everything that a feature depends on, but for how many threads make it.
struct FeatureRequest {
  const ModelDirectory& directory;
  const Dataset& dataset;
  const Contents& contents;  ///< of this dataset: its bytes are what the entry is kept under
  Split split = Split::kTrain;
  Preprocessing preprocessing;
  BadImages bad_images = BadImages::kStop;
  bool bf16 = false;  ///< matrix products
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;
  const ImageSource* images = nullptr;  ///< of this split and preprocessing, decoded already; null: opened for this
};

/// The bare backbone's features of a split's images, in evaluation mode and without augmentation.
struct SplitFeatures {
  at::Tensor features;        ///< [n, D] fp32
  at::Tensor labels;          ///< [n] int64, classes of the dataset
  at::Tensor rows;            ///< [n] int64, of the split: ascending; those of images that were left out are missing
  std::string from;           ///< "memory", "disk" or "images"
  std::vector<BadImage> bad;  ///< left out; reasons are known only where the images were read now
};

/// Features kept for whoever asks again: one forward pass per image, however many heads are learned on it. An entry is
/// kept under the SHA-256 of the model's fingerprint, the preprocessing, the bytes of the split's images in their
/// order, the number format, the number of threads and the versions of recast and libtorch. On disk it is one
/// safetensors file, which carries the digest of its tensors; one that is cut off, damaged or another's is made again.
/// In memory the entries used last stay, up to a cap; on disk the same, by the time of their last use. Threads  all
/// calls may run in parallel; two that ask for the same new entry both make it.
class FeatureCache {
 public:
  static constexpr std::int64_t kDefaultMemoryBytes = 2ll << 30, kDefaultDiskBytes = 16ll << 30;

  /// folder: empty: nothing is kept on disk. 0 bytes of memory: nothing is kept in memory.
  explicit FeatureCache(std::filesystem::path folder = default_folder(),
                        std::int64_t memory_bytes = kDefaultMemoryBytes, std::int64_t disk_bytes = kDefaultDiskBytes);

  /// cache_folder()/features, or empty.
  static std::filesystem::path default_folder();
  /// Throws what decoding throws (as ImageSource::decode_all()), kCancelled. A disk that cannot be written to costs the
  /// next run time and is told as a note.
  SplitFeatures features(const FeatureRequest& request);
  /// The file that an entry has on disk. Throws kInvalidArgument where nothing is kept there.
  std::filesystem::path file(const FeatureRequest& request) const;
  std::int64_t bytes_in_memory() const;

 private:
  struct Entry {
    std::string key;
    at::Tensor features, rows;
    std::int64_t bytes() const { return static_cast<std::int64_t>(features.nbytes() + rows.nbytes()); }
  };
  bool recall(const std::string& key, Entry& entry);
  void remember(const Entry& entry);
  bool read(const FeatureRequest& request, Entry& entry) const;
  void write(const FeatureRequest& request, const Entry& entry) const;
  void make_room(const std::filesystem::path& newest) const;
  Entry make(const FeatureRequest& request, std::string key, std::vector<BadImage>& bad) const;

  std::filesystem::path folder_;
  std::int64_t memory_bytes_, disk_bytes_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  ///< used last first
};

/// The one of this process.
FeatureCache& feature_cache();

}  // namespace recast
