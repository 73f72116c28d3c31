#include "learn_plan.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <charconv>

#include "journal.h"
#include "recast/base/error.h"
#include "recast/base/lower_case.h"
#include "recast/data/augment.h"
#include "recast/format/settled_path.h"
#include "recast/run/machine.h"

namespace recast {
namespace {

template <class T>
void require(const std::optional<T>& value, bool (*good)(T), const char* flag, const char* range) {
  if (value && !good(*value)) fail(Code::kInvalidArgument, "[learn] --{} must be {}, got {}", flag, range, *value);
}

bool positive_count(std::int64_t n) { return n > 0; }
bool natural(std::int64_t n) { return n >= 0; }
bool positive_rate(double x) { return x > 0 && std::isfinite(x); }
bool non_negative(double x) { return x >= 0 && std::isfinite(x); }

Recipe resolved_recipe(const LearnRequest& request) {
  Recipe recipe = find_recipe(request.recipe);
  const bool one_rate = recipe.head_rate == recipe.rate && !recipe.suggested_rates;
  if (request.lr) {
    recipe.rate = *request.lr;
    recipe.suggested_rates = false;
    if (one_rate) recipe.head_rate = *request.lr;
  }
  recipe.epochs = request.epochs.value_or(recipe.epochs);
  recipe.batch_size = request.batch_size.value_or(recipe.batch_size);
  recipe.head_rate = request.head_lr.value_or(recipe.head_rate);
  recipe.weight_decay = request.weight_decay.value_or(recipe.weight_decay);
  recipe.augmentation = request.augmentation.value_or(recipe.augmentation);
  recipe.bf16 = request.bf16.value_or(recipe.bf16 || (recipe.bf16_where_native && multiplies_bf16()));
  return recipe;
}

/// A head for fixed features learns in one exact pass, and is measured in fp32: it gets the features that it is
/// measured on. A rounding that training would walk off stays in sums and inverses for good, and the pass is made once.
bool wants_exact_features(const Composition& recipe) {
  return std::any_of(recipe.plugs().begin(), recipe.plugs().end(),
                     [](const Plug& plug) { return plug.info->has(Need::kFixedFeatures); });
}

/// Those of --bn task beside the others.
std::vector<PlugSpec> with_own_statistics(std::vector<PlugSpec> plugs) {
  for (const MethodInfo* info : Registry::instance().all()) {
    const bool named =
        std::any_of(plugs.begin(), plugs.end(), [&](const PlugSpec& plug) { return plug.method == info->name; });
    if (info->has(Claim::kOwnStatistics) && !named) plugs.insert(plugs.begin(), {info->name, info->name, {}});
  }
  return plugs;
}

/// One black image through the bare backbone: a size that does not fit shows here, with the nearest that do.
void try_image_size(const ModelDirectory& directory, std::int64_t size) {
  const at::NoGradGuard no_grad;
  PlainRoute route(*directory.backbone());
  directory.backbone()->features(at::zeros({1, 3, size, size}, at::device(directory.device())), route);
}

std::string seeds_text(const std::vector<std::uint64_t>& seeds) { return fmt::format("{}", fmt::join(seeds, ",")); }

std::string number(double value) { return fmt::format("{}", value); }

/// FIRST of "vFIRST" with `end` behind it; 0: another name.
std::int64_t first_version(std::string_view name, std::string_view end) {
  std::int64_t first = 0;
  if (!name.starts_with("v") || !name.ends_with(end)) return 0;
  const char* stop = name.data() + name.size() - end.size();
  const auto parsed = std::from_chars(name.data() + 1, stop, first);
  return parsed.ec == std::errc() && parsed.ptr == stop ? first : 0;
}

}  // namespace

void check_request(const LearnRequest& request) {
  if (request.directory.empty())
    fail(Code::kInvalidArgument, "[learn] no model directory given: recast learn DIR --task NAME --data PATH");
  if (request.task.empty()) fail(Code::kInvalidArgument, "[learn] --task NAME is missing");
  if (request.data.empty()) fail(Code::kInvalidArgument, "[learn] --data PATH is missing");
  check_task_name(request.task);
  if (!request.shared.empty()) check_task_name(request.shared);
  require(request.image_size, positive_count, "image-size", "at least 1");
  require(request.epochs, natural, "epochs", "0 or more");
  require(request.batch_size, positive_count, "batch-size", "at least 1");
  require(request.lr, positive_rate, "lr", "above 0");
  require(request.head_lr, non_negative, "head-lr", "0 or more");
  require(request.weight_decay, non_negative, "weight-decay", "0 or more");
  if (request.bn != "frozen" && request.bn != "task")
    fail(Code::kInvalidArgument, "[learn] --bn must be frozen or task, got '{}'", request.bn);
  if (request.augmentation) Augmentation::named(*request.augmentation);
  if (request.limit_train < 0 || request.limit_validation < 0 || request.limit_test < 0)
    fail(Code::kInvalidArgument, "[learn] --limit-train, --limit-validation and --limit-test must be 0 (all) or more");
  if (request.mlflow) mlflow_folder(*request.mlflow);
  find_recipe(request.recipe);
  for (const std::string& plug : request.plugs) {
    const PlugSpec spec = parse_plug(plug);
    Registry::instance().find(spec.method).make(spec.options);
  }
}

LearnPlan plan_learning(const LearnRequest& request, const ModelDirectory& directory) {
  LearnPlan plan;
  plan.recipe = resolved_recipe(request);
  std::vector<PlugSpec> chosen;
  for (const std::string& plug : request.plugs) chosen.push_back(parse_plug(plug));
  const Anatomy& anatomy = directory.backbone()->anatomy();
  std::vector<PlugSpec> plugs = merge_plugs(plan.recipe, std::move(chosen), anatomy);
  if (request.bn == "task") plugs = with_own_statistics(std::move(plugs));
  plan.composition = compose(plugs, anatomy);
  plan.recipe.plugs = plan.composition->specs();
  if (wants_exact_features(*plan.composition)) plan.recipe.bf16 = request.bf16.value_or(false);
  plan.image_size = request.image_size.value_or(directory.files().config.preprocessing.size_px);
  Preprocessing preprocessing = directory.files().config.preprocessing;
  preprocessing.size_px = plan.image_size;
  check(preprocessing);
  try_image_size(directory, plan.image_size);
  return plan;
}

std::int64_t newest_version(const ModelDirectory& directory, const std::string& task) {
  for (const TaskSummary& known : directory.store().list(true)) {
    if (known.name == task) return known.version;
    if (lower_case(known.name) == lower_case(task))
      fail(Code::kAlreadyExists,
           "[learn] task '{}' differs from '{}' in upper and lower case only: choose another name", task, known.name);
  }
  return 0;
}

std::filesystem::path folder_of_versions(const LearnRequest& request, const ModelDirectory& directory,
                                         std::string_view end) {
  namespace fs = std::filesystem;
  if (!request.run_folder.empty()) return settled(request.run_folder);
  const fs::path runs = settled(request.directory / "runs" / request.task);
  std::int64_t begun = 0;
  if (fs::is_directory(runs))
    for (const fs::directory_entry& entry : fs::directory_iterator(runs))
      begun = std::max(begun, first_version(entry.path().filename().string(), end));
  const std::int64_t newest = newest_version(directory, request.task);
  return runs / fmt::format("v{}{}", request.resume && begun > 0 ? begun : newest + 1, end);
}

Settings plan_settings(const LearnRequest& request, const LearnPlan& plan) {
  const Recipe& recipe = plan.recipe;
  auto absolute = [](const std::filesystem::path& path) { return settled(path).string(); };
  std::vector<std::string> plugs;
  for (const PlugSpec& plug : recipe.plugs) plugs.push_back(plug_text(plug));
  Settings settings = {{"dir", {absolute(request.directory)}},
                       {"task", {request.task}},
                       {"data", {request.data.empty() ? "" : absolute(request.data)}},
                       {"recipe", {recipe.name}},
                       {"plug", plugs},
                       {"image-size", {std::to_string(plan.image_size)}},
                       {"epochs", {std::to_string(recipe.epochs)}},
                       {"batch-size", {std::to_string(recipe.batch_size)}}};
  // Absent, each plug-in's own rate holds: no one number says the same.
  if (!recipe.suggested_rates) settings.push_back({"lr", {number(recipe.rate)}});
  settings.insert(settings.end(), {{"head-lr", {number(recipe.head_rate)}},
                                   {"weight-decay", {number(recipe.weight_decay)}},
                                   {"augmentation", {recipe.augmentation}},
                                   {"amp", {recipe.bf16 ? "bf16" : "fp32"}},
                                   request.seeds.empty() ? std::pair{"seed", std::vector{std::to_string(request.seed)}}
                                                         : std::pair{"seeds", std::vector{seeds_text(request.seeds)}},
                                   {"split-seed", {std::to_string(request.split_seed)}},
                                   {"limit-train", {std::to_string(request.limit_train)}},
                                   {"limit-test", {std::to_string(request.limit_test)}},
                                   {"bad-images", {request.bad_images == BadImages::kSkip ? "skip" : "stop"}},
                                   {"device", {request.device}}});
  // Younger than files that must still resume: written where they say something.
  if (request.limit_validation > 0)
    settings.push_back({"limit-validation", {std::to_string(request.limit_validation)}});
  if (!request.classes.empty()) settings.push_back({"classes", request.classes});
  if (!request.superclasses.empty()) settings.push_back({"superclass", request.superclasses});
  if (!request.shared.empty()) settings.push_back({"shared-state", {request.shared}});
  if (!request.test) settings.push_back({"no-test", {"true"}});
  if (request.tensorboard) settings.push_back({"tensorboard", {"true"}});
  if (request.mlflow) settings.push_back({"mlflow", {"true"}});
  settings_yaml(settings);  // throws where a value cannot be written, before anything is
  return settings;
}

ModelDirectory open_directory(const LearnRequest& request) {
  if (request.opened) return request.opened->with_fresh_store();
  return ModelDirectory::open(request.directory, true, parse_device(request.device), request.store);
}

std::string learn_settings_yaml(const LearnRequest& request) {
  if (request.directory.empty())
    fail(Code::kInvalidArgument, "[learn] no model directory given: which plug-ins fit depends on it");
  const ModelDirectory directory = open_directory(request);
  return settings_yaml(plan_settings(request, plan_learning(request, directory)));
}

}  // namespace recast
