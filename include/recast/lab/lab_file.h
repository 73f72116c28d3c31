#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "recast/mimic/mimicry.h"
#include "recast/run/class_stream.h"
#include "recast/run/import_checkpoint.h"
#include "recast/run/learn_task.h"
#include "recast/run/settings_tree.h"

namespace recast {

/// Settings of one entry of a lab file as text, by key: what decides whether a result is still the one asked for.
using AskedFor = std::map<std::string, std::vector<std::string>>;

/// A backbone: a model directory that is there, or how one is made.
struct LabModel {
  std::string name;
  std::filesystem::path directory;      ///< given; empty: made below the lab's folder
  std::optional<ImportRequest> import;  ///< made from a checkpoint
  std::string mimic_of;                 ///< made by mimicry of this model
  MimicryOptions mimicry;
  std::string layout;  ///< what must lie there, for those who do not have it yet
  AskedFor asked;
};

/// How the classes of a task come one group after another, to one head without a task id: `recast stream`.
struct LabStream {
  StreamOptions options;
  bool classes_by_seed = false;  ///< `class-seed: seed`: each seed has an order of its own
  std::string unlabelled = "base";
  bool forward_transfer = true;
};

/// Images to learn and to measure on.
struct LabTask {
  std::string name;
  ImageChoice images;
  bool split_by_seed = false;  ///< `split-seed: seed`: each seed draws a split of its own
  std::optional<std::int64_t> image_size;
  BadImages bad_images = BadImages::kStop;
  std::optional<LabStream> stream;  ///< `scenario: class-il`; else all classes are there at once
  std::string layout;               ///< how the data must look, for those who do not have it yet
  AskedFor asked;
};

/// A way to learn.
struct LabRecipe {
  std::string name, label, group;
  std::string model;     ///< name of a LabModel
  std::string baseline;  ///< recipe that it is compared with; empty: none
  LearnRequest learn;    ///< its settings; directory, data, task, seed and places are empty
  bool test_bf16 = false;
  bool keep_task = true;  ///< the task stays in the model's store once it is measured
  AskedFor asked;
};

/// One result to be had: a task learned by a recipe with a seed.
struct LabCell {
  std::string task, recipe;
  std::uint64_t seed = 0;
  /// "TASK/RECIPE/SEED".
  std::string id() const;
  bool operator==(const LabCell&) const = default;
};

/// A lab file, understood and checked as far as it goes without looking at models and data.
struct LabFile {
  std::filesystem::path path;
  SettingsTree tree;  ///< with overrides
  std::string title;
  std::vector<LabModel> models;
  std::vector<LabTask> tasks;
  std::vector<LabRecipe> recipes;
  std::vector<std::uint64_t> seeds;
  std::filesystem::path out;
  std::string device = "cpu";
  /// In the order of work: seed by seed, task by task; less what `only` and `skip` leave out.
  std::vector<LabCell> cells;

  const LabModel& model(const std::string& name) const;
  const LabTask& task(const std::string& name) const;
  const LabRecipe& recipe(const std::string& name) const;
};

/// Reads a lab file (docs/lab.md). `overrides`: "key.key=value", each in place of what the file says there; the value
/// is read as YAML. `out`: in place of the file's; empty: the file's.
/// Throws as read_settings_tree(); kInvalidArgument: an unknown key (with the nearest), a value that does not fit,
/// names that nobody knows, no cell left.
LabFile read_lab_file(const std::filesystem::path& file, const std::vector<std::string>& overrides = {},
                      const std::filesystem::path& out = {});

/// The cells that patterns name: "TASK[/RECIPE[/SEED]]", each part with * and ? as in a shell. None: all.
/// Throws kInvalidArgument: a pattern names no cell.
std::vector<LabCell> choose_cells(const LabFile& file, const std::vector<std::string>& patterns);

}  // namespace recast
