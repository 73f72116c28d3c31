#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "peft_config.h"
#include "peft_modules.h"
#include "peft_task.h"
#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/utf8.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

/// One update of rows begin..end of a slot, from any plug-in.
struct Update {
  at::Tensor a, b;
  std::int64_t begin, end;
  double alpha;
  bool rank_stabilised;

  std::int64_t rank() const { return a.size(0); }
  double scale() const {
    const double r = static_cast<double>(rank());
    return alpha / (rank_stabilised ? std::sqrt(r) : r);
  }
};

/// What a module of the library's model gets.
struct Adapter {
  at::Tensor a, b;
  double alpha;
};

/// An option of a plug-in as the task was learned with it.
std::string option_of(const Plug& plug, const std::string& name, const std::string& otherwise) {
  if (const auto given = plug.spec.options.find(name); given != plug.spec.options.end()) return given->second;
  for (const OptionSpec& option : plug.info->options)
    if (option.name == name) return option.default_text;
  return otherwise;
}

template <class T>
T option_as(const Plug& plug, const std::string& name, const std::string& otherwise) {
  T value{};
  const std::string text = option_of(plug, name, otherwise);
  if (!parse_option(text, value))
    fail(Code::kDataCorruption, "[{}] option {} is '{}'", plug.alias(), name, printable(text));
  return value;
}

/// The value that most modules share.
template <class T>
T most_common(const std::vector<T>& values) {
  return *std::ranges::max_element(values, {}, [&](const T& value) { return std::ranges::count(values, value); });
}

class PeftWriter {
 public:
  PeftWriter(const ModelDirectory& directory, const TaskRecord& record, const std::string& library)
      : record_(record),
        files_(directory.files()),
        anatomy_(directory.backbone()->anatomy()),
        recipe_(compose(record.plugs, anatomy_)),
        naming_(peft_naming(anatomy_, library.empty() ? recorded("names", "timm") : library)) {
    if (naming_.library == recorded("names", "")) use_prefix(recorded("prefix", naming_.prefix));
  }

  void run(const std::string& base_model) {
    for (const Plug& plug : recipe_->plugs()) collect(plug);
    if (adapter_ == nullptr)
      fail(Code::kUnsupported, "[peft] task '{}' has no plug-in that PEFT knows; a folder needs LoRA", record_.name);
    for (const PeftModule& module : naming_.modules) add(module);
    choose_common();
    add_head();
    config_.base_model = !base_model.empty() ? base_model : recorded("base_model", files_.config.architecture);
    if (config_.base_model.empty()) config_.base_model = files_.config.architecture;
    if (!is_utf8(config_.base_model))
      fail(Code::kInvalidArgument, "[peft] --base-model is no UTF-8: {}", printable(config_.base_model));
    config_.modules_to_save = {naming_.classifier};
    tensors_.metadata["format"] = "pt";
    tensors_.metadata["recast"] = canonical_json({{"base_fingerprint", record_.fingerprint},
                                                  {"image_size", image_size()},
                                                  {"labels", record_.labels},
                                                  {"task", record_.name}});
    note_lossy_banks();
  }

  const PeftConfig& config() const { return config_; }
  const PeftNaming& naming() const { return naming_; }
  const TensorFile& tensors() const { return tensors_; }
  const nlohmann::json& notes() const { return notes_; }

 private:
  /// What the folder that the task came from had; only such tasks have it.
  std::string recorded(const char* key, const std::string& otherwise) const {
    const nlohmann::json& recipe = record_.recipe;
    const bool from_peft = recipe.is_object() && recipe.contains("name") && recipe["name"] == "peft";
    return from_peft && recipe.contains(key) && recipe[key].is_string() ? recipe[key].get<std::string>() : otherwise;
  }
  nlohmann::json image_size() const {
    const bool has = record_.recipe.is_object() && record_.recipe.contains("image_size");
    return has ? record_.recipe["image_size"] : nlohmann::json(files_.config.preprocessing.size_px);
  }

  void use_prefix(const std::string& prefix) {
    for (PeftModule& module : naming_.modules) module.name = prefix + module.name.substr(naming_.prefix.size());
    naming_.prefix = prefix;
  }

  void collect(const Plug& plug) {
    const bool head = plug.roles.head != nullptr && plug.info->has(Claim::kDefaultHead);
    if (plug.info->peft_type == kPeftLora) return collect_updates(plug);
    if (head || !(plug.roles.weight || plug.roles.branch || plug.roles.head)) return;
    fail(Code::kUnsupported,
         "[peft] task '{}' uses '{}' ({}), which PEFT cannot express; 'recast tasks export' writes it"
         " as a task file",
         record_.name, plug.alias(), plug.info->summary);
  }

  void collect_updates(const Plug& plug) {
    if (adapter_ == nullptr) adapter_ = &plug;
    const State& own = record_.numbers.at(plug.alias(), Scope::kTask);
    const double alpha = option_as<double>(plug, "alpha", "");
    const bool stabilised = option_as<bool>(plug, "rslora", "false");
    for (const Slot& slot : anatomy_.slots) {
      std::vector<Part> places = {{"", 0, slot.shape.empty() ? 0 : slot.shape[0]}};
      places.insert(places.end(), slot.parts.begin(), slot.parts.end());
      for (const Part& place : places) {
        if (!own.has(number_name("a", slot.name, place.name))) continue;
        const std::string alpha_name = number_name("alpha", slot.name, place.name);
        Update update{own.tensor(number_name("a", slot.name, place.name)),
                      own.tensor(number_name("b", slot.name, place.name)),
                      place.begin,
                      place.end,
                      own.has(alpha_name) ? own.real(alpha_name) : alpha,
                      stabilised};
        check(slot, update);
        updates_[slot.name].push_back(std::move(update));
      }
    }
  }

  void check(const Slot& slot, const Update& update) const {
    const at::IntArrayRef shape = slot.shape;
    const bool fits = shape.size() >= 2 && update.a.dim() == update.b.dim() &&
                      update.a.dim() == static_cast<std::int64_t>(shape.size()) && update.a.size(0) >= 1 &&
                      update.a.sizes().slice(1) == shape.slice(1) && update.b.size(1) == update.a.size(0) &&
                      update.b.size(0) == update.end - update.begin &&
                      update.b.numel() == update.b.size(0) * update.b.size(1);
    if (!fits)
      fail(Code::kShapeMismatch, "[peft] task '{}': the numbers at {} do not fit this backbone", record_.name,
           slot.name);
  }

  /// The rows that a module has of its slot: a part's, or all.
  Part rows_of(const PeftModule& module) const {
    const Slot& slot = anatomy_.at(module.slot);
    for (const Part& part : slot.parts)
      if (part.name == module.part) return part;
    return {"", 0, slot.shape[0]};
  }

  void add(const PeftModule& module) {
    const auto found = updates_.find(module.slot);
    if (found == updates_.end()) return;
    const Part rows = rows_of(module);
    std::vector<const Update*> meant;
    for (const Update& update : found->second)
      if (update.begin < rows.end && rows.begin < update.end) meant.push_back(&update);
    if (meant.empty()) return;
    const Adapter adapter = joined(meant, rows);
    const std::string name = "base_model.model." + module.name;
    tensors_.tensors[name + ".lora_A.weight"] = adapter.a;
    tensors_.tensors[name + ".lora_B.weight"] = adapter.b;
    config_.targets.names.push_back(module.name);
    ranks_.push_back(adapter.a.size(0));
    alphas_.push_back(adapter.alpha);
  }

  /// One update for a module out of those that meet its rows. Where the module is a whole slot and the updates are of
  /// parts, or several meet: their A on top of each other, their B side by side at their rows, zeros elsewhere. That is
  /// their sum exactly; a B whose scale differs from the first one's takes the quotient.
  Adapter joined(const std::vector<const Update*>& updates, const Part& rows) const {
    const Update& first = *updates.front();
    const bool stabilised = main_stabilised();
    if (updates.size() == 1 && first.begin <= rows.begin && first.end >= rows.end)
      return {first.a, first.b.slice(0, rows.begin - first.begin, rows.end - first.begin).contiguous(),
              first.rank_stabilised == stabilised ? first.alpha : alpha_for(first.scale(), first.rank(), stabilised)};
    std::vector<at::Tensor> as, bs;
    std::int64_t rank = 0;
    for (const Update* update : updates) {
      const std::int64_t begin = std::max(update->begin, rows.begin), end = std::min(update->end, rows.end);
      std::vector<std::int64_t> shape = update->b.sizes().vec();
      shape[0] = rows.end - rows.begin;
      at::Tensor b = at::zeros(shape);
      b.slice(0, begin - rows.begin, end - rows.begin)
          .copy_(update->b.slice(0, begin - update->begin, end - update->begin) * (update->scale() / first.scale()));
      as.push_back(update->a);
      bs.push_back(b);
      rank += update->rank();
    }
    return {at::cat(as, 0), at::cat(bs, 1).contiguous(), alpha_for(first.scale(), rank, stabilised)};
  }
  bool main_stabilised() const { return option_as<bool>(*adapter_, "rslora", "false"); }
  static double alpha_for(double scale, std::int64_t rank, bool stabilised) {
    const double r = static_cast<double>(rank);
    return scale * (stabilised ? std::sqrt(r) : r);
  }

  /// r and lora_alpha as the task has them, where a module does; patterns name the others.
  void choose_common() {
    if (ranks_.empty())
      fail(Code::kUnsupported, "[peft] task '{}' adapts nothing that {} has a name for", record_.name, naming_.library);
    config_.rank = option_as<std::int64_t>(*adapter_, "rank", "");
    config_.alpha = option_as<double>(*adapter_, "alpha", "");
    config_.rank_stabilised = main_stabilised();
    config_.targets.given = true;
    if (std::ranges::count(ranks_, config_.rank) == 0) config_.rank = most_common(ranks_);
    if (std::ranges::count(alphas_, config_.alpha) == 0) config_.alpha = most_common(alphas_);
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      const std::string& module = config_.targets.names[i];
      if (ranks_[i] != config_.rank) config_.rank_pattern.emplace_back(module, ranks_[i]);
      if (alphas_[i] != config_.alpha) config_.alpha_pattern.emplace_back(module, alphas_[i]);
    }
  }

  void add_head() {
    const Plug& head = recipe_->head();
    const State& own = record_.numbers.at(head.alias(), Scope::kTask);
    const std::optional<at::Tensor> rows = head.roles.head->class_rows(own);
    if (!rows || !own.has("bias"))
      fail(Code::kUnsupported, "[peft] task '{}': head '{}' is no linear classifier", record_.name, head.alias());
    at::Tensor weight = rows->contiguous();
    const std::int64_t width = anatomy_.at("patch_embed").shape[0];
    const std::string& pooling = files_.config.vit().pooling;
    const bool reads_average = naming_.library != "timm" && peft_family(anatomy_) != "vit";
    if (pooling == "token" && reads_average) {
      weight = at::cat({weight, at::zeros({weight.size(0), width})}, 1);
    } else if (pooling != (reads_average ? "token+average" : "token")) {
      fail(Code::kUnsupported, "[peft] the head reads pooling '{}', the classifier of {} for {} does not", pooling,
           naming_.library, peft_family(anatomy_));
    }
    const std::string name =
        "base_model.model." + (naming_.library == "timm" ? naming_.prefix : "") + naming_.classifier;
    tensors_.tensors[name + ".weight"] = weight;
    tensors_.tensors[name + ".bias"] = own.tensor("bias");
  }

  void note_lossy_banks() {
    const BankConfig& bank = files_.config.bank;
    for (const BankConfig::Group& group : bank.members)
      if (bank.templates_of(group) < static_cast<std::int64_t>(group.slots.size())) {
        notes_.push_back(
            "this backbone was rebuilt from fewer templates than slots: its weights, and so the logits, differ from "
            "those of the base model");
        return;
      }
  }

  const TaskRecord& record_;
  const ModelFiles& files_;
  const Anatomy& anatomy_;
  std::shared_ptr<const Composition> recipe_;
  PeftNaming naming_;
  const Plug* adapter_ = nullptr;  ///< the first plug-in of type LORA
  std::map<std::string, std::vector<Update>> updates_;
  std::vector<std::int64_t> ranks_;
  std::vector<double> alphas_;
  PeftConfig config_;
  TensorFile tensors_;
  nlohmann::json notes_ = nlohmann::json::array();
};

/// Made, or found to be empty or an older adapter that may be replaced.
void prepare_folder(const fs::path& folder, bool force) {
  const std::string shown = printable_path(folder);
  if (!fs::exists(fs::symlink_status(folder))) {
    std::error_code error;
    if (!fs::create_directories(folder, error) && error)
      fail(Code::kUnavailable, "[peft] cannot create {}: {}", shown, error.message());
    return;
  }
  if (!fs::is_directory(folder)) fail(Code::kAlreadyExists, "[peft] {} is a file: choose another folder", shown);
  if (fs::is_empty(folder)) return;
  if (!force)
    fail(Code::kAlreadyExists, "[peft] {} exists: choose another folder, or --force to replace its adapter", shown);
  if (!fs::exists(folder / kPeftConfigFile))
    fail(Code::kAlreadyExists, "[peft] {} is not empty and holds no adapter, so --force does not replace it", shown);
  fs::remove(folder / kPeftConfigFile);  // without it a half-written folder is none
}

std::string card(const PeftConfig& config, const PeftNaming& naming, const TaskRecord& record) {
  const auto text = [](const std::string& value) { return nlohmann::json(printable(value, 400)).dump(); };
  const std::string classes = naming.library == "timm" ? "num_classes" : "num_labels";
  return fmt::format(
      "---\nbase_model: {}\nlibrary_name: peft\ntags:\n- lora\n- image-classification\n---\n"
      "# {}\n\nLoRA on {} modules and a classifier of {} classes, written by recast. Modules are named as {} names "
      "them.\n\n```python\nmodel = PeftModel.from_pretrained(base, \".\")  # base: the same weights, {}={}\n```\n",
      text(config.base_model), printable(record.name), config.targets.names.size(), record.labels.size(),
      naming.library, classes, record.labels.size());
}

}  // namespace

nlohmann::json write_peft_task(const ModelDirectory& directory, const TaskRecord& record, const fs::path& folder,
                               const std::string& library, const std::string& base_model, bool force) {
  PeftWriter writer(directory, record, library);
  writer.run(base_model);
  prepare_folder(folder, force);
  const std::string tensors = encode_tensor_file(writer.tensors()), config = encode_peft_config(writer.config());
  write_file_atomically(folder / kPeftTensorFile, tensors);
  write_file_atomically(folder / "README.md", card(writer.config(), writer.naming(), record));
  write_file_atomically(folder / kPeftConfigFile, config);
  return {{"modules", writer.config().targets.names.size()},
          {"names", writer.naming().library},
          {"base_model", writer.config().base_model},
          {"bytes", tensors.size() + config.size()},
          {"notes", writer.notes()}};
}

}  // namespace recast
