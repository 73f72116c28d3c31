#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "recast/data/example.h"

namespace recast {

/// Labelled images in three splits. What is on disk was listed and checked when it was opened; folders and CSV decode
/// an image when it is asked for, CIFAR and IDX files are held in memory as they are.
/// Every class has at least one training image; no example is in two splits.
/// Threads  all calls may run in parallel.
class Dataset {
 public:
  virtual ~Dataset() = default;

  /// At least two, sorted (by number where all are numbers), the order of the labels.
  virtual const std::vector<std::string>& classes() const = 0;
  /// In the order of the files, sorted by path; none is empty.
  virtual const std::vector<Example>& examples(Split split) const = 0;
  /// uint8 [3, H, W], contiguous, of examples(split)[index]; sizes may differ. Throws what decode_image() throws, and
  /// kNotFound or kUnavailable if the file has gone since.
  virtual at::Tensor image(Split split, std::int64_t index) const = 0;

  /// Where examples(split)[index] is stored; neither opened nor decoded.
  virtual StoredImage stored(Split split, std::int64_t index) const = 0;

  virtual const std::filesystem::path& path() const = 0;
  /// "folder", "csv", "cifar10", "cifar100" or "idx".
  virtual std::string_view kind() const = 0;
  virtual std::uint64_t split_seed() const = 0;
  /// The limits of limit_per_class() by split, 0 where there is none.
  virtual std::array<std::int64_t, 3> limits() const { return {0, 0, 0}; }
  /// Names of classes by the superclass that the files put them in; empty where they tell of none. CIFAR-100 does.
  /// Throws kDataCorruption: a class lies in two.
  virtual std::map<std::string, std::vector<std::string>> superclasses() const { return {}; }
  /// Whether choose_classes() left classes out.
  virtual bool chosen() const { return false; }
};

/// Opens `path`, whose kind is found by looking: a folder of class folders (JPEG, PNG, WebP), a CSV file with columns
/// path,label[,split], CIFAR-10/100 binary files, IDX files plain or gzipped (docs/data.md has the details).
///
/// Splits. Own `test/` is the test set; own `val/` or `validation/` beside it validates. With `val/` alone, that is the
/// test set. What is missing is taken per class: 20 % for test, then 10 % of the rest for validation, at least one
/// image each; which ones depends only on `split_seed` and the ids, by hash.
///
/// Throws  kNotFound: no such path, or a CSV names a missing file (with its line).
///         kUnsupported: nothing readable, one class only, an empty class, too few images to split, labels that only
///         one of train and test has, a loop of links, image formats that are not read.
///         kExhausted: more than kMaxClasses classes.
///         kDataCorruption: truncated or inconsistent files, malformed CSV (with its line).
std::unique_ptr<Dataset> open_dataset(const std::filesystem::path& path, std::uint64_t split_seed = 42);

/// Only these classes, and those of these superclasses; every image stays in its split. Nothing named: all.
/// Throws  kNotFound: no such class or superclass, with the nearest name;  kUnsupported: the data has no superclasses;
///         kInvalidArgument: fewer than two classes are left.
std::unique_ptr<Dataset> choose_classes(std::unique_ptr<Dataset> dataset, const std::vector<std::string>& classes,
                                        const std::vector<std::string>& superclasses);

/// The first `train` training, `test` test and `validation` validation images of each class in split-hash order;
/// without `validation`, of validation the same share as of training (at least one). 0 keeps all. Throws
/// kInvalidArgument when negative.
std::unique_ptr<Dataset> limit_per_class(std::unique_ptr<Dataset> dataset, std::int64_t train, std::int64_t test,
                                         std::int64_t validation = 0);

/// {path, kind, split_seed, limits: {train, test, validation where it is limited}, classes, counts: {train, validation,
/// test}, sha256: {...}} and, where classes were chosen, chosen: true. A split's SHA-256 covers ids and class names in
/// order: equal means the same images in the same split by name.
nlohmann::json describe_splits(const Dataset& dataset);

}  // namespace recast
