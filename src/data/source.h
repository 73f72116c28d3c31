#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "recast/data/example.h"
#include "recast/data/picture.h"
#include "recast/format/utf8.h"

namespace recast {

/// The split that a dataset's own folders, files or columns put an image in.
enum class Given { kNone, kTrain, kValidation, kTest };

struct Record {
  std::string id;
  std::string class_name;
  Given given = Given::kNone;
};

/// A dataset as it lies on disk, before it is split: records in the order of the files, ids unique.
class RecordSource {
 public:
  virtual ~RecordSource() = default;
  virtual std::string_view kind() const = 0;
  /// Of records()[record]; all calls may run in parallel.
  virtual Picture image(std::size_t record) const = 0;
  /// Its bytes as they are stored, undecoded.
  virtual StoredImage stored(std::size_t record) const = 0;
  /// As Dataset::superclasses().
  virtual std::map<std::string, std::vector<std::string>> superclasses() const { return {}; }

  const std::vector<Record>& records() const { return records_; }

 protected:
  std::vector<Record> records_;
};

// Each throws what open_dataset() says about its kind.
std::unique_ptr<RecordSource> open_folder(const std::filesystem::path& root);
std::unique_ptr<RecordSource> open_csv(const std::filesystem::path& file);
std::unique_ptr<RecordSource> open_cifar(const std::filesystem::path& folder_or_file);
std::unique_ptr<RecordSource> open_idx(const std::filesystem::path& folder_or_file);

/// Does this folder hold CIFAR binary or IDX files, by their names?
bool holds_cifar(const std::filesystem::path& folder);
bool holds_idx(const std::filesystem::path& folder);
/// Is this an IDX file, by its name?
bool is_idx_name(std::string_view file_name);

/// Reads and decodes one image file.
Picture read_image(const std::filesystem::path& file);
/// Names of what lies in `folder`, sorted bytewise, without those that begin with a dot.
std::vector<std::string> names_in(const std::filesystem::path& folder);

}  // namespace recast
