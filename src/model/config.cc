#include "recast/model/config.h"

#include <array>
#include <set>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using nlohmann::json;

constexpr std::int64_t kFormatVersion = 1;
/// Far above any network that runs, low enough that products of three sizes fit 64 bits.
constexpr std::int64_t kLargestSize = 1 << 20;

/// One object of config.json: hands out each key once and refuses what was not asked for.
class Fields {
 public:
  Fields(const json& object, std::string_view origin, std::string path)
      : object_(object), origin_(origin), path_(std::move(path)) {
    if (!object.is_object()) wrong(path_, "an object");
  }

  const json& any(const char* key) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end()) fail(Code::kDataCorruption, "[model] {}: {} is missing", origin_, at(key));
    return *found;
  }
  bool has(const char* key) const { return object_.contains(key); }
  std::int64_t integer(const char* key, std::int64_t least, std::int64_t most = kLargestSize) {
    const json& value = any(key);
    if (!value.is_number_integer() || value < least || value > most) {
      wrong(at(key), fmt::format("a whole number from {} to {}", least, most));
    }
    return value.get<std::int64_t>();
  }
  double number(const char* key) {
    const json& value = any(key);
    if (!value.is_number()) wrong(at(key), "a number");
    return value.get<double>();
  }
  bool boolean(const char* key) {
    const json& value = any(key);
    if (!value.is_boolean()) wrong(at(key), "true or false");
    return value.get<bool>();
  }
  std::string text(const char* key) {
    const json& value = any(key);
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) wrong(at(key), "a string, not empty");
    return value.get<std::string>();
  }
  const json& list(const char* key) {
    const json& value = any(key);
    if (!value.is_array()) wrong(at(key), "a list");
    return value;
  }
  void finish() const {
    for (const auto& [key, value] : object_.items()) {
      if (!seen_.contains(key)) {
        fail(Code::kDataCorruption, "[model] {}: {} is no key of a model's config", origin_,
             at(printable(key).c_str()));
      }
    }
  }

 private:
  std::string at(const char* key) const { return path_.empty() ? key : path_ + "." + key; }
  [[noreturn]] void wrong(const std::string& key, const std::string& expected) const {
    fail(Code::kDataCorruption, "[model] {}: {} must be {}", origin_, key.empty() ? "the content" : key, expected);
  }

  const json& object_;
  std::string_view origin_;
  std::string path_;
  std::set<std::string, std::less<>> seen_;
};

VitConfig read_vit(const json& object, std::string_view origin) {
  Fields in(object, origin, "vit");
  VitConfig vit;
  vit.depth = in.integer("depth", 1);
  vit.width = in.integer("width", 1);
  vit.heads = in.integer("heads", 1);
  vit.mlp_width = in.integer("mlp_width", 1);
  vit.patch_px = in.integer("patch_px", 1);
  vit.grid = in.integer("grid", 1);
  vit.register_tokens = in.integer("register_tokens", 0);
  vit.class_token = in.boolean("class_token");
  vit.qkv_bias = in.boolean("qkv_bias");
  vit.layer_scale = in.boolean("layer_scale");
  vit.class_position = in.boolean("class_position");
  vit.norm_eps = in.number("norm_eps");
  vit.pooling = in.text("pooling");
  vit.pos_interpolation = in.text("pos_interpolation");
  in.finish();
  if (const std::string fault = fault_of(vit); !fault.empty()) {
    fail(Code::kDataCorruption, "[model] {}: vit: {}", origin, fault);
  }
  return vit;
}

json write_vit(const VitConfig& vit) {
  return {{"depth", vit.depth},
          {"width", vit.width},
          {"heads", vit.heads},
          {"mlp_width", vit.mlp_width},
          {"patch_px", vit.patch_px},
          {"grid", vit.grid},
          {"register_tokens", vit.register_tokens},
          {"class_token", vit.class_token},
          {"qkv_bias", vit.qkv_bias},
          {"layer_scale", vit.layer_scale},
          {"class_position", vit.class_position},
          {"norm_eps", vit.norm_eps},
          {"pooling", vit.pooling},
          {"pos_interpolation", vit.pos_interpolation}};
}

BankConfig::Group read_group(const json& object, std::string_view origin, std::size_t index) {
  const std::string path = fmt::format("bank.members[{}]", index);
  Fields in(object, origin, path);
  BankConfig::Group group{in.text("name"), {}};
  for (const json& slot : in.list("slots")) {
    if (!slot.is_string()) fail(Code::kDataCorruption, "[model] {}: {}.slots must be strings", origin, path);
    group.slots.push_back(slot.get<std::string>());
  }
  in.finish();
  return group;
}

BankConfig read_bank(const json& object, std::string_view origin) {
  Fields in(object, origin, "bank");
  BankConfig bank;
  bank.target = in.text("target");
  bank.groups = in.integer("groups", 1);
  bank.templates = in.integer("templates", 1);
  bank.sets = in.integer("sets", 1);
  bank.solver = in.text("solver");
  for (const json& group : in.list("members")) bank.members.push_back(read_group(group, origin, bank.members.size()));
  in.finish();
  return bank;
}

json write_bank(const BankConfig& bank) {
  json members = json::array();
  for (const BankConfig::Group& group : bank.members) members.push_back({{"name", group.name}, {"slots", group.slots}});
  return {{"target", bank.target}, {"groups", bank.groups}, {"templates", bank.templates},
          {"sets", bank.sets},     {"solver", bank.solver}, {"members", members}};
}

Preprocessing read_preprocessing(const json& object, std::string_view origin) {
  try {
    return object.get<Preprocessing>();
  } catch (const Error& error) {
    fail(error.code(), "[model] {}: preprocessing: {}", origin, error.what());
  }
}

}  // namespace

std::string fault_of(const VitConfig& vit) {
  struct Size {
    const char* name;
    std::int64_t value, least;
  };
  for (const Size& size : {Size{"depth", vit.depth, 1}, Size{"width", vit.width, 1}, Size{"heads", vit.heads, 1},
                           Size{"mlp_width", vit.mlp_width, 1}, Size{"patch_px", vit.patch_px, 1},
                           Size{"grid", vit.grid, 1}, Size{"register_tokens", vit.register_tokens, 0}}) {
    if (size.value < size.least || size.value > kLargestSize) {
      return fmt::format("{} must lie in {}..{}, got {}", size.name, size.least, kLargestSize, size.value);
    }
  }
  if (vit.width % vit.heads != 0) return fmt::format("{} heads do not divide width {}", vit.heads, vit.width);
  if (!(vit.norm_eps > 0 && vit.norm_eps < 1)) return fmt::format("norm_eps must lie in (0, 1), got {}", vit.norm_eps);
  if (vit.pooling != "token" && vit.pooling != "average" && vit.pooling != "token+average") {
    return fmt::format("pooling must be token, average or token+average, got {}", printable(vit.pooling));
  }
  if (vit.pos_interpolation != "bicubic" && vit.pos_interpolation != "bicubic_antialias") {
    return fmt::format("pos_interpolation must be bicubic or bicubic_antialias, got {}",
                       printable(vit.pos_interpolation));
  }
  if (!vit.class_token && (vit.class_position || vit.pooling != "average")) {
    return "without a class token there is no class_position, and pooling must be average";
  }
  return "";
}

json ModelConfig::to_json() const {
  json out = {{"format_version", kFormatVersion},
              {"architecture", architecture},
              {"vit", write_vit(vit)},
              {"preprocessing", preprocessing}};
  if (!bank.target.empty()) out["bank"] = write_bank(bank);
  return out;
}

ModelConfig ModelConfig::from_json(const json& object, std::string_view origin) {
  Fields in(object, origin, "");
  // The version comes first: a newer file may lack or add anything else.
  const std::int64_t version = in.integer("format_version", 1);
  if (version > kFormatVersion) {
    fail(Code::kUnsupported, "[model] {}: format version {}, this recast reads up to {}: use a newer recast", origin,
         version, kFormatVersion);
  }
  ModelConfig config;
  config.architecture = in.text("architecture");
  config.vit = read_vit(in.any("vit"), origin);
  config.preprocessing = read_preprocessing(in.any("preprocessing"), origin);
  if (in.has("bank")) config.bank = read_bank(in.any("bank"), origin);
  in.finish();
  return config;
}

}  // namespace recast
