#include "peft_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

// The JSON library compares each key of an object in file order with those before it.
constexpr JsonLimits kLimits{.depth = 16, .values = 10'000};
constexpr std::size_t kMostStatesTogether = 10'000;
constexpr double kMostAlpha = 1e6;

/// Fields that make another computation of LoRA when they are on.
const std::vector<std::pair<const char*, const char*>> kVariants = {
    {"use_dora", "DoRA"},
    {"use_qalora", "QALoRA"},
    {"use_bdlora", "BD-LoRA"},
    {"lora_bias", "a bias of its own on lora_B"},
    {"fan_in_fan_out", "weights stored [in, out]"},
    {"alora_invocation_tokens", "aLoRA"},
    {"layer_replication", "replicated layers"},
    {"target_parameters", "LoRA on parameters outside of modules"},
    {"trainable_token_indices", "trained tokens"},
    {"arrow_config", "Arrow routing"},
    {"kasa_config", "KaSA"},
    {"monteclora_config", "MonteCLoRA"},
    {"velora_config", "VeLoRA"},
    {"megatron_config", "Megatron's layers"},
};

/// Fields that say nothing about what a loaded adapter computes.
const std::set<std::string, std::less<>> kHarmless = {
    "auto_mapping", "corda_config",      "ensure_weight_tying", "eva_config",    "inference_mode",
    "lora_dropout", "lora_ga_config",    "loftq_config",        "megatron_core", "peft_version",
    "revision",     "qalora_group_size", "runtime_config",      "task_type",
};

const std::set<std::string, std::less<>> kRead = {
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_rslora",
};

using Json = nlohmann::ordered_json;

class Reader {
 public:
  Reader(const Json& object, std::string_view origin) : object_(object), origin_(origin) {}

  PeftConfig run() {
    require_lora();
    refuse_variants();
    PeftConfig config;
    config.rank = rank(field("r"), "r", config.rank);
    config.alpha = alpha(field("lora_alpha"), "lora_alpha", config.alpha);
    config.rank_stabilised = flag("use_rslora");
    for (const auto& [key, value] : entries("rank_pattern"))
      config.rank_pattern.emplace_back(key, rank(&value, "rank_pattern", 0));
    for (const auto& [key, value] : entries("alpha_pattern"))
      config.alpha_pattern.emplace_back(key, alpha(&value, "alpha_pattern", 0));
    config.targets = choice("target_modules");
    config.excluded = choice("exclude_modules");
    config.layers = layers();
    config.layers_pattern = texts("layers_pattern");
    config.modules_to_save = texts("modules_to_save");
    if (const Json* base = field("base_model_name_or_path"); base != nullptr)
      config.base_model = text(*base, "base_model_name_or_path");
    for (const auto& [key, value] : object_.items())
      if (!kRead.contains(key) && !kHarmless.contains(key) && !is_variant(key)) config.ignored.push_back(key);
    return config;
  }

 private:
  [[noreturn]] void bad(std::string_view name, std::string_view expected) const {
    const auto found = object_.find(std::string(name));
    fail(Code::kDataCorruption, "[peft] {}: {} must be {}, got {}", origin_, name, expected,
         found == object_.end() ? "nothing" : printable(found->dump()));
  }

  /// Null where the field is absent or null.
  const Json* field(std::string_view name) const {
    const auto found = object_.find(std::string(name));
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  static bool is_variant(std::string_view name) {
    return std::ranges::any_of(kVariants, [&](const auto& variant) { return variant.first == name; });
  }
  static bool is_off(const Json& value) {
    return value.is_null() || value == false || value == 0 || value == "" || (value.is_structured() && value.empty());
  }

  void require_lora() const {
    const Json* type = field("peft_type");
    if (type == nullptr || !type->is_string()) bad("peft_type", "the type of the adapter, such as \"LORA\"");
    if (*type == kPeftLora) return;
    fail(Code::kUnsupported, "[peft] {}: an adapter of type {}; recast reads {} alone", origin_,
         printable(type->get<std::string>()), kPeftLora);
  }

  void refuse_variants() const {
    const auto refuse = [&](std::string_view name, const std::string& what) {
      fail(Code::kUnsupported,
           "[peft] {}: {} asks for {}; recast reads plain LoRA with use_rslora, rank_pattern, alpha_pattern and "
           "modules_to_save",
           origin_, name, what);
    };
    for (const auto& [name, what] : kVariants) {
      const auto found = object_.find(name);
      if (found != object_.end() && !is_off(*found)) refuse(name, what);
    }
    if (const Json* bias = field("bias"); bias != nullptr && *bias != "none")
      refuse("bias", "trained biases (" + printable(bias->dump()) + ")");
    // These start from changed base weights, which the folder does not hold.
    const Json* start = field("init_lora_weights");
    const bool changes_base =
        start != nullptr && start->is_string() && *start != "gaussian" && *start != "eva" && *start != "orthogonal";
    if (changes_base)
      refuse("init_lora_weights", printable(start->dump()) +
                                      ", whose base weights are not the model's: save it converted to plain LoRA "
                                      "(path_initial_model_for_weight_conversion)");
  }

  bool flag(std::string_view name) const {
    const Json* value = field(name);
    if (value == nullptr) return false;
    if (!value->is_boolean()) bad(name, "true or false");
    return value->get<bool>();
  }

  std::int64_t rank(const Json* value, std::string_view name, std::int64_t otherwise) const {
    if (value == nullptr) return otherwise;
    if (!value->is_number_integer() || *value < 1 || *value > kMostPeftRank)
      bad(name, fmt::format("made of ranks from 1 to {}", kMostPeftRank));
    return value->get<std::int64_t>();
  }

  double alpha(const Json* value, std::string_view name, double otherwise) const {
    if (value == nullptr) return otherwise;
    const double number = value->is_number() ? value->get<double>() : 0;
    if (!(number > 0 && number <= kMostAlpha)) bad(name, "made of numbers above 0, at most 1,000,000");
    return number;
  }

  std::string text(const Json& value, std::string_view name) const {
    if (!value.is_string()) bad(name, "text");
    return value.get<std::string>();
  }

  /// Pairs in the file's order.
  std::vector<std::pair<std::string, Json>> entries(std::string_view name) const {
    const Json* value = field(name);
    if (value == nullptr) return {};
    if (!value->is_object()) bad(name, "an object from module names to numbers");
    std::vector<std::pair<std::string, Json>> all;
    for (const auto& [key, entry] : value->items()) all.emplace_back(key, entry);
    return all;
  }

  /// A list of texts; one text alone is a list of one.
  std::vector<std::string> texts(std::string_view name) const {
    const Json* value = field(name);
    if (value == nullptr) return {};
    if (value->is_string()) return {value->get<std::string>()};
    if (!value->is_array()) bad(name, "a list of texts");
    std::vector<std::string> all;
    for (const Json& one : *value) all.push_back(text(one, name));
    return all;
  }

  PeftModuleChoice choice(std::string_view name) const {
    const Json* value = field(name);
    if (value == nullptr || (value->is_array() && value->empty())) return {};
    if (*value == "all-linear") return {};  // which modules are linear the tensors tell
    if (value->is_string()) return {{}, value->get<std::string>(), true};
    return {texts(name), {}, true};
  }

  std::vector<std::int64_t> layers() const {
    const char* name = "layers_to_transform";
    const Json* value = field(name);
    if (value == nullptr) return {};
    std::vector<std::int64_t> numbers;
    const auto take = [&](const Json& one) {
      if (!one.is_number_integer() || one < 0 || one > 100'000) bad(name, "a number of a layer or a list of such");
      numbers.push_back(one.get<std::int64_t>());
    };
    if (value->is_array()) {
      for (const Json& one : *value) take(one);
    } else {
      take(*value);
    }
    return numbers;
  }

  const Json& object_;
  std::string_view origin_;
};

bool is_plain(std::string_view expression) {
  return std::ranges::all_of(expression, [](unsigned char c) {
    return (std::isalnum(c) != 0 && c < 128) || c == '_' || c == '-' || c == '.';
  });
}

/// Whether `module` is a name of the list or ends in one after a dot.
bool names_it(const std::vector<std::string>& names, std::string_view module) {
  return std::ranges::any_of(names, [&](const std::string& name) {
    return module == name ||
           (module.ends_with(name) && module.size() > name.size() && module[module.size() - name.size() - 1] == '.');
  });
}

/// 8 for 8.0, as PEFT writes what was given as a whole number.
nlohmann::json number_of(double value) {
  const double most_exact = 9e15;
  if (std::floor(value) == value && std::abs(value) < most_exact) return static_cast<std::int64_t>(value);
  return value;
}

}  // namespace

bool PeftConfig::saves(std::string_view classifier) const {
  return std::ranges::any_of(modules_to_save,
                             [&](const std::string& name) { return !name.empty() && classifier.ends_with(name); });
}

PeftConfig parse_peft_config(std::string_view text, std::string_view origin) {
  if (text.size() > kMostPeftConfigBytes)
    fail(Code::kExhausted, "[peft] {}: {} bytes, at most {} are read", origin, text.size(), kMostPeftConfigBytes);
  if (!parse_json(text, origin, kLimits).is_object())
    fail(Code::kDataCorruption, "[peft] {}: no JSON object, so not written by PEFT", origin);
  // Once more for the order of patterns, which counts: it is known by now that the text is small and sound.
  const Json object = Json::parse(text);
  return Reader(object, origin).run();
}

std::string encode_peft_config(const PeftConfig& config) {
  nlohmann::json ranks = nlohmann::json::object(), alphas = nlohmann::json::object();
  for (const auto& [key, rank] : config.rank_pattern) ranks[key] = rank;
  for (const auto& [key, alpha] : config.alpha_pattern) alphas[key] = number_of(alpha);
  const nlohmann::json object = {{"alpha_pattern", alphas},
                                 {"base_model_name_or_path", config.base_model},
                                 {"bias", "none"},
                                 {"fan_in_fan_out", false},
                                 {"inference_mode", true},
                                 {"init_lora_weights", true},
                                 {"lora_alpha", number_of(config.alpha)},
                                 {"lora_dropout", 0.0},
                                 {"modules_to_save", config.modules_to_save},
                                 {"peft_type", kPeftLora},
                                 {"r", config.rank},
                                 {"rank_pattern", ranks},
                                 {"target_modules", config.targets.names},
                                 {"task_type", nullptr},
                                 {"use_dora", false},
                                 {"use_rslora", config.rank_stabilised}};
  return object.dump(2) + "\n";
}

PeftRules::PeftRules(const PeftConfig& config, std::string_view origin) : config_(config), origin_(origin) {
  for (const auto& [key, rank] : config_.rank_pattern) ranks_.push_back(ending(key));
  for (const auto& [key, alpha] : config_.alpha_pattern) alphas_.push_back(ending(key));
  if (!config_.targets.expression.empty()) targets_ = counted(config_.targets.expression);
  if (!config_.excluded.expression.empty()) excluded_ = counted(config_.excluded.expression);
  for (const std::string& name : config_.layers_pattern)
    if (!is_plain(name))
      fail(Code::kUnsupported, "[peft] {}: layers_pattern '{}' is an expression; recast reads plain names there",
           origin_, printable(name));
}

Pattern PeftRules::counted(const std::string& expression) {
  Pattern pattern(expression, origin_);
  states_ += pattern.states();
  if (states_ > kMostStatesTogether)
    fail(Code::kExhausted, "[peft] {}: its patterns need more than {} states together", origin_, kMostStatesTogether);
  return pattern;
}

/// PEFT tries re.match("(.*\.)?(KEY)$", name).
PeftRules::Ending PeftRules::ending(const std::string& expression) {
  if (is_plain(expression)) return {expression, {}};
  return {{}, counted("(.*\\.)?(" + expression + ")$")};
}

bool PeftRules::Ending::matches(std::string_view module) const {
  if (pattern) return pattern->matches(module);
  if (plain.size() > module.size()) return false;
  const std::size_t begin = module.size() - plain.size();
  if (begin > 0 && module[begin - 1] != '.') return false;
  for (std::size_t i = 0; i < plain.size(); ++i)
    if (plain[i] != '.' && plain[i] != module[begin + i]) return false;
  return true;
}

std::int64_t PeftRules::rank(std::string_view module) const {
  for (std::size_t i = 0; i < ranks_.size(); ++i)
    if (ranks_[i].matches(module)) return config_.rank_pattern[i].second;
  return config_.rank;
}

double PeftRules::alpha(std::string_view module) const {
  for (std::size_t i = 0; i < alphas_.size(); ++i)
    if (alphas_[i].matches(module)) return config_.alpha_pattern[i].second;
  return config_.alpha;
}

/// PEFT takes the first number that stands between dots after one of layers_pattern; where there is none, after any
/// name that is not the first.
bool PeftRules::in_layers(std::string_view module) const {
  const auto number_after = [&](const auto& fits) -> std::optional<std::int64_t> {
    for (std::size_t dot = module.find('.'); dot != module.npos; dot = module.find('.', dot + 1)) {
      std::int64_t number = 0;
      const char *begin = module.data() + dot + 1, *end = module.data() + module.size();
      const auto [stop, error] = std::from_chars(begin, end, number);
      if (error == std::errc() && stop != end && *begin != '-' && *stop == '.' && fits(module.substr(0, dot)))
        return number;
    }
    return {};
  };
  std::optional<std::int64_t> number;
  if (config_.layers_pattern.empty())
    number = number_after([](std::string_view before) { return before.find('.') != before.npos; });
  for (const std::string& name : config_.layers_pattern)
    if (!number) number = number_after([&](std::string_view before) { return names_it({name}, before); });
  return number && std::ranges::count(config_.layers, *number) > 0;
}

std::optional<bool> PeftRules::adapts(std::string_view module) const {
  if (!config_.targets.given) return {};
  if (excluded_ ? excluded_->matches(module) : names_it(config_.excluded.names, module)) return false;
  if (targets_) return targets_->matches(module);
  if (std::ranges::count(config_.targets.names, module) > 0) return true;
  return names_it(config_.targets.names, module) && (config_.layers.empty() || in_layers(module));
}

}  // namespace recast
