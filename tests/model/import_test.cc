#include <gtest/gtest.h>

#include <functional>

#include "model/import_case.h"
#include "model/toy_vit.h"
#include "recast/base/error.h"

namespace recast {
namespace {

using Table = std::map<std::string, std::string>;  // recast's role in a block, or whole name -> the library's

const Table kTimm = {{"patch_embed", "patch_embed.proj"},
                     {"class_token", "cls_token"},
                     {"register_tokens", "reg_token"},
                     {"positions", "pos_embed"},
                     {"norm", "norm"},
                     {"norm1", "blocks.#.norm1"},
                     {"norm2", "blocks.#.norm2"},
                     {"attn.qkv", "blocks.#.attn.qkv"},
                     {"attn.proj", "blocks.#.attn.proj"},
                     {"mlp.fc1", "blocks.#.mlp.fc1"},
                     {"mlp.fc2", "blocks.#.mlp.fc2"},
                     {"attn.scale", "blocks.#.ls1.gamma"},
                     {"mlp.scale", "blocks.#.ls2.gamma"}};

const Table kDinov2 = {{"patch_embed", "embeddings.patch_embeddings.projection"},
                       {"class_token", "embeddings.cls_token"},
                       {"register_tokens", "embeddings.register_tokens"},
                       {"positions", "embeddings.position_embeddings"},
                       {"norm", "layernorm"},
                       {"norm1", "encoder.layer.#.norm1"},
                       {"norm2", "encoder.layer.#.norm2"},
                       {"attn.q", "encoder.layer.#.attention.attention.query"},
                       {"attn.k", "encoder.layer.#.attention.attention.key"},
                       {"attn.v", "encoder.layer.#.attention.attention.value"},
                       {"attn.proj", "encoder.layer.#.attention.output.dense"},
                       {"mlp.fc1", "encoder.layer.#.mlp.fc1"},
                       {"mlp.fc2", "encoder.layer.#.mlp.fc2"},
                       {"attn.scale", "encoder.layer.#.layer_scale1.lambda1"},
                       {"mlp.scale", "encoder.layer.#.layer_scale2.lambda1"}};

Table changed(Table table, const Table& changes) {
  for (const auto& [role, name] : changes) table[role] = name;
  return table;
}

const Table kVit = changed(kDinov2, {{"norm1", "encoder.layer.#.layernorm_before"},
                                     {"norm2", "encoder.layer.#.layernorm_after"},
                                     {"mlp.fc1", "encoder.layer.#.intermediate.dense"},
                                     {"mlp.fc2", "encoder.layer.#.output.dense"}});

// What version 5 of transformers shows in memory.
const Table kDinov2InMemory = changed(kDinov2, {{"attn.q", "encoder.layer.#.attention.q_proj"},
                                                {"attn.k", "encoder.layer.#.attention.k_proj"},
                                                {"attn.v", "encoder.layer.#.attention.v_proj"},
                                                {"attn.proj", "encoder.layer.#.attention.o_proj"}});
const Table kVitInMemory = {{"patch_embed", "embeddings.patch_embeddings.projection"},
                            {"class_token", "embeddings.cls_token"},
                            {"positions", "embeddings.position_embeddings"},
                            {"norm", "layernorm"},
                            {"norm1", "layers.#.layernorm_before"},
                            {"norm2", "layers.#.layernorm_after"},
                            {"attn.q", "layers.#.attention.q_proj"},
                            {"attn.k", "layers.#.attention.k_proj"},
                            {"attn.v", "layers.#.attention.v_proj"},
                            {"attn.proj", "layers.#.attention.o_proj"},
                            {"mlp.fc1", "layers.#.mlp.fc1"},
                            {"mlp.fc2", "layers.#.mlp.fc2"}};

const Table kTorchvision = {{"patch_embed", "conv_proj"},
                            {"class_token", "class_token"},
                            {"positions", "encoder.pos_embedding"},
                            {"norm", "encoder.ln"},
                            {"norm1", "encoder.layers.encoder_layer_#.ln_1"},
                            {"norm2", "encoder.layers.encoder_layer_#.ln_2"},
                            {"attn.qkv", "encoder.layers.encoder_layer_#.self_attention.in_proj_"},
                            {"attn.proj", "encoder.layers.encoder_layer_#.self_attention.out_proj"},
                            {"mlp.fc1", "encoder.layers.encoder_layer_#.mlp.0"},
                            {"mlp.fc2", "encoder.layers.encoder_layer_#.mlp.3"}};

/// The library's name of a block's tensor: "blocks.3.attn.qkv.weight" by {"attn.qkv", "layer.#.qkv"}.
std::string spelled(std::string pattern, std::string_view block, std::string_view suffix) {
  if (const auto mark = pattern.find('#'); mark != std::string::npos) pattern.replace(mark, 1, block);
  if (pattern.ends_with('_') && suffix.starts_with('.')) suffix.remove_prefix(1);
  return pattern.append(suffix);
}

/// The checkpoint that a library would have written of these files.
NamedTensors checkpoint(const ModelFiles& files, const Table& table, const std::string& prefix = "") {
  NamedTensors out;
  for (const auto& [name, tensor] : files.backbone) {
    if (name == "class_position") continue;
    if (name == "positions") {
      at::Tensor rows = tensor.flatten(0, 1);
      if (const auto first = files.backbone.find("class_position"); first != files.backbone.end()) {
        rows = at::cat({first->second.unsqueeze(0), rows});
      }
      out[prefix + table.at(name)] = rows.unsqueeze(0);
      continue;
    }
    if (name == "class_token" || name == "register_tokens") {
      out[prefix + table.at(name)] = tensor.reshape({1, -1, tensor.size(-1)});
      continue;
    }
    std::string block, role = name, suffix;
    if (role.starts_with("blocks.")) {
      const auto dot = role.find('.', 7);
      block = role.substr(7, dot - 7);
      role = role.substr(dot + 1);
    }
    if (!role.ends_with(".scale")) {
      suffix = role.substr(role.rfind('.'));
      role = role.substr(0, role.rfind('.'));
    }
    if (role == "attn.qkv" && !table.contains(role)) {
      const std::vector<at::Tensor> parts = tensor.chunk(3);
      for (int i = 0; i < 3; ++i) {
        out[prefix + spelled(table.at(std::string("attn.") + "qkv"[i]), block, suffix)] = parts[i].clone();
      }
    } else {
      out[prefix + spelled(table.at(role), block, suffix)] = tensor;
    }
  }
  return out;
}

VitConfig dinov2_toy() {
  VitConfig vit = toy_vit_config();
  vit.layer_scale = true;
  return vit;
}

TEST(Import, RecognisesEveryNamingWithAndWithoutPrefix) {
  struct Case {
    const char* what;
    const Table& table;
    VitConfig vit;
    const char* naming;
  };
  VitConfig registers = dinov2_toy(), no_class_position = dinov2_toy();
  registers.register_tokens = no_class_position.register_tokens = 4;
  no_class_position.class_position = false;
  for (const Case& c :
       {Case{"timm", kTimm, toy_vit_config(), "timm"}, Case{"timm dinov2", kTimm, dinov2_toy(), "timm"},
        Case{"timm reg4", kTimm, no_class_position, "timm"}, Case{"Dinov2Model", kDinov2, dinov2_toy(), "huggingface"},
        Case{"Dinov2WithRegisters", kDinov2, registers, "huggingface"},
        Case{"ViTModel", kVit, toy_vit_config(), "huggingface"},
        Case{"Dinov2Model in memory", kDinov2InMemory, dinov2_toy(), "huggingface"},
        Case{"ViTModel in memory", kVitInMemory, toy_vit_config(), "huggingface"},
        Case{"torchvision", kTorchvision, toy_vit_config(), "torchvision"}}) {
    const ModelFiles toy = toy_vit(1, c.vit);
    for (const char* prefix : {"", "dinov2.", "module.backbone."}) {
      const ImportedCheckpoint got = import_checkpoint(checkpoint(toy, c.table, prefix), toy.config, c.what);
      EXPECT_EQ(got.naming, c.naming) << c.what;
      EXPECT_TRUE(equal(got.files.backbone, toy.backbone)) << c.what;
      EXPECT_FALSE(got.classifier_weight.defined());
      EXPECT_EQ(got.files.config.vit().class_position, c.vit.class_position);
    }
  }
}

TEST(Import, SetsEpsilonAndResamplingOfTheLibrary) {
  const auto vit = [](const VitConfig& shape, const Table& table) {
    const ModelFiles toy = toy_vit(1, shape);
    return import_checkpoint(checkpoint(toy, table), toy.config, "x").files.config.vit();
  };
  VitConfig registers = dinov2_toy();
  registers.register_tokens = 4;
  EXPECT_EQ(vit(toy_vit_config(), kTimm).norm_eps, 1e-6);
  EXPECT_EQ(vit(toy_vit_config(), kTimm).pos_interpolation, "bicubic_antialias");
  EXPECT_EQ(vit(toy_vit_config(), kVit).norm_eps, 1e-12);
  EXPECT_EQ(vit(toy_vit_config(), kVit).pos_interpolation, "bicubic");
  EXPECT_EQ(vit(dinov2_toy(), kDinov2).norm_eps, 1e-6);
  EXPECT_EQ(vit(dinov2_toy(), kDinov2).pos_interpolation, "bicubic");
  EXPECT_EQ(vit(registers, kDinov2).pos_interpolation, "bicubic_antialias");
}

TEST(Import, KeepsTheCheckpointsOwnClassifier) {
  const ModelFiles toy = toy_vit();
  NamedTensors tensors = checkpoint(toy, kTimm);
  tensors["head.weight"] = Key(1).normal({5, 32});
  tensors["head.bias"] = Key(2).normal({5});
  const ImportedCheckpoint got = import_checkpoint(tensors, toy.config, "x");
  EXPECT_TRUE(got.classifier_weight.equal(tensors["head.weight"]));
  EXPECT_TRUE(got.classifier_bias.equal(tensors["head.bias"]));
  EXPECT_TRUE(equal(got.files.backbone, toy.backbone));

  NamedTensors vit = checkpoint(toy, kVit, "vit.");
  vit["classifier.weight"] = tensors["head.weight"];
  vit["classifier.bias"] = tensors["head.bias"];
  vit["vit.pooler.dense.weight"] = at::zeros({32, 32});
  vit["vit.pooler.dense.bias"] = at::zeros({32});
  EXPECT_TRUE(import_checkpoint(vit, toy.config, "x").classifier_weight.equal(tensors["head.weight"]));

  tensors.erase("head.bias");
  EXPECT_SAYS(failure(tensors, toy.config, Code::kShapeMismatch), "missing (head.bias)");
  tensors["head.bias"] = at::zeros({6});
  EXPECT_SAYS(failure(tensors, toy.config, Code::kShapeMismatch), "head.bias is [6], expected [5]");
  tensors["head.weight"] = at::zeros({5, 64});
  EXPECT_SAYS(failure(tensors, toy.config, Code::kShapeMismatch), "head.weight is [5, 64], expected [classes, 32]");
}

TEST(Import, ADinov2ClassifierReadsTheTokenAndTheAverage) {
  const ModelFiles toy = toy_vit(1, dinov2_toy());
  NamedTensors tensors = checkpoint(toy, kDinov2, "dinov2.");
  tensors["dinov2.embeddings.mask_token"] = at::zeros({1, 32});
  tensors["classifier.weight"] = Key(1).normal({5, 64});
  tensors["classifier.bias"] = Key(2).normal({5});
  const ImportedCheckpoint got = import_checkpoint(tensors, toy.config, "x");
  EXPECT_EQ(got.files.config.vit().pooling, "token+average");
  EXPECT_EQ(make_backbone(got.files)->feature_width(), 64);
}

TEST(Import, FindsTheQkvBiasAbsentOnlyWhereNoBlockHasOne) {
  VitConfig vit = toy_vit_config();
  vit.qkv_bias = false;
  const ModelFiles without = toy_vit(1, vit);
  for (const Table* table : {&kTimm, &kVit, &kTorchvision}) {
    const ImportedCheckpoint got = import_checkpoint(checkpoint(without, *table), toy_vit().config, "x");
    EXPECT_FALSE(got.files.config.vit().qkv_bias);
  }
  NamedTensors one_lost = checkpoint(toy_vit(), kTimm);
  one_lost.erase("blocks.0.attn.qkv.bias");
  EXPECT_SAYS(failure(one_lost, toy_vit().config, Code::kShapeMismatch), "1 missing (blocks.0.attn.qkv.bias)");
}

TEST(Import, WidensOtherPrecisionsToFp32) {
  const ModelFiles toy = toy_vit();
  for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16, at::kDouble}) {
    NamedTensors tensors = checkpoint(toy, kTimm);
    for (auto& [name, tensor] : tensors) tensor = tensor.to(dtype);
    const ImportedCheckpoint got = import_checkpoint(tensors, toy.config, "x");
    EXPECT_TRUE(got.files.backbone.at("norm.bias").equal(toy.backbone.at("norm.bias").to(dtype).to(at::kFloat)));
  }
  NamedTensors huge = checkpoint(toy, kTimm);
  huge["norm.bias"] = at::full({32}, 1e300, at::kDouble);
  EXPECT_SAYS(failure(huge, toy.config, Code::kDataCorruption), "norm.bias");
  for (const at::ScalarType dtype : {at::kChar, at::kUInt16, at::kBool, at::kComplexFloat, at::kFloat8_e4m3fn,
                                     at::kFloat8_e8m0fnu, at::kFloat4_e2m1fn_x2}) {
    NamedTensors others = checkpoint(toy, kTimm);
    others["norm.bias"] = at::empty({32}, dtype);
    EXPECT_SAYS(failure(others, toy.config, Code::kUnsupported), "norm.bias");
  }
}

TEST(Import, NamesTensorsThatAreMissingExtraOrMisshapen) {
  const ModelFiles toy = toy_vit();
  NamedTensors tensors = checkpoint(toy, kTimm);
  tensors.erase("blocks.1.mlp.fc2.bias");
  tensors["blocks.0.attn.proj.weight"] = at::zeros({32, 31});
  for (int i = 0; i < 7; ++i) tensors["extra." + std::to_string(i)] = at::zeros({1});
  const std::string text = failure(tensors, toy.config, Code::kShapeMismatch);
  EXPECT_SAYS(text, "1 missing (blocks.1.mlp.fc2.bias)");
  EXPECT_SAYS(text, "blocks.0.attn.proj.weight is [32, 31], expected [32, 32]");
  EXPECT_SAYS(text, "7 not of this architecture (extra.0, extra.1, extra.2, extra.3, extra.4, ...)");

  NamedTensors query = checkpoint(toy, kVit);
  query.erase("encoder.layer.1.attention.attention.key.weight");
  EXPECT_SAYS(failure(query, toy.config, Code::kShapeMismatch), "encoder.layer.1.attention.attention.key.weight");

  NamedTensors positions = checkpoint(toy, kTimm);
  positions["pos_embed"] = at::zeros({1, 52, 32});
  EXPECT_SAYS(failure(positions, toy.config, Code::kShapeMismatch), "pos_embed is [1, 52, 32], expected [17, 32]");
}

TEST(Import, TakesAFineTunedPositionGridWhereItsImageSizeIsAsked) {
  VitConfig larger = toy_vit_config();
  larger.grid = 7;
  const ModelFiles tuned = toy_vit(1, larger);
  ModelConfig asked = toy_vit().config;
  for (const Table* table : {&kTimm, &kVit}) {
    const NamedTensors tensors = checkpoint(tuned, *table);
    EXPECT_SAYS(failure(tensors, asked, Code::kShapeMismatch), "has positions for 7 x 7 patches (images of 28 px), " +
                                                                   asked.architecture +
                                                                   " expects 4 x 4 (16 px): give --image-size 28");
    ModelConfig at_28 = asked;
    at_28.preprocessing.size_px = 28;
    const ImportedCheckpoint got = import_checkpoint(tensors, at_28, "x");
    EXPECT_TRUE(equal(got.files.backbone, tuned.backbone));
    EXPECT_EQ(got.files.config.vit().grid, 7);
    EXPECT_EQ(got.files.config.preprocessing.size_px, 28);
    EXPECT_EQ(make_backbone(got.files)->feature_width(), 32);
  }
  // A grid that is damaged as well is told tensor by tensor.
  asked.preprocessing.size_px = 28;
  NamedTensors damaged = checkpoint(tuned, kTimm);
  damaged["pos_embed"] = at::zeros({1, 50, 31});
  EXPECT_SAYS(failure(damaged, asked, Code::kShapeMismatch), "pos_embed is [1, 50, 31], expected [50, 32]");
}

TEST(Import, RefusesADistilledDeitByName) {
  const ModelFiles toy = toy_vit();
  NamedTensors theirs = checkpoint(toy, kVit, "deit.");
  theirs["deit.embeddings.distillation_token"] = at::zeros({1, 1, 32});
  EXPECT_SAYS(failure(theirs, toy.config, Code::kUnsupported),
              "is a distilled DeiT (deit.embeddings.distillation_token)");
  NamedTensors timm = checkpoint(toy, kTimm);
  timm["dist_token"] = at::zeros({1, 1, 32});
  EXPECT_SAYS(failure(timm, toy.config, Code::kUnsupported), "is a distilled DeiT (dist_token)");
  // Without that token it is a vision transformer like any other.
  EXPECT_TRUE(equal(import_checkpoint(checkpoint(toy, kVit, "deit."), toy.config, "x").files.backbone, toy.backbone));
}

TEST(Import, RefusesNanAndInfinityByName) {
  const ModelFiles toy = toy_vit();
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    NamedTensors tensors = checkpoint(toy, kTimm);
    tensors["blocks.0.mlp.fc1.weight"] = tensors["blocks.0.mlp.fc1.weight"].clone();
    tensors["blocks.0.mlp.fc1.weight"][3][4] = bad;
    EXPECT_SAYS(failure(tensors, toy.config, Code::kDataCorruption), "blocks.0.mlp.fc1.weight");
  }
}

/// A checkpoint of the right shapes that takes no memory, since only shapes are looked at before it is refused.
NamedTensors hollow(const std::string& arch) {
  ModelFiles files{architecture(arch), {}, {}};
  for (const auto& [name, shape] : backbone_tensors(files.config.vit()))
    files.backbone[name] = at::zeros({}).expand(shape);
  return checkpoint(files, kTimm);
}

TEST(Import, SaysWhichArchitectureACheckpointLooksLike) {
  const ModelConfig small = architecture("vit_small_patch16_224");
  EXPECT_SAYS(
      failure(hollow("vit_base_patch16_224"), small, Code::kShapeMismatch),
      "it has depth 12, width 768, patch 16, position grid 14 x 14, no LayerScale: try --arch vit_base_patch16_224");
  EXPECT_SAYS(failure(hollow("vit_small_patch16_384"), small, Code::kShapeMismatch), "vit_small_patch16_384");
  EXPECT_SAYS(failure(hollow("vit_small_patch14_dinov2"), small, Code::kShapeMismatch),
              "LayerScale: try --arch vit_small_patch14_dinov2");
  EXPECT_SAYS(
      failure(hollow("vit_small_patch14_reg4_dinov2"), architecture("vit_small_patch14_dinov2"), Code::kShapeMismatch),
      "4 registers, LayerScale: try --arch vit_small_patch14_reg4_dinov2");
  EXPECT_SAYS(
      failure(checkpoint(toy_vit(), kTimm), small, Code::kShapeMismatch),
      "depth 2, width 32, patch 4, position grid 4 x 4, no LayerScale, which is no architecture that recast knows");
}

TEST(Import, RefusesWhatIsNoVisionTransformerOfOurs) {
  const ModelConfig config = toy_vit().config;
  EXPECT_SAYS(failure({{"features.0.0.weight", at::zeros({1})}}, config, Code::kUnsupported), "features.0.0.weight");
  failure({}, config, Code::kUnsupported);
  NamedTensors two = checkpoint(toy_vit(), kTimm, "student.");
  two.merge(checkpoint(toy_vit(), kTimm, "teacher."));
  EXPECT_SAYS(failure(two, config, Code::kUnsupported), "more than one network");
  NamedTensors swiglu = checkpoint(toy_vit(), kTimm);
  swiglu["blocks.0.mlp.w12.weight"] = at::zeros({1});
  EXPECT_SAYS(failure(swiglu, config, Code::kUnsupported), "SwiGLU");
}

TEST(Import, SurvivesTensorsOfAnyRank) {
  const ModelFiles toy = toy_vit();
  const NamedTensors good = checkpoint(toy, kTimm);
  for (const auto& [name, tensor] : good) {
    for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{}, {0}, {1}, {2, 0, 3}, {1, 1, 1, 1, 1}}) {
      NamedTensors tensors = good;
      tensors[name] = at::zeros(shape);
      failure(tensors, toy.config, Code::kShapeMismatch);
    }
  }
}

}  // namespace
}  // namespace recast
