#include "recast/model/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <set>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using nlohmann::json;

constexpr std::int64_t kFormatVersion = 1;
/// Far above any network that runs, low enough that products of three sizes fit 64 bits.
constexpr std::int64_t kLargestSize = 1 << 20;
/// Of a convolution.
constexpr std::int64_t kLargestKernel = 31, kLargestStride = 16;
/// Of a whole network: as many pixels as an image's side may have.
constexpr std::int64_t kLargestShrinkage = 4096;
constexpr std::size_t kMostStages = 64;
constexpr std::int64_t kMostBlocks = 1024;

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

CnnStage read_stage(const json& object, std::string_view origin, std::size_t index) {
  Fields in(object, origin, fmt::format("cnn.stages[{}]", index));
  CnnStage stage;
  stage.block = in.text("block");
  stage.blocks = in.integer("blocks", 1);
  stage.channels = in.integer("channels", 1);
  stage.kernel = in.integer("kernel", 1);
  stage.stride = in.integer("stride", 1);
  stage.expansion = in.integer("expansion", 1);
  in.finish();
  return stage;
}

CnnConfig read_cnn(const json& object, std::string_view origin) {
  Fields in(object, origin, "cnn");
  CnnConfig cnn;
  cnn.stem_channels = in.integer("stem_channels", 1);
  cnn.stem_kernel = in.integer("stem_kernel", 1);
  cnn.stem_stride = in.integer("stem_stride", 1);
  cnn.stem_pool = in.boolean("stem_pool");
  const json& stages = in.list("stages");
  if (stages.size() > kMostStages)
    fail(Code::kDataCorruption, "[model] {}: cnn.stages has more than {}", origin, kMostStages);
  for (const json& stage : stages) cnn.stages.push_back(read_stage(stage, origin, cnn.stages.size()));
  cnn.head_channels = in.integer("head_channels", 0);
  cnn.shortcut = in.text("shortcut");
  cnn.activation = in.text("activation");
  cnn.padding = in.text("padding");
  cnn.norm_eps = in.number("norm_eps");
  in.finish();
  if (const std::string fault = fault_of(cnn); !fault.empty()) {
    fail(Code::kDataCorruption, "[model] {}: cnn: {}", origin, fault);
  }
  return cnn;
}

json write_cnn(const CnnConfig& cnn) {
  json stages = json::array();
  for (const CnnStage& stage : cnn.stages) {
    stages.push_back({{"block", stage.block},
                      {"blocks", stage.blocks},
                      {"channels", stage.channels},
                      {"kernel", stage.kernel},
                      {"stride", stage.stride},
                      {"expansion", stage.expansion}});
  }
  return {{"stem_channels", cnn.stem_channels},
          {"stem_kernel", cnn.stem_kernel},
          {"stem_stride", cnn.stem_stride},
          {"stem_pool", cnn.stem_pool},
          {"stages", stages},
          {"head_channels", cnn.head_channels},
          {"shortcut", cnn.shortcut},
          {"activation", cnn.activation},
          {"padding", cnn.padding},
          {"norm_eps", cnn.norm_eps}};
}

Network read_network(Fields& in, std::string_view origin) {
  if (in.has("cnn") && in.has("vit")) fail(Code::kDataCorruption, "[model] {}: vit and cnn are both given", origin);
  if (in.has("cnn")) return read_cnn(in.any("cnn"), origin);
  if (!in.has("vit")) fail(Code::kDataCorruption, "[model] {}: vit or cnn is missing", origin);
  return read_vit(in.any("vit"), origin);
}

json write_network(const Network& network) {
  const auto* vit = std::get_if<VitConfig>(&network);
  return vit != nullptr ? write_vit(*vit) : write_cnn(std::get<CnnConfig>(network));
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
  bank.templates = in.integer("templates", 0);
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

struct Size {
  const char* name;
  std::int64_t value, least, most = kLargestSize;
};

/// What is wrong with the first size out of its range; empty if none is.
std::string fault_of_sizes(std::initializer_list<Size> sizes) {
  for (const Size& size : sizes) {
    if (size.value < size.least || size.value > size.most)
      return fmt::format("{} must lie in {}..{}, got {}", size.name, size.least, size.most, size.value);
  }
  return "";
}

std::string fault_of_choice(const char* name, const std::string& value,
                            std::initializer_list<std::string_view> choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return "";
  return fmt::format("{} must be {}, got {}", name, fmt::join(choices, " or "), printable(value));
}

bool is_resnet(const CnnStage& stage) { return stage.block == "basic" || stage.block == "bottleneck"; }

/// `in`: channels that the stage is given.
std::string fault_of_stage(const CnnStage& stage, std::int64_t in, const CnnConfig& cnn) {
  if (std::string fault = fault_of_choice("block", stage.block, {"basic", "bottleneck", "separable", "inverted"});
      !fault.empty())
    return fault;
  if (std::string fault = fault_of_sizes({{"blocks", stage.blocks, 1, kMostBlocks},
                                          {"channels", stage.channels, 1},
                                          {"kernel", stage.kernel, 1, kLargestKernel},
                                          {"stride", stage.stride, 1, kLargestStride},
                                          {"expansion", stage.expansion, 1, 1024}});
      !fault.empty())
    return fault;
  if (stage.kernel % 2 == 0) return fmt::format("kernel must be odd, got {}", stage.kernel);
  if (stage.block == "bottleneck" && stage.channels % stage.expansion != 0)
    return fmt::format("expansion {} does not divide {} channels", stage.expansion, stage.channels);
  if ((stage.block == "basic" || stage.block == "separable") && stage.expansion != 1)
    return fmt::format("blocks of kind {} have no expansion, got {}", stage.block, stage.expansion);
  if (stage.block == "inverted" && std::max(in, stage.channels) * stage.expansion > kLargestSize)
    return fmt::format("expansion {} makes more than {} channels", stage.expansion, kLargestSize);
  if (is_resnet(stage) && cnn.shortcut == "pad" && stage.channels < in)
    return fmt::format("a shortcut of kind pad cannot turn {} channels into {}", in, stage.channels);
  return "";
}

}  // namespace

std::string fault_of(const Network& network) {
  return std::visit([](const auto& kind) { return fault_of(kind); }, network);
}

std::string fault_of(const CnnConfig& cnn) {
  if (std::string fault = fault_of_sizes({{"stem_channels", cnn.stem_channels, 1},
                                          {"stem_kernel", cnn.stem_kernel, 1, kLargestKernel},
                                          {"stem_stride", cnn.stem_stride, 1, kLargestStride},
                                          {"head_channels", cnn.head_channels, 0}});
      !fault.empty())
    return fault;
  if (cnn.stem_kernel % 2 == 0) return fmt::format("stem_kernel must be odd, got {}", cnn.stem_kernel);
  if (cnn.stages.empty() || cnn.stages.size() > kMostStages)
    return fmt::format("{} stages, expected 1 to {}", cnn.stages.size(), kMostStages);
  std::int64_t channels = cnn.stem_channels, shrinkage = cnn.stem_stride * (cnn.stem_pool ? 2 : 1);
  for (std::size_t s = 0; s < cnn.stages.size(); ++s) {
    const CnnStage& stage = cnn.stages[s];
    if (is_resnet(stage) != is_resnet(cnn.stages.front()))
      return fmt::format("stage {}: blocks of kind {} do not stand beside {}", s, printable(stage.block),
                         printable(cnn.stages.front().block));
    if (const std::string fault = fault_of_stage(stage, channels, cnn); !fault.empty())
      return fmt::format("stage {}: {}", s, fault);
    channels = stage.channels;
    shrinkage *= stage.stride;
    if (shrinkage > kLargestShrinkage) return fmt::format("strides shrink an image by more than {}", kLargestShrinkage);
  }
  for (std::string fault : {fault_of_choice("shortcut", cnn.shortcut, {"projection", "pad"}),
                            fault_of_choice("activation", cnn.activation, {"relu", "relu6"}),
                            fault_of_choice("padding", cnn.padding, {"symmetric", "same"})}) {
    if (!fault.empty()) return fault;
  }
  if (!(cnn.norm_eps > 0 && cnn.norm_eps < 1)) return fmt::format("norm_eps must lie in (0, 1), got {}", cnn.norm_eps);
  return "";
}

std::string fault_of(const VitConfig& vit) {
  if (std::string fault = fault_of_sizes({{"depth", vit.depth, 1},
                                          {"width", vit.width, 1},
                                          {"heads", vit.heads, 1},
                                          {"mlp_width", vit.mlp_width, 1},
                                          {"patch_px", vit.patch_px, 1},
                                          {"grid", vit.grid, 1},
                                          {"register_tokens", vit.register_tokens, 0}});
      !fault.empty())
    return fault;
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
              {network_key(), write_network(network)},
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
  config.network = read_network(in, origin);
  config.preprocessing = read_preprocessing(in.any("preprocessing"), origin);
  if (in.has("bank")) config.bank = read_bank(in.any("bank"), origin);
  in.finish();
  return config;
}

}  // namespace recast
