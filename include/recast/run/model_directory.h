#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "recast/data/preprocess.h"
#include "recast/method/model.h"
#include "recast/model/model_files.h"
#include "recast/store/open_store.h"

namespace recast {

/// A task as users write it: "NAME", the newest version, "NAME:VERSION" or "NAME:TAG".
struct TaskReference {
  std::string name;
  std::int64_t version = 0;  ///< 0: the newest, or the one that `tag` names
  std::string tag = {};      ///< empty: none
};
/// Throws kInvalidArgument.
TaskReference parse_task_reference(const std::string& text);

/// A stored task made ready to predict.
struct LoadedTask {
  TaskRecord record;
  Model model;
  Preprocessing preprocessing;  ///< the backbone's, at the image size that the task was learned with
};

/// An opened model directory: its checked files, the backbone on a device and its task store.
/// Threads  all calls may run in parallel.    Copies share backbone and store.
class ModelDirectory {
 public:
  /// read_only: no file is made or changed, an absent store counts as empty. `store_url`, `verify`: as open_store()
  /// takes them.
  /// Throws  as read_model_files() and open_store(); kUnsupported: CUDA asked for where there is none.
  static ModelDirectory open(const std::filesystem::path& path, bool read_only, at::Device device = at::kCPU,
                             const std::string& store_url = {}, Verify verify = Verify::kWhole);

  /// The same files and backbone, not read again, beside its store as it is now, for reading.
  ModelDirectory with_fresh_store() const;
  /// Its store, opened for writing.
  std::unique_ptr<TaskStore> store_to_write() const;

  const std::filesystem::path& path() const { return path_; }
  const ModelFiles& files() const { return *files_; }
  const std::shared_ptr<const Backbone>& backbone() const { return backbone_; }
  const std::string& fingerprint() const { return fingerprint_; }
  TaskStore& store() const { return *store_; }
  const std::string& store_url() const { return store_url_; }
  at::Device device() const { return device_; }

  /// The version that "NAME:TAG" names in the store; what another reference says. Throws kNotFound with the nearest
  /// tag.
  std::int64_t version_of(const TaskReference& task) const;
  /// The task "NAME[:VERSION|:TAG]" as stored, its plug-ins not looked at. Throws kNotFound with the nearest name.
  TaskRecord record(const std::string& task) const;
  /// The task "NAME[:VERSION|:TAG]" over this backbone.
  /// Throws  kNotFound with the nearest name; what model() throws.
  LoadedTask load(const std::string& task) const;
  /// A record's plug-ins composed over this backbone, its numbers on the device. Nothing is run: names, dtypes and rows
  /// per class are checked against what the plug-ins declare.
  /// Throws  as compose(); kShapeMismatch: another backbone's record, or numbers that the plug-ins do not declare.
  Model model(const TaskRecord& record) const;
  /// The backbone's preprocessing at the image size that the task was learned with. Throws kDataCorruption.
  Preprocessing preprocessing(const TaskRecord& record) const;

 private:
  ModelDirectory() = default;
  std::filesystem::path path_;
  std::shared_ptr<const ModelFiles> files_;
  std::shared_ptr<const Backbone> backbone_;
  std::string fingerprint_;
  std::string store_url_;
  std::shared_ptr<TaskStore> store_;
  at::Device device_ = at::kCPU;
};

/// "cpu", "cuda", "cuda:1". Throws kInvalidArgument for another text, kUnsupported where this libtorch or machine has
/// no such device.
at::Device parse_device(const std::string& text);

}  // namespace recast
