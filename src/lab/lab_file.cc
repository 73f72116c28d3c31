#include "recast/lab/lab_file.h"

#include <fnmatch.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "lab_stream.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/run/learn_seeds.h"
#include "run/learn_plan.h"
#include "setting_table.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::size_t kMostCells = 100'000;
constexpr std::size_t kMostNameBytes = 40;

// ---- overrides -----------------------------------------------------------------------------------------------------

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// The entries whose names are the file's own: a name that is not there is a slip, not a new entry.
bool holds_names(const std::string& key) { return key == "models" || key == "tasks" || key == "recipes"; }

void override_one(SettingsTree& tree, const std::string& text) {
  const std::size_t sign = text.find('=');
  if (sign == text.npos || sign == 0)
    fail(Code::kInvalidArgument, "[lab] '{}' is no override: expected KEY.KEY=VALUE, as in seeds=42", printable(text));
  const std::string path = text.substr(0, sign);
  const std::vector<std::string> keys = parts_of(path, '.');
  SettingsTree* at = &tree;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (at->kind != SettingsTree::Kind::kMap)
      fail(Code::kInvalidArgument, "[lab] {}: nothing lies below '{}', which is a value", printable(path),
           printable(keys[i - 1]));
    if (i == 1 && holds_names(keys[0]) && !at->find(keys[1])) unknown_name(keys[0], keys[1], at->keys());
    if (!at->find(keys[i])) at->map.emplace_back(keys[i], SettingsTree());
    at = at->find(keys[i]);
  }
  *at = std::move(*parse_settings_tree("value: " + text.substr(sign + 1), path).find("value"));
}

// ---- entries -------------------------------------------------------------------------------------------------------

void remember(AskedFor& asked, const std::string& key, const SettingsTree& entry) {
  asked[key] = entry.kind == SettingsTree::Kind::kList ? entry.list : std::vector{entry.value};
}

/// What an entry that takes defaults says, and then what the defaults add. `silent`: keys that do not decide a result.
void read_entry(const SettingTable& table, const SettingsTree& entry, const Place& place, const SettingsTree& defaults,
                const std::set<std::string>& silent, AskedFor& asked) {
  const auto note = [&](const std::string& key, const SettingsTree& value) {
    if (silent.count(key) == 0) remember(asked, key, value);
  };
  for (const auto& [key, value] : defaults.map) {
    if (!table.has(key) || entry.find(key)) continue;
    table.take(key, value, "defaults");
    note(key, value);
  }
  table.read(entry, place);
  for (const auto& [key, value] : entry.map) note(key, value);
}

SettingTable model_table(LabModel& model, ImportRequest& import) {
  MimicryOptions& mimicry = model.mimicry;
  SettingTable table;
  table.add("directory", into(model.directory));
  table.add("import", into(import.checkpoint));
  table.add("arch", into(import.architecture));
  table.add("interpolation", into(import.interpolation));
  table.add("crop-pct", into(import.crop_pct));
  table.add("pooling", into(import.pooling));
  table.add("mimic", into(model.mimic_of));
  table.add("target", into(mimicry.target));
  table.add("groups", into(mimicry.groups));
  table.add("templates", into(mimicry.templates));
  table.add("sets", into(mimicry.sets));
  table.add("solver", into(mimicry.solver));
  table.add("steps", into(mimicry.steps));
  table.add("rate", into(mimicry.rate));
  table.add("seed", into(mimicry.seed));
  table.add("layout", into(model.layout));
  return table;
}

LabModel read_model(const std::string& name, const SettingsTree& entry, const Place& place) {
  LabModel model;
  model.name = name;
  if (entry.kind == SettingsTree::Kind::kValue) {
    into(model.directory)(entry, place);
    return model;
  }
  ImportRequest import;
  read_entry(model_table(model, import), entry, place, {}, {"directory", "import", "layout"}, model.asked);
  const std::vector<std::string> origins = {"directory", "import", "mimic"};
  const auto given =
      std::count_if(origins.begin(), origins.end(), [&](const std::string& key) { return entry.find(key) != nullptr; });
  if (given != 1)
    fail(Code::kInvalidArgument, "[lab] {} must say one of directory, import and mimic, says {}", printable(place, 300),
         given);
  const std::vector<std::string> of_mimic = {"target", "groups", "templates", "sets",
                                             "solver", "steps",  "rate",      "seed"};
  const std::vector<std::string> of_import = {"arch", "interpolation", "crop-pct", "pooling"};
  for (const auto& [origin, keys] : {std::pair{"mimic", of_mimic}, std::pair{"import", of_import}})
    for (const std::string& key : keys)
      if (entry.find(key) && !entry.find(origin))
        fail(Code::kInvalidArgument, "[lab] {}: '{}' belongs to {}", printable(place, 300), key, origin);
  if (!import.checkpoint.empty()) {
    if (import.architecture.empty())
      fail(Code::kInvalidArgument, "[lab] {}: a checkpoint needs its architecture: arch", printable(place, 300));
    model.import = import;
  }
  return model;
}

SettingTable task_table(LabTask& task) {
  ImageChoice& images = task.images;
  SettingTable table;
  table.add("data", into(images.data));
  table.add("classes", into(images.classes));
  table.add("superclass", into(images.superclasses));
  table.add("limit-train", into(images.limit_train));
  table.add("limit-validation", into(images.limit_validation));
  table.add("limit-test", into(images.limit_test));
  table.add("split-seed", [&task](const SettingsTree& entry, const Place& place) {
    const std::string text = value_at(entry, place);
    task.split_by_seed = text == "seed";
    if (!task.split_by_seed) task.images.split_seed = seed_from(text, place);
  });
  table.add("image-size", into(task.image_size));
  table.add("bad-images", [&task](const SettingsTree& entry, const Place& place) {
    task.bad_images = parse_bad_images(value_at(entry, place));
  });
  table.add("layout", into(task.layout));
  table.add("scenario", [](const SettingsTree&, const Place&) {});  // read before, since other keys depend on it
  return table;
}

LabTask read_task(const std::string& name, const SettingsTree& entry, const Place& place,
                  const SettingsTree& defaults) {
  LabTask task;
  task.name = name;
  SettingTable table = task_table(task);
  std::set<std::string> silent = {"data", "layout"};
  if (asks_for_stream(entry, defaults, place)) {
    add_stream_keys(table, task.stream.emplace());
  } else {
    refuse_stream_keys(entry, place);
    silent.insert("scenario");  // said or not, it is the same
  }
  read_entry(table, entry, place, defaults, silent, task.asked);
  if (task.images.data.empty()) fail(Code::kInvalidArgument, "[lab] {} does not say its data", printable(place, 300));
  return task;
}

SettingTable recipe_table(LabRecipe& recipe) {
  LearnRequest& learn = recipe.learn;
  SettingTable table;
  table.add("label", into(recipe.label));
  table.add("group", into(recipe.group));
  table.add("model", into(recipe.model));
  table.add("baseline", into(recipe.baseline));
  table.add("recipe", into(learn.recipe));
  table.add("plug", into(learn.plugs));
  table.add("image-size", into(learn.image_size));
  table.add("epochs", into(learn.epochs));
  table.add("batch-size", into(learn.batch_size));
  table.add("lr", into(learn.lr));
  table.add("head-lr", into(learn.head_lr));
  table.add("weight-decay", into(learn.weight_decay));
  table.add("augmentation", into(learn.augmentation));
  table.add("bn", into(learn.bn));
  table.add("amp", number_format([&learn](bool bf16) { learn.bf16 = bf16; }));
  table.add("test-amp", number_format([&recipe](bool bf16) { recipe.test_bf16 = bf16; }));
  table.add("keep-task", into(recipe.keep_task));
  return table;
}

/// What a recipe says must be right whatever the models and data are; an Error of its own names the recipe.
void check_recipe(const LabRecipe& recipe, const Place& place) {
  LearnRequest request = recipe.learn;
  request.directory = request.data = "any";
  request.task = "any";
  try {
    check_request(request);
  } catch (const Error& error) {
    fail(error.code(), "[lab] {}: {}", printable(place, 300), error.what());
  }
}

LabRecipe read_recipe(const std::string& name, const SettingsTree& entry, const Place& place,
                      const SettingsTree& defaults) {
  LabRecipe recipe;
  recipe.name = recipe.label = name;
  // The image size of all is the tasks'; one that a recipe says itself goes before.
  SettingsTree mine;
  for (const auto& pair : defaults.map)
    if (pair.first != "image-size") mine.map.push_back(pair);
  read_entry(recipe_table(recipe), entry, place, mine, {"label", "group", "model", "baseline", "keep-task"},
             recipe.asked);
  check_recipe(recipe, place);
  return recipe;
}

// ---- the file ------------------------------------------------------------------------------------------------------

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kMostNameBytes && text.front() != '-' &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return (c < 0x80 && std::isalnum(c) != 0) || c == '-' || c == '_'; });
}

/// Names become names of folders and of tasks.
void check_names(const SettingsTree& entries, const Place& place) {
  std::set<std::string> seen;
  for (const std::string& name : entries.keys()) {
    if (!is_name(name))
      misfit(place, name, "called by letters, digits, - and _ alone, at most 40 of them and no - in front");
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    if (!seen.insert(lower).second)
      fail(Code::kInvalidArgument, "[lab] {}: '{}' differs from another name in upper and lower case only",
           printable(place, 300), name);
  }
}

class FileReader {
 public:
  explicit FileReader(LabFile& file) : file_(file), origin_(printable_path(file.path)) {}

  void read() {
    if (file_.tree.kind != SettingsTree::Kind::kMap || file_.tree.map.empty())
      fail(Code::kInvalidArgument, "[lab] {}: expected lines 'key: value', at least tasks, recipes and seeds", origin_);
    top_table().read(file_.tree, origin_);
    read_defaults();
    read_models();
    for (const auto& [name, entry] : named("tasks").map)
      file_.tasks.push_back(read_task(name, entry, place("tasks", name), defaults_));
    for (const auto& [name, entry] : named("recipes").map)
      file_.recipes.push_back(read_recipe(name, entry, place("recipes", name), defaults_));
    if (seeds_.empty()) fail(Code::kInvalidArgument, "[lab] {} has no seeds: seeds: [42, 1998, 3142592]", origin_);
    file_.seeds = parse_seeds(fmt::format("{}", fmt::join(seeds_, ",")));
    settle_models();
    settle_scenarios();
    settle_baselines();
    make_cells();
  }

 private:
  Place place(const std::string& part, const std::string& name) const { return origin_ + ": " + part + "." + name; }

  SettingTable top_table() {
    SettingTable table;
    table.add("title", into(file_.title));
    table.add("out", into(file_.out));
    table.add("seeds", into(seeds_));
    table.add("device", into(file_.device));
    table.add("baseline", into(baseline_));
    table.add("only", into(only_));
    table.add("skip", into(skip_));
    for (const char* key : {"model", "models", "tasks", "recipes", "defaults"})
      table.add(key, [](const SettingsTree&, const Place&) {});
    return table;
  }

  /// A map of names that must be there.
  const SettingsTree& named(const std::string& key) const {
    const SettingsTree* entry = file_.tree.find(key);
    if (!entry || entry->kind != SettingsTree::Kind::kMap || entry->map.empty())
      fail(Code::kInvalidArgument, "[lab] {} has no {}: expected a map of names", origin_, key);
    check_names(*entry, origin_ + ": " + key);
    return *entry;
  }

  void read_defaults() {
    std::vector<std::string> known = {"model",      "data",       "limit-train",  "limit-validation", "limit-test",
                                      "split-seed", "image-size", "bad-images",   "recipe",           "epochs",
                                      "batch-size", "lr",         "head-lr",      "weight-decay",     "amp",
                                      "bn",         "test-amp",   "augmentation", "keep-task",        "scenario"};
    known.insert(known.end(), stream_keys().begin(), stream_keys().end());
    const SettingsTree* defaults = file_.tree.find("defaults");
    if (!defaults) return;
    if (defaults->kind != SettingsTree::Kind::kMap) misfit(origin_ + ": defaults", "", "lines 'key: value'");
    for (const std::string& key : defaults->keys())
      if (std::find(known.begin(), known.end(), key) == known.end()) unknown_key(origin_ + ": defaults", key, known);
    defaults_ = *defaults;
  }

  void read_models() {
    const SettingsTree* one = file_.tree.find("model");
    if (one && file_.tree.find("models"))
      fail(Code::kInvalidArgument, "[lab] {}: give model, or models by name, not both", origin_);
    if (one) {
      file_.models.push_back(read_model("model", *one, origin_ + ": model"));
      return;
    }
    for (const auto& [name, entry] : named("models").map)
      file_.models.push_back(read_model(name, entry, place("models", name)));
  }

  /// Mimicry begins at another model, in the end at one that is not made by mimicry; recipes name theirs.
  void settle_models() {
    std::vector<std::string> names;
    for (const LabModel& model : file_.models) names.push_back(model.name);
    const auto require = [&](const std::string& name, const Place& at) {
      if (std::find(names.begin(), names.end(), name) == names.end()) unknown_name(at, name, names);
    };
    for (const LabModel& model : file_.models) {
      const LabModel* from = &model;
      for (std::size_t steps = 0; !from->mimic_of.empty(); ++steps) {
        require(from->mimic_of, place("models", from->name) + ".mimic");
        if (steps > names.size())
          fail(Code::kInvalidArgument, "[lab] {} is made by mimicry of itself", place("models", model.name));
        from = &file_.model(from->mimic_of);
      }
    }
    for (LabRecipe& recipe : file_.recipes) {
      const Place at = place("recipes", recipe.name) + ".model";
      if (recipe.model.empty() && names.size() == 1) recipe.model = names[0];
      if (recipe.model.empty()) misfit(at, "", "one of " + fmt::format("{}", fmt::join(names, ", ")));
      require(recipe.model, at);
    }
  }

  /// What only one scenario reads is an error where no task is of it.
  void settle_scenarios() {
    const auto streams = std::count_if(file_.tasks.begin(), file_.tasks.end(),
                                       [](const LabTask& task) { return task.stream.has_value(); });
    for (const LabTask& task : file_.tasks)
      if (task.stream) check_lab_stream(*task.stream, file_.seeds, place("tasks", task.name));
    if (streams == 0) refuse_stream_keys(defaults_, origin_ + ": defaults");
    if (streams < static_cast<std::ptrdiff_t>(file_.tasks.size())) return;
    const auto refuse = [](const SettingsTree* entry, const Place& at) {
      if (entry && entry->find("test-amp"))
        fail(Code::kInvalidArgument, "[lab] {}: 'test-amp' belongs to tasks of scenario: task, of which there is none",
             printable(at, 300));
    };
    refuse(&defaults_, origin_ + ": defaults");
    for (const auto& [name, entry] : named("recipes").map) refuse(&entry, place("recipes", name));
  }

  void settle_baselines() {
    std::vector<std::string> names;
    for (const LabRecipe& recipe : file_.recipes) names.push_back(recipe.name);
    for (LabRecipe& recipe : file_.recipes) {
      if (recipe.baseline.empty()) recipe.baseline = baseline_;
      if (recipe.baseline.empty()) continue;
      if (std::find(names.begin(), names.end(), recipe.baseline) == names.end())
        unknown_name(origin_ + ": baseline", recipe.baseline, names);
      if (recipe.baseline == recipe.name) recipe.baseline.clear();
    }
  }

  void make_cells() {
    std::vector<const LabRecipe*> recipes;
    for (const LabRecipe& recipe : file_.recipes) recipes.push_back(&recipe);
    // What others are compared with comes first, so that what is there early can be read.
    std::stable_partition(recipes.begin(), recipes.end(), [&](const LabRecipe* recipe) {
      return std::any_of(file_.recipes.begin(), file_.recipes.end(),
                         [&](const LabRecipe& other) { return other.baseline == recipe->name; });
    });
    if (file_.seeds.size() * file_.tasks.size() > kMostCells / recipes.size())
      fail(Code::kExhausted, "[lab] {}: more than {} cells", origin_, kMostCells);
    for (const std::uint64_t seed : file_.seeds)
      for (const LabTask& task : file_.tasks)
        for (const LabRecipe* recipe : recipes) file_.cells.push_back({task.name, recipe->name, seed});
    if (!only_.empty()) file_.cells = choose_cells(file_, only_);
    if (!skip_.empty()) {
      const std::vector<LabCell> skipped = choose_cells(file_, skip_);
      std::erase_if(file_.cells, [&](const LabCell& cell) {
        return std::find(skipped.begin(), skipped.end(), cell) != skipped.end();
      });
    }
    if (file_.cells.empty()) fail(Code::kInvalidArgument, "[lab] {}: only and skip leave no cell", origin_);
  }

  LabFile& file_;
  const std::string origin_;
  SettingsTree defaults_;
  std::vector<std::string> seeds_, only_, skip_;
  std::string baseline_;
};

template <class Entry>
const Entry& entry_of(const std::vector<Entry>& entries, const std::string& name) {
  for (const Entry& entry : entries)
    if (entry.name == name) return entry;
  fail(Code::kInternal, "[lab] no entry '{}'", name);
}

bool matches(const std::vector<std::string>& pattern, const LabCell& cell) {
  const std::vector<std::string> parts = {cell.task, cell.recipe, std::to_string(cell.seed)};
  for (std::size_t i = 0; i < pattern.size(); ++i)
    if (::fnmatch(pattern[i].c_str(), parts[i].c_str(), FNM_NOESCAPE) != 0) return false;
  return true;
}

/// Why a pattern names nothing: the first part that no cell has, with the nearest.
std::string hint(const std::vector<std::string>& pattern, const std::vector<LabCell>& cells) {
  for (std::size_t i = 0; i < std::min<std::size_t>(pattern.size(), 2); ++i) {
    std::vector<std::string> known;
    for (const LabCell& cell : cells) known.push_back(i == 0 ? cell.task : cell.recipe);
    if (std::find(known.begin(), known.end(), pattern[i]) != known.end()) continue;
    if (const std::string near = nearest(pattern[i], known); !near.empty()) return ", did you mean '" + near + "'?";
  }
  return "; 'recast lab run FILE --list' shows them";
}

}  // namespace

std::string LabCell::id() const { return fmt::format("{}/{}/{}", task, recipe, seed); }

const LabModel& LabFile::model(const std::string& name) const { return entry_of(models, name); }
const LabTask& LabFile::task(const std::string& name) const { return entry_of(tasks, name); }
const LabRecipe& LabFile::recipe(const std::string& name) const { return entry_of(recipes, name); }

LabFile read_lab_file(const fs::path& path, const std::vector<std::string>& overrides, const fs::path& out) {
  LabFile file;
  file.path = path;
  file.tree = read_settings_tree(path);
  for (const std::string& text : overrides) override_one(file.tree, text);
  if (!out.empty()) {
    if (!file.tree.find("out")) file.tree.map.emplace_back("out", SettingsTree());
    *file.tree.find("out") = {SettingsTree::Kind::kValue, out.string(), {}, {}};
  }
  FileReader(file).read();
  if (file.out.empty())
    fail(Code::kInvalidArgument, "[lab] {} does not say where results go: out: FOLDER, or --out FOLDER",
         printable_path(path));
  return file;
}

std::vector<LabCell> choose_cells(const LabFile& file, const std::vector<std::string>& patterns) {
  if (patterns.empty()) return file.cells;
  std::vector<bool> wanted(file.cells.size());
  for (const std::string& text : patterns) {
    const std::vector<std::string> pattern = parts_of(text, '/');
    if (pattern.size() > 3)
      fail(Code::kInvalidArgument, "[lab] '{}' is no pattern of cells: expected TASK/RECIPE/SEED", printable(text));
    bool found = false;
    for (std::size_t i = 0; i < file.cells.size(); ++i) {
      if (!matches(pattern, file.cells[i])) continue;
      wanted[i] = found = true;
    }
    if (!found)
      fail(Code::kInvalidArgument, "[lab] no cell matches '{}'{}", printable(text), hint(pattern, file.cells));
  }
  std::vector<LabCell> chosen;
  for (std::size_t i = 0; i < file.cells.size(); ++i)
    if (wanted[i]) chosen.push_back(file.cells[i]);
  return chosen;
}

}  // namespace recast
