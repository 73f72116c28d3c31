#pragma once
#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "recast/data/contents.h"
#include "recast/data/dataset.h"
#include "recast/data/loader.h"

namespace recast {

/// Which images a task is about; members are named after the flags of `recast learn`.
struct ImageChoice {
  std::filesystem::path data;
  std::uint64_t split_seed = 42;
  std::vector<std::string> classes, superclasses;                      ///< both empty: all
  std::int64_t limit_train = 0, limit_validation = 0, limit_test = 0;  ///< images per class, 0: see limit_per_class()
  bool operator==(const ImageChoice&) const = default;
};

/// open_dataset(), choose_classes() and limit_per_class(); throws what they throw.
std::unique_ptr<Dataset> open_images(const ImageChoice& choice);
/// What a task's record says of the images that it was learned from: TaskRecord::data. No path: `data` stays empty.
ImageChoice recorded_images(const nlohmann::json& data);

/// Datasets, digests of their images and decoded pixels that several runs of one process share, in memory. Used-last
/// ones are kept: `most` datasets, and no more than `bytes` of pixels once a new dataset comes; what is in use stays.
/// Files must not change while it lives.
/// Threads  all calls may run in parallel; two that need the same wait for each other.
class ImagePool {
 public:
  explicit ImagePool(std::size_t most = 4, std::int64_t bytes = Pixels::kDefaultCacheBytes)
      : most_(most), bytes_(bytes) {}

  /// open_images() once for each choice.
  std::shared_ptr<const Dataset> dataset(const ImageChoice& choice);
  /// scan_contents() once for each of the datasets that dataset() gave. Throws as it does.
  std::shared_ptr<const Contents> contents(const std::shared_ptr<const Dataset>& dataset, const VisitOptions& options);
  /// One for each split and way to cut and scale: mean and deviation of `preprocessing` do not tell them apart. Keeps
  /// the dataset alive.
  std::shared_ptr<const Pixels> pixels(const std::shared_ptr<const Dataset>& dataset, Split split,
                                       const Preprocessing& preprocessing);

 private:
  using View = std::tuple<Split, std::int64_t, double, std::string>;  ///< split, side in pixels, crop, interpolation
  struct Entry {
    std::vector<ImageChoice> choices;  ///< as asked for, and with superclasses spelt out as their classes
    std::shared_ptr<const Dataset> dataset;
    std::shared_ptr<const Contents> contents;
    std::map<View, std::shared_ptr<const Pixels>> pixels;
    std::mutex filling;  ///< held while contents are made
  };
  std::shared_ptr<Entry> entry_of(const Dataset& dataset);
  void drop_oldest();

  const std::size_t most_;
  const std::int64_t bytes_;
  std::mutex mutex_;                           // guards the list, and the pixels of its entries
  std::list<std::shared_ptr<Entry>> entries_;  // the one used last in front
};

}  // namespace recast
