#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "labels_file.h"
#include "peft_config.h"
#include "peft_modules.h"
#include "peft_task.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/import_checkpoint.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::string_view kInsideModel = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";
constexpr std::size_t kShownNames = 5;

std::string shown(const std::vector<std::string>& names) {
  std::vector<std::string> first;
  for (std::size_t i = 0; i < std::min(kShownNames, names.size()); ++i) first.push_back(printable(names[i], 200));
  return fmt::format("{}{}", fmt::join(first, ", "), names.size() > kShownNames ? ", ..." : "");
}

/// "[8, 384]"
std::string shape_text(const at::Tensor& tensor) { return fmt::format("[{}]", fmt::join(tensor.sizes(), ", ")); }

/// A folder's content before anything is known of the backbone.
struct Folder {
  std::string origin;
  PeftConfig config;
  NamedTensors a, b, saved;  ///< by module; `saved` by name without "base_model.model."
  nlohmann::json own;        ///< what recast itself left in the header; null if another program wrote it
};

at::Tensor as_fp32(const std::string& name, const at::Tensor& tensor, const std::string& origin) {
  const at::ScalarType type = tensor.scalar_type();
  if (type != at::kDouble && type != at::kFloat && type != at::kHalf && type != at::kBFloat16)
    fail(Code::kUnsupported, "[peft] {}: {} is of type {}, expected fp64, fp32, fp16 or bf16", origin,
         printable(name, 200), c10::toString(type));
  const at::Tensor converted = tensor.to(at::kFloat).contiguous();
  require_finite({{name, converted}}, origin);
  return converted;
}

/// "classifier.modules_to_save.default.weight" is how models name in memory what files call "classifier.weight".
std::string without_wrapper(std::string name) {
  for (const std::string_view wrapper : {".modules_to_save.default.", ".modules_to_save."})
    if (const auto at = name.find(wrapper); at != name.npos) return name.replace(at, wrapper.size(), ".");
  return name;
}

void sort_tensors(const TensorFile& file, Folder& folder) {
  for (const auto& [key, tensor] : file.tensors) {
    if (!key.starts_with(kInsideModel))
      fail(Code::kUnsupported, "[peft] {}: {} is no tensor of an adapter, whose names begin with {}", folder.origin,
           printable(key, 200), kInsideModel);
    const std::string name = key.substr(kInsideModel.size());
    const at::Tensor value = as_fp32(name, tensor, folder.origin);
    if (name.ends_with(kA)) {
      folder.a[name.substr(0, name.size() - kA.size())] = value;
    } else if (name.ends_with(kB)) {
      folder.b[name.substr(0, name.size() - kB.size())] = value;
    } else if (name.find(".lora_") != name.npos) {
      fail(Code::kUnsupported, "[peft] {}: {} belongs to a variant of LoRA that recast does not read", folder.origin,
           printable(name, 200));
    } else {
      folder.saved[without_wrapper(name)] = value;
    }
  }
}

fs::path folder_of(const fs::path& path) { return fs::is_directory(path) ? path : path.parent_path(); }

Folder read_folder(const fs::path& path) {
  const fs::path directory = folder_of(path);
  Folder folder;
  folder.origin = printable_path(directory);
  for (const char* name : {kPeftConfigFile, kPeftTensorFile})
    if (!fs::exists(directory / name))
      fail(Code::kNotFound, "[peft] {} has no {}{}", folder.origin, name,
           fs::exists(directory / "adapter_model.bin")
               ? ": adapter_model.bin is a pickle, which recast never opens; save it with safe_serialization=True"
               : ": an adapter folder of PEFT has adapter_config.json and adapter_model.safetensors");
  const std::string text = read_file(directory / kPeftConfigFile, kMostPeftConfigBytes);
  folder.config = parse_peft_config(text, folder.origin);
  const TensorFile file = read_tensor_file(directory / kPeftTensorFile, kTaskFileLimits);
  if (const auto own = file.metadata.find("recast"); own != file.metadata.end())
    folder.own = parse_json(own->second, folder.origin, {.depth = 8, .values = 1'000'000});
  sort_tensors(file, folder);
  return folder;
}

class PeftReader {
 public:
  PeftReader(const ModelDirectory& directory, Folder folder)
      : directory_(directory),
        folder_(std::move(folder)),
        anatomy_(directory.backbone()->anatomy()),
        rules_(folder_.config, folder_.origin) {}

  PeftTask run(const fs::path& path, const std::string& name, const fs::path& labels) {
    require_this_base();
    pair_up();
    naming_ = recognise_peft_naming(anatomy_, modules(), folder_.origin, base(), architecture());
    refuse_differences();
    set_classifier_aside();
    PlugSpec adapter = adapter_spec();
    for (const auto& [module, a] : folder_.a) take(*naming_.find(module), a, folder_.b.at(module), adapter.alias);
    take_head(std::move(adapter));
    record_.fingerprint = directory_.fingerprint();
    record_.name = !name.empty() ? name : own_text("task", fs::absolute(folder_of(path)).lexically_normal());
    take_labels(labels);
    describe();
    return {std::move(record_), facts()};
  }

 private:
  std::string base() const {
    return folder_.config.base_model.empty() ? "not named" : printable(folder_.config.base_model);
  }
  const std::string& architecture() const { return directory_.files().config.architecture; }
  std::vector<std::string> modules() const {
    std::vector<std::string> names;
    for (const auto& [module, a] : folder_.a) names.push_back(module);
    return names;
  }
  std::string own_text(const char* key, const fs::path& otherwise) const {
    const bool has = folder_.own.is_object() && folder_.own.contains(key) && folder_.own[key].is_string();
    if (has) return folder_.own[key].get<std::string>();
    return (otherwise.has_filename() ? otherwise : otherwise.parent_path()).filename().string();
  }

  /// A folder that recast wrote knows its backbone by content; others know a name at most.
  void require_this_base() const {
    const std::string made_for = own_text("base_fingerprint", directory_.fingerprint());
    if (made_for != directory_.fingerprint())
      fail(Code::kShapeMismatch, "[peft] {} belongs to backbone {}, this directory holds {}", folder_.origin,
           printable(made_for), directory_.fingerprint());
  }

  void pair_up() const {
    std::vector<std::string> missing;
    for (const auto& [module, a] : folder_.a)
      if (!folder_.b.contains(module)) missing.push_back(module + std::string(kB));
    for (const auto& [module, b] : folder_.b)
      if (!folder_.a.contains(module)) missing.push_back(module + std::string(kA));
    if (!missing.empty())
      fail(Code::kShapeMismatch, "[peft] {}: {} tensors missing: {}", folder_.origin, missing.size(), shown(missing));
    if (folder_.a.empty())
      fail(Code::kUnsupported, "[peft] {} holds no tensors of LoRA (lora_A, lora_B)", folder_.origin);
  }

  /// What the config would adapt against what the file holds.
  void refuse_differences() const {
    std::vector<std::string> missing, extra;
    for (const PeftModule& module : naming_.modules)
      if (rules_.adapts(module.name).value_or(false) && !folder_.a.contains(module.name))
        missing.push_back(module.name);
    const bool kept_whole = folder_.config.saves(naming_.classifier) || !folder_.saved.empty();
    if (!kept_whole && rules_.adapts(naming_.classifier).value_or(false) && !folder_.a.contains(naming_.classifier))
      missing.push_back(naming_.classifier);
    for (const auto& [module, a] : folder_.a)
      if (!rules_.adapts(module).value_or(true)) extra.push_back(module);
    if (!missing.empty())
      fail(Code::kShapeMismatch, "[peft] {}: target_modules names {} modules without tensors: {}", folder_.origin,
           missing.size(), shown(missing));
    if (!extra.empty())
      fail(Code::kShapeMismatch, "[peft] {}: {} modules with tensors are none of target_modules: {}", folder_.origin,
           extra.size(), shown(extra));
  }

  /// The classifier is no slot of the backbone: what LoRA adds to it goes into the task's head.
  void set_classifier_aside() {
    const auto a = folder_.a.find(naming_.classifier);
    if (a == folder_.a.end()) return;
    head_a_ = a->second;
    head_b_ = folder_.b.at(naming_.classifier);
    folder_.b.erase(naming_.classifier);
    folder_.a.erase(a);
    if (folder_.a.empty())
      fail(Code::kUnsupported, "[peft] {} adapts the classifier alone, which is a task without LoRA: save it whole",
           folder_.origin);
  }

  /// The plug-in that takes any adapter of this type.
  PlugSpec adapter_spec() const {
    const auto takes_any = [](const MethodInfo& info) {
      return info.peft_type == kPeftLora &&
             std::ranges::any_of(info.options, [](const OptionSpec& option) { return option.name == "targets"; });
    };
    for (const MethodInfo* info : Registry::instance().all()) {
      if (!takes_any(*info)) continue;
      PlugSpec spec{info->name, info->name, {}};
      spec.options = {{"rank", option_text(folder_.config.rank)},
                      {"alpha", option_text(folder_.config.alpha)},
                      {"targets", targets()}};
      if (folder_.config.rank_stabilised) spec.options["rslora"] = "true";
      return spec;
    }
    fail(Code::kUnsupported, "[peft] no plug-in of this program computes adapters of type LORA");
  }

  /// What the file adapts, as an option: "q+v+fc1".
  std::string targets() const {
    std::vector<std::string> words;
    for (const PeftModule& module : naming_.modules) {
      if (!folder_.a.contains(module.name)) continue;
      const std::string& role = anatomy_.at(module.slot).role;
      const std::string word = !module.part.empty() ? module.part : role.substr(role.rfind('.') + 1);
      if (std::ranges::count(words, word) == 0) words.push_back(word);
    }
    return fmt::format("{}", fmt::join(words, "+"));
  }

  void take(const PeftModule& module, const at::Tensor& a, const at::Tensor& b, const std::string& plug) {
    check(module, a, b);
    State& own = record_.numbers.at(plug, Scope::kTask);
    own.set(number_name("a", module.slot, module.part), a);
    own.set(number_name("b", module.slot, module.part), b);
    const double alpha = rules_.alpha(module.name);
    if (alpha != folder_.config.alpha) own.set(number_name("alpha", module.slot, module.part), alpha);
  }

  void check(const PeftModule& module, const at::Tensor& a, const at::Tensor& b) const {
    const Slot& slot = anatomy_.at(module.slot);
    std::vector<std::int64_t> a_shape = slot.shape, b_shape(slot.shape.size(), 1);
    a_shape[0] = b_shape[1] = rules_.rank(module.name);
    b_shape[0] = slot.shape[0];
    for (const Part& part : slot.parts)
      if (part.name == module.part) b_shape[0] = part.end - part.begin;
    const auto refuse_width = [&](const char* what, std::int64_t theirs, std::int64_t ours) {
      if (theirs == ours) return;
      fail(Code::kShapeMismatch, "[peft] {}: made for another base ({}), whose {} has {} {}; that of {} has {}",
           folder_.origin, base(), printable(module.name, 200), theirs, what, architecture(), ours);
    };
    if (a.dim() == static_cast<std::int64_t>(a_shape.size())) refuse_width("inputs", a.size(1), a_shape[1]);
    if (b.dim() == static_cast<std::int64_t>(b_shape.size())) refuse_width("outputs", b.size(0), b_shape[0]);
    require_shape(module.name, kA, a, a_shape);
    require_shape(module.name, kB, b, b_shape);
  }

  void require_shape(const std::string& module, std::string_view kind, const at::Tensor& given,
                     const std::vector<std::int64_t>& fits) const {
    if (given.sizes() == at::IntArrayRef(fits)) return;
    fail(Code::kShapeMismatch, "[peft] {}: {}{} is {}, expected [{}], since the config gives it rank {}",
         folder_.origin, printable(module, 200), kind, shape_text(given), fmt::join(fits, ", "), rules_.rank(module));
  }

  /// The classifier's tensor, out of `saved`; undefined if the file has none.
  at::Tensor take_saved(const std::string& suffix) {
    for (const std::string& prefix : {std::string(), naming_.prefix}) {
      const auto found = folder_.saved.find(prefix + naming_.classifier + suffix);
      if (found == folder_.saved.end()) continue;
      const at::Tensor tensor = found->second;
      folder_.saved.erase(found);
      return tensor;
    }
    return {};
  }

  void take_head(PlugSpec adapter) {
    const at::Tensor weight = take_saved(".weight"), bias = take_saved(".bias");
    if (!folder_.saved.empty())
      fail(Code::kUnsupported, "[peft] {}: {} is saved whole; recast reads the classifier ({}) alone that way",
           folder_.origin, printable(folder_.saved.begin()->first, 200), naming_.classifier);
    const bool promised = folder_.config.saves(naming_.classifier);
    if (weight.defined() != bias.defined() || (promised && !weight.defined()))
      fail(Code::kShapeMismatch, "[peft] {}: {}{} is missing", folder_.origin, naming_.classifier,
           weight.defined() ? ".bias" : ".weight");
    if (weight.defined() && head_a_.defined())
      fail(Code::kDataCorruption, "[peft] {}: {} is both saved whole and adapted by LoRA", folder_.origin,
           naming_.classifier);
    weight.defined() ? adopt(std::move(adapter), weight, bias) : borrow(std::move(adapter));
  }

  void adopt(PlugSpec adapter, at::Tensor weight, const at::Tensor& bias) {
    const auto recipe = compose({std::move(adapter)}, anatomy_);
    const std::int64_t width = directory_.backbone()->feature_width();
    if (weight.dim() != 2 || weight.size(0) < 1 || bias.sizes() != at::IntArrayRef({weight.size(0)}))
      fail(Code::kShapeMismatch, "[peft] {}: the classifier is {} with bias {}, expected [classes, {}] and [classes]",
           folder_.origin, shape_text(weight), shape_text(bias), width);
    // A classifier of DINOv2 that recast wrote for a backbone without the average has zeros there.
    const bool padded = weight.size(1) == 2 * width && weight.slice(1, width).count_nonzero().item<std::int64_t>() == 0;
    if (padded) weight = weight.slice(1, 0, width).contiguous();
    if (weight.size(1) == 2 * width)
      fail(Code::kShapeMismatch,
           "[peft] {}: its classifier reads {} features, class token and average of the patches; this backbone gives "
           "{}: import the checkpoint once more with --pooling token+average",
           folder_.origin, weight.size(1), width);
    if (weight.size(1) != width)
      fail(Code::kShapeMismatch,
           "[peft] {}: made for another base ({}), whose classifier reads {} features; {} gives {}", folder_.origin,
           base(), weight.size(1), architecture(), width);
    const Plug& head = recipe->head();
    if (!head.roles.head->adopt(weight, bias, record_.numbers.at(head.alias(), Scope::kTask)))
      fail(Code::kInternal, "[peft] the default head '{}' takes over no linear classifier", head.alias());
    record_.plugs = recipe->specs();
    head_ = "adapter";
  }

  /// PEFT leaves a classifier that an adapter does not save as the base model has it.
  void borrow(PlugSpec adapter) {
    const std::optional<TaskRecord> pretrained = directory_.store().load(kPretrainedTask);
    if (!pretrained)
      fail(Code::kNotFound,
           "[peft] {} holds no classifier (modules_to_save), and the model has no task '{}', as a checkpoint with one "
           "leaves behind",
           folder_.origin, kPretrainedTask);
    const auto base_recipe = compose(pretrained->plugs, anatomy_);
    const Plug& head = base_recipe->head();
    record_.plugs = compose({std::move(adapter), head.spec}, anatomy_)->specs();
    record_.numbers.at(head.alias(), Scope::kTask) = pretrained->numbers.at(head.alias(), Scope::kTask);
    record_.labels = pretrained->labels;
    head_ = kPretrainedTask;
    if (head_a_.defined()) update(head);
  }

  /// W + s B A on the classifier of the base model.
  void update(const Plug& head) {
    State& own = record_.numbers.at(head.alias(), Scope::kTask);
    const std::optional<at::Tensor> weight = head.roles.head->class_rows(own);
    if (!weight || !own.has("bias"))
      fail(Code::kUnsupported, "[peft] {}: LoRA on the classifier, and the head of the task '{}' is not linear",
           folder_.origin, kPretrainedTask);
    const std::string& module = naming_.classifier;
    const std::int64_t rank = rules_.rank(module);
    require_shape(module, kA, head_a_, {rank, weight->size(1)});
    require_shape(module, kB, head_b_, {weight->size(0), rank});
    const auto r = static_cast<double>(rank);
    const double scale = rules_.alpha(module) / (folder_.config.rank_stabilised ? std::sqrt(r) : r);
    const at::Tensor changed = *weight + scale * at::mm(head_b_, head_a_);
    if (!head.roles.head->adopt(changed, own.tensor("bias"), own))
      fail(Code::kInternal, "[peft] the head '{}' takes over no linear classifier", head.alias());
    head_ = fmt::format("{}+lora", kPretrainedTask);
  }

  void take_labels(const fs::path& file) {
    const auto recipe = compose(record_.plugs, anatomy_);
    const Plug& head = recipe->head();
    const auto rows = head.roles.head->class_rows(record_.numbers.at(head.alias(), Scope::kTask));
    const std::int64_t classes = rows ? rows->size(0) : static_cast<std::int64_t>(record_.labels.size());
    if (!file.empty()) {
      record_.labels = read_labels(file, classes);
    } else if (record_.labels.empty()) {
      record_.labels = own_labels(classes);
    }
  }

  std::vector<std::string> own_labels(std::int64_t classes) const {
    if (!folder_.own.is_object() || !folder_.own.contains("labels")) return numbered_labels(classes);
    const nlohmann::json& labels = folder_.own["labels"];
    const bool texts = labels.is_array() && std::ranges::all_of(labels, [](const auto& l) { return l.is_string(); });
    if (!texts || static_cast<std::int64_t>(labels.size()) != classes)
      fail(Code::kDataCorruption, "[peft] {}: its labels are no list of {} texts, one a class", folder_.origin,
           classes);
    return labels.get<std::vector<std::string>>();
  }

  void describe() {
    std::int64_t size = directory_.files().config.preprocessing.size_px;
    if (folder_.own.is_object() && folder_.own.contains("image_size") && folder_.own["image_size"].is_number_integer())
      size = folder_.own["image_size"].get<std::int64_t>();
    record_.recipe = {{"name", "peft"},
                      {"image_size", size},
                      {"names", naming_.library},
                      {"prefix", naming_.prefix},
                      {"base_model", folder_.config.base_model}};
  }

  nlohmann::json facts() const {
    return {{"format", "peft"},
            {"modules", folder_.a.size()},
            {"names", naming_.library},
            {"base_model", printable(folder_.config.base_model, 200)},
            {"head", head_},
            {"ignored", folder_.config.ignored}};
  }

  const ModelDirectory& directory_;
  Folder folder_;
  const Anatomy& anatomy_;
  PeftRules rules_;
  PeftNaming naming_;
  TaskRecord record_;
  at::Tensor head_a_, head_b_;  ///< LoRA on the classifier; undefined without
  std::string head_;
};

}  // namespace

bool is_peft_folder(const fs::path& path) {
  return fs::is_directory(path) || path.filename() == kPeftConfigFile || path.filename() == kPeftTensorFile;
}

PeftTask read_peft_task(const ModelDirectory& directory, const fs::path& path, const std::string& name,
                        const fs::path& labels) {
  PeftTask task = PeftReader(directory, read_folder(path)).run(path, name, labels);
  for (const auto& field : task.facts["ignored"])
    log_event(LogLevel::kWarn, "peft.field_ignored", {{"field", printable(field.get<std::string>())}});
  return task;
}

}  // namespace recast
