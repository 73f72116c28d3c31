// Vision transformers of timm, Hugging Face transformers and torchvision under recast's names.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "checkpoint.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "vit.h"

namespace recast {
namespace {

/// Where a block's tensors are found: alternatives, each one name or three (q, k, v) to be stacked. "#" is the block.
struct Source {
  std::string_view role;            ///< recast's name inside a block
  std::vector<Names> alternatives;  ///< the first one is how the library writes it today
};

/// How one library names a vision transformer; lists are alternatives, and the names of tensors that are left out.
struct Naming {
  Library library;
  const char* block;  ///< what precedes the number of a block
  Names patch_embed, class_token, registers, positions, norm, classifier, ignored;
  std::vector<Source> roles;
};

const std::vector<Naming>& namings() {
  static const std::vector<Naming> kNamings = {
      {{"timm", "patch_embed.proj.weight"},
       "blocks.",
       {"patch_embed.proj"},
       {"cls_token"},
       {"reg_token", "register_tokens"},  // the second as in the original DINOv2 files
       {"pos_embed"},
       {"norm"},
       {"head"},
       {"mask_token"},
       {{"norm1", {{"blocks.#.norm1"}}},
        {"attn.qkv", {{"blocks.#.attn.qkv"}}},
        {"attn.proj", {{"blocks.#.attn.proj"}}},
        {"norm2", {{"blocks.#.norm2"}}},
        {"mlp.fc1", {{"blocks.#.mlp.fc1"}}},
        {"mlp.fc2", {{"blocks.#.mlp.fc2"}}},
        {"attn.scale", {{"blocks.#.ls1.gamma"}}},
        {"mlp.scale", {{"blocks.#.ls2.gamma"}}}}},
      // Published files carry the long names; version 5 of the library shows the short ones in memory.
      {{"huggingface", "embeddings.patch_embeddings.projection.weight"},
       "encoder.layer.",
       {"embeddings.patch_embeddings.projection"},
       {"embeddings.cls_token"},
       {"embeddings.register_tokens"},
       {"embeddings.position_embeddings"},
       {"layernorm"},
       {"classifier"},
       {"embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"},
       {{"norm1", {{"encoder.layer.#.norm1"}, {"encoder.layer.#.layernorm_before"}, {"layers.#.layernorm_before"}}},
        {"attn.qkv",
         {{"encoder.layer.#.attention.attention.query", "encoder.layer.#.attention.attention.key",
           "encoder.layer.#.attention.attention.value"},
          {"encoder.layer.#.attention.q_proj", "encoder.layer.#.attention.k_proj", "encoder.layer.#.attention.v_proj"},
          {"layers.#.attention.q_proj", "layers.#.attention.k_proj", "layers.#.attention.v_proj"}}},
        {"attn.proj",
         {{"encoder.layer.#.attention.output.dense"},
          {"encoder.layer.#.attention.o_proj"},
          {"layers.#.attention.o_proj"}}},
        {"norm2", {{"encoder.layer.#.norm2"}, {"encoder.layer.#.layernorm_after"}, {"layers.#.layernorm_after"}}},
        {"mlp.fc1", {{"encoder.layer.#.mlp.fc1"}, {"encoder.layer.#.intermediate.dense"}, {"layers.#.mlp.fc1"}}},
        {"mlp.fc2", {{"encoder.layer.#.mlp.fc2"}, {"encoder.layer.#.output.dense"}, {"layers.#.mlp.fc2"}}},
        {"attn.scale", {{"encoder.layer.#.layer_scale1.lambda1"}}},
        {"mlp.scale", {{"encoder.layer.#.layer_scale2.lambda1"}}}}},
      {{"torchvision", "conv_proj.weight"},
       "encoder.layers.encoder_layer_",
       {"conv_proj"},
       {"class_token"},
       {},
       {"encoder.pos_embedding"},
       {"encoder.ln"},
       {"heads.head"},
       {},
       {{"norm1", {{"encoder.layers.encoder_layer_#.ln_1"}}},
        {"attn.qkv", {{"encoder.layers.encoder_layer_#.self_attention.in_proj_"}}},
        {"attn.proj", {{"encoder.layers.encoder_layer_#.self_attention.out_proj"}}},
        {"norm2", {{"encoder.layers.encoder_layer_#.ln_2"}}},
        {"mlp.fc1", {{"encoder.layers.encoder_layer_#.mlp.0"}, {"encoder.layers.encoder_layer_#.mlp.linear_1"}}},
        {"mlp.fc2", {{"encoder.layers.encoder_layer_#.mlp.3"}, {"encoder.layers.encoder_layer_#.mlp.linear_2"}}},
        {"attn.scale", {}},
        {"mlp.scale", {}}}},
  };
  return kNamings;
}

/// "blocks.#.attn.qkv" + 3 + ".weight"; torchvision's in_proj_ takes "weight" without a dot.
std::string spelled(std::string name, std::int64_t block, std::string_view suffix) {
  if (const auto mark = name.find('#'); mark != std::string::npos) name.replace(mark, 1, std::to_string(block));
  if (name.ends_with('_') && suffix.starts_with('.')) suffix.remove_prefix(1);
  return name.append(suffix);
}

/// The shape of a network as its checkpoint shows it; 0 where it cannot be told.
struct Look {
  std::int64_t depth = 0, width = 0, patch_px = 0, grid = 0, registers = 0;
  bool layer_scale = false;

  std::string text() const {
    return fmt::format("depth {}, width {}, patch {}, position grid {}{}{}", depth, width, patch_px,
                       grid > 0 ? fmt::format("{0} x {0}", grid) : "not square",
                       registers > 0 ? fmt::format(", {} registers", registers) : "",
                       layer_scale ? ", LayerScale" : ", no LayerScale");
  }
  bool operator==(const Look&) const = default;
};

Look look_of(const VitConfig& vit) {
  return {vit.depth, vit.width, vit.patch_px, vit.grid, vit.register_tokens, vit.layer_scale};
}

const Naming& naming_of(const Library& library) {
  return *std::ranges::find_if(
      namings(), [&](const Naming& naming) { return std::string_view(naming.library.anchor) == library.anchor; });
}

std::int64_t depth_of(const Checkpoint& checkpoint, const Naming& naming) {
  std::set<std::int64_t> blocks;
  const NamedTensors& given = checkpoint.left();
  for (const std::string& before : {checkpoint.prefix() + naming.block, checkpoint.prefix() + "layers."}) {
    for (auto it = given.lower_bound(before); it != given.end() && it->first.starts_with(before); ++it) {
      std::int64_t block = 0;
      const char* begin = it->first.data() + before.size();
      const char* end = it->first.data() + it->first.size();
      if (std::from_chars(begin, end, block).ec == std::errc()) blocks.insert(block);
    }
  }
  return static_cast<std::int64_t>(blocks.size());
}

Look look_at(const Checkpoint& checkpoint, const Naming& naming) {
  Look look;
  look.depth = depth_of(checkpoint, naming);
  if (const at::Tensor* patch = checkpoint.find(naming.library.anchor); patch->dim() == 4) {
    look.width = patch->size(0);
    look.patch_px = patch->size(3);
  }
  if (const at::Tensor* registers = checkpoint.find_any(naming.registers);
      registers != nullptr && registers->dim() == 3) {
    look.registers = registers->size(1);
  }
  if (const at::Tensor* positions = checkpoint.find_any(naming.positions);
      positions != nullptr && positions->dim() == 3) {
    for (const std::int64_t cells : {positions->size(1) - 1, positions->size(1)}) {
      if (cells < 1) continue;
      const auto side = static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(cells))));
      if (side * side == cells && look.grid == 0) look.grid = side;
    }
  }
  for (const Source& source : naming.roles) {
    if (source.role == "attn.scale" && !source.alternatives.empty()) {
      look.layer_scale = checkpoint.find(spelled(source.alternatives[0][0], 0, "")) != nullptr;
    }
  }
  return look;
}

Names fitting(const Look& seen) {
  Names names;
  for (const std::string& name : architecture_names()) {
    const ModelConfig config = architecture(name);
    const auto* vit = std::get_if<VitConfig>(&config.network);
    if (vit != nullptr && look_of(*vit) == seen) names.push_back(name);
  }
  return names;
}

class Importer {
 public:
  Importer(Checkpoint checkpoint, const Library& library, ModelConfig config)
      : from_(std::move(checkpoint)), naming_(naming_of(library)) {
    out_.files.config = std::move(config);
    out_.naming = library.name;
  }

  ImportedCheckpoint run() {
    refuse_swiglu();
    refuse_distilled();
    from_.require_floating();
    refuse_other_architectures();
    take_grid();
    adjust_config();
    take_backbone();
    take_classifier();
    for (const std::string& name : naming_.ignored) from_.drop(name);
    from_.finish(config().architecture);
    check_files(out_.files, from_.origin());
    return std::move(out_);
  }

 private:
  ModelConfig& config() { return out_.files.config; }
  VitConfig& vit() { return out_.files.config.vit(); }

  void refuse_swiglu() const;
  void refuse_distilled() const;
  void refuse_other_architectures();
  void take_grid();
  void adjust_config();
  bool has_qkv_bias() const;
  void take_backbone();
  void take_positions();
  void take_block(std::int64_t n, const TensorShapes& shapes);
  void take_classifier();

  const Names& alternative(const Source& source, std::int64_t n) const;
  void put(const std::string& name, const Names& names, std::vector<std::int64_t> shape);
  void put_pair(const std::string& name, const Names& names, const std::vector<std::int64_t>& weight, bool bias = true);

  Checkpoint from_;
  const Naming& naming_;
  ImportedCheckpoint out_;
};

void Importer::refuse_swiglu() const {
  for (const auto& [name, tensor] : from_.left()) {
    if (name.find("mlp.w12.") != std::string::npos || name.find("mlp.fc1_g.") != std::string::npos ||
        name.find("mlp.weights_in.") != std::string::npos || name.find("mlp.gate_proj.") != std::string::npos) {
      fail(Code::kUnsupported, "[import] {} has a SwiGLU MLP ({}), which recast does not compute", from_.origin(),
           printable(name));
    }
  }
}

/// timm's and Hugging Face's distilled DeiT: its answer is the mean of two classifiers, which read a token each.
void Importer::refuse_distilled() const {
  for (const char* token : {"embeddings.distillation_token", "dist_token"})
    if (from_.find(token) != nullptr)
      fail(Code::kUnsupported,
           "[import] {} is a distilled DeiT ({}{}): its second token and classifier are not computed here; take the "
           "weights of the same name without 'distilled'",
           from_.origin(), printable(from_.prefix()), token);
}

/// A network that was fine-tuned at another size has the position grid of that size. Asked for images of that size it
/// is taken as it is: positions are resampled where it runs at others.
void Importer::take_grid() {
  const Look seen = look_at(from_, naming_);
  if (seen.grid == 0 || seen.grid == vit().grid) return;
  Look other = look_of(vit());
  other.grid = seen.grid;
  if (seen != other) return;  // more is different: the list of differences says what
  const std::int64_t given_px = seen.grid * seen.patch_px, expected_px = vit().grid * vit().patch_px;
  if (config().preprocessing.size_px != given_px)
    fail(Code::kShapeMismatch,
         "[import] {0} has positions for {1} x {1} patches (images of {2} px), {3} expects {4} x {4} ({5} px): give "
         "--image-size {2} to import it as it is; it runs at other sizes too, with positions resampled",
         from_.origin(), seen.grid, given_px, config().architecture, vit().grid, expected_px);
  vit().grid = seen.grid;
}

/// Says in one line what the checkpoint looks like where it cannot be the architecture asked for. Tensors that are
/// missing or misshapen in a network of the right look are named one by one later.
void Importer::refuse_other_architectures() {
  const Look asked = look_of(vit()), seen = look_at(from_, naming_);
  if (seen == asked) return;
  const Names others = fitting(seen);
  // What differs may also be one damaged tensor: then the list of differences says more, unless another name fits.
  const bool other_size = seen.depth != asked.depth || seen.width != asked.width || seen.patch_px != asked.patch_px;
  if (!other_size && others.empty()) return;
  fail(Code::kShapeMismatch, "[import] {} does not fit {} ({}): it has {}{}", from_.origin(), config().architecture,
       asked.text(), seen.text(),
       others.empty() ? ", which is no architecture that recast knows"
                      : fmt::format(": try --arch {}", fmt::join(others, " or ")));
}

/// Writes into the config what is the library's or the checkpoint's choice and not the architecture's.
void Importer::adjust_config() {
  if (out_.naming == "huggingface") {
    const bool plain_vit = !vit().layer_scale;
    if (plain_vit) vit().norm_eps = 1e-12;  // ViTConfig's default; Dinov2Config's is 1e-6
    // ViTModel and Dinov2Model resample without antialiasing, Dinov2WithRegistersModel with it.
    vit().pos_interpolation = vit().register_tokens > 0 ? "bicubic_antialias" : "bicubic";
  }
  if (out_.naming == "torchvision") {
    // ViT_B_16_Weights and its sisters: resize to 256, crop 224, bilinear, ImageNet's mean and deviation.
    Preprocessing& p = config().preprocessing;
    p = Preprocessing{.size_px = p.size_px, .crop_pct = 0.875, .interpolation = "bilinear"};
  }
  vit().qkv_bias = has_qkv_bias();
  if (const at::Tensor* positions = from_.find_any(naming_.positions); positions != nullptr && positions->dim() == 3) {
    const std::int64_t cells = vit().grid * vit().grid;
    if (positions->size(1) == cells || positions->size(1) == cells + 1) {
      vit().class_position = positions->size(1) == cells + 1;
    }
  }
}

/// One lost bias must not turn the option off: it is off only where no block has any.
bool Importer::has_qkv_bias() const {
  const auto source = std::ranges::find(naming_.roles, std::string_view("attn.qkv"), &Source::role);
  for (std::int64_t n = 0; n < out_.files.config.vit().depth; ++n) {
    if (from_.find(spelled(alternative(*source, n)[0], n, ".bias")) != nullptr) return true;
  }
  return false;
}

/// The alternative that the checkpoint uses for a role, or the first if it has none of them.
const Names& Importer::alternative(const Source& source, std::int64_t n) const {
  for (const Names& names : source.alternatives) {
    for (const char* suffix : {".weight", ""}) {
      if (from_.find(spelled(names[0], n, suffix)) != nullptr) return names;
    }
  }
  return source.alternatives[0];
}

/// `names` (one, or several to be stacked along the rows) become recast's `name` of the given shape.
void Importer::put(const std::string& name, const Names& names, std::vector<std::int64_t> shape) {
  std::vector<std::int64_t> piece = shape;
  piece[0] /= static_cast<std::int64_t>(names.size());
  std::vector<at::Tensor> pieces;
  for (const std::string& source : names) {
    const at::Tensor tensor = from_.take(source);
    if (!tensor.defined()) continue;
    // Tokens and positions carry a leading batch dimension of one, the class token a second one.
    const bool batched = tensor.dim() == 3 && tensor.size(0) == 1 && tensor.size(2) == piece.back() &&
                         tensor.size(1) == (piece.size() == 1 ? 1 : piece[0]);
    const bool fits = tensor.sizes() == at::IntArrayRef(piece) || batched;
    if (fits) {
      pieces.push_back(tensor.reshape(piece));
    } else {
      from_.note_misshapen(from_.prefix() + source, tensor.sizes(), fmt::format("[{}]", fmt::join(piece, ", ")));
    }
  }
  if (pieces.size() == names.size()) out_.files.backbone[name] = pieces.size() == 1 ? pieces[0] : at::cat(pieces);
}

void Importer::put_pair(const std::string& name, const Names& names, const std::vector<std::int64_t>& weight,
                        bool bias) {
  const auto with = [&](std::string_view suffix) {
    Names spelled_names;
    for (const std::string& source : names) spelled_names.push_back(spelled(source, 0, suffix));
    return spelled_names;
  };
  put(name + ".weight", with(".weight"), weight);
  if (bias) put(name + ".bias", with(".bias"), {weight[0]});
}

void Importer::take_backbone() {
  const std::int64_t D = vit().width;
  put_pair("patch_embed", naming_.patch_embed, {D, 3, vit().patch_px, vit().patch_px});
  put_pair("norm", naming_.norm, {D});
  put("class_token", naming_.class_token, {D});
  if (vit().register_tokens > 0) {
    const Names& names = naming_.registers;
    put("register_tokens", {names.empty() ? "register_tokens" : from_.present(names)}, {vit().register_tokens, D});
  }
  take_positions();
  const TensorShapes shapes = backbone_tensors(vit());
  for (std::int64_t n = 0; n < vit().depth; ++n) take_block(n, shapes);
}

void Importer::take_positions() {
  const std::int64_t D = vit().width, g = vit().grid, first = vit().class_position ? 1 : 0;
  put("positions", naming_.positions, {first + g * g, D});
  const auto rows = out_.files.backbone.find("positions");
  if (rows == out_.files.backbone.end()) return;
  const at::Tensor both = rows->second;
  if (vit().class_position) out_.files.backbone["class_position"] = both[0].clone();
  out_.files.backbone["positions"] = both.slice(0, first).reshape({g, g, D}).clone();
}

void Importer::take_block(std::int64_t n, const TensorShapes& shapes) {
  for (const Source& source : naming_.roles) {
    const std::string name = block_name(n, source.role);
    const auto weight = shapes.find(name + ".weight"), single = shapes.find(name);
    if (weight == shapes.end() && single == shapes.end()) continue;
    Names names;
    if (source.alternatives.empty()) {
      names = {name};
    } else {
      for (const std::string& pattern : alternative(source, n)) names.push_back(spelled(pattern, n, ""));
    }
    if (weight != shapes.end()) {
      put_pair(name, names, weight->second, shapes.contains(name + ".bias"));
    } else {
      put(name, names, single->second);
    }
  }
}

/// Dinov2's classifier reads the class token and the average of the patches.
void Importer::take_classifier() {
  const std::int64_t D = vit().width, widths[] = {D, 2 * D};
  const bool may_be_double = out_.naming == "huggingface";
  Classifier classifier = from_.take_classifier(naming_.classifier, std::span(widths, may_be_double ? 2 : 1));
  const at::Tensor& w = classifier.weight;
  if (w.defined() && may_be_double && w.dim() == 2 && w.size(1) == 2 * D) vit().pooling = "token+average";
  out_.classifier_weight = std::move(classifier.weight);
  out_.classifier_bias = std::move(classifier.bias);
}

}  // namespace

std::span<const Library> vit_libraries() {
  static const std::vector<Library> kLibraries = [] {
    std::vector<Library> libraries;
    for (const Naming& naming : namings()) libraries.push_back(naming.library);
    return libraries;
  }();
  return kLibraries;
}

Names fitting_vits(const Checkpoint& checkpoint, const Library& library) {
  return fitting(look_at(checkpoint, naming_of(library)));
}

ImportedCheckpoint import_vit(Checkpoint checkpoint, const Library& library, ModelConfig config) {
  return Importer(std::move(checkpoint), library, std::move(config)).run();
}

}  // namespace recast
