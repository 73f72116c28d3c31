// ResNets and EfficientNets of torchvision, timm, Hugging Face and efficientnet_pytorch under recast's names, which are
// torchvision's for ResNets and timm's for EfficientNets but for the projections of a ResNet.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>

#include "checkpoint.h"
#include "cnn.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

constexpr std::array<Library, 4> kLibraries = {{{"torchvision", "layer1.0.conv1.weight"},  // timm has the same names
                                                {"timm", "conv_stem.weight"},
                                                {"huggingface", "embedder.embedder.convolution.weight"},
                                                {"efficientnet-pytorch", "_conv_stem.weight"}}};

bool is(const Library& library, std::string_view name) { return library.name == name; }

Names classifier_names(const Library& library) {
  if (is(library, "timm")) return {"classifier"};
  if (is(library, "huggingface")) return {"classifier.1"};
  return is(library, "torchvision") ? Names{"fc", "linear"} : Names{"_fc"};
}

/// One of recast's tensors, and the names under which it may be found.
struct Wanted {
  std::string ours;
  Names theirs;
  std::vector<std::int64_t> shape;
};

/// All tensors of a network as one library calls them.
class WantedList {
 public:
  WantedList(const CnnConfig& cnn, const Library& library) {
    const CnnPlan plan = plan_of(cnn);
    if (is(library, "efficientnet-pytorch")) {
      add_renamed(plan);
    } else if (is(library, "huggingface")) {
      add_resnet(plan);
    } else {
      for (const ConvPlan* conv : plan.convs()) add(*conv, named_alike(conv->slot), named_alike(conv->norm));
    }
  }

  std::vector<Wanted> all;

 private:
  void add(const ConvPlan& conv, const Names& names, const Names& norm_names) {
    const auto ending = [](Names stems, const char* end) {
      for (std::string& stem : stems) stem += end;
      return stems;
    };
    all.push_back({conv.slot + ".weight", ending(names, ".weight"), conv.shape()});
    for (const char* number : {".weight", ".bias", ".running_mean", ".running_var"})
      all.push_back({conv.norm + number, ending(norm_names, number), {conv.out}});
  }

  /// A projection is a list of two modules at torchvision and timm; the CIFAR ResNets call it downsample or shortcut.
  static Names named_alike(const std::string& name) {
    const std::string conv = ".downsample", norm = ".downsample_bn";
    const auto both = [&](const std::string& end, const char* module) {
      const std::string block = name.substr(0, name.size() - end.size());
      return Names{block + ".downsample." + module, block + ".shortcut." + module};
    };
    if (name.ends_with(conv)) return both(conv, "0");
    if (name.ends_with(norm)) return both(norm, "1");
    return {name};
  }

  /// Hugging Face numbers stages, their blocks and the convolutions of a block.
  void add_resnet(const CnnPlan& plan) {
    const auto add_one = [&](const ConvPlan& conv, const std::string& name) {
      add(conv, {name + ".convolution"}, {name + ".normalization"});
    };
    add_one(plan.stem, "embedder.embedder");
    std::size_t stage = 0, number = 0;
    const std::string* before = nullptr;
    for (const BlockPlan& block : plan.blocks) {
      const bool next = before && *before != block.stage;
      stage += next;
      number = before && !next ? number + 1 : 0;
      before = &block.stage;
      const std::string place = fmt::format("encoder.stages.{}.layers.{}.", stage, number);
      for (std::size_t i = 0; i < block.convs.size(); ++i) add_one(block.convs[i], fmt::format("{}layer.{}", place, i));
      if (block.projection) add_one(*block.projection, place + "shortcut");
    }
    if (plan.head) add_one(*plan.head, "head");  // of no network that it has: what wants one does not fit
  }

  /// efficientnet_pytorch numbers blocks through all stages, and norms by what they follow.
  void add_renamed(const CnnPlan& plan) {
    add(plan.stem, {"_conv_stem"}, {"_bn0"});
    for (std::size_t b = 0; b < plan.blocks.size(); ++b) {
      static constexpr std::array<std::array<const char*, 2>, 3> kFromTheEnd = {
          {{"_project_conv", "_bn2"}, {"_depthwise_conv", "_bn1"}, {"_expand_conv", "_bn0"}}};
      const std::vector<ConvPlan>& convs = plan.blocks[b].convs;
      for (std::size_t i = 0; i < convs.size(); ++i) {
        const auto& [conv, norm] = kFromTheEnd.at(convs.size() - 1 - i);
        add(convs[i], {fmt::format("_blocks.{}.{}", b, conv)}, {fmt::format("_blocks.{}.{}", b, norm)});
      }
    }
    if (plan.head) add(*plan.head, {"_conv_head"}, {"_bn1"});
  }
};

/// What is the library's or the checkpoint's choice and not the architecture's.
CnnConfig adjusted(CnnConfig cnn, const Checkpoint& checkpoint, const Library& library) {
  if (is(library, "efficientnet-pytorch")) {
    cnn.padding = "same";
    cnn.norm_eps = 1e-3;
  }
  // The CIFAR ResNets come with both kinds of shortcut; all tensors but these are the same.
  if (cnn.shortcut == "pad") {
    const auto& given = checkpoint.left();
    const bool projects = std::ranges::any_of(given, [](const auto& entry) {
      return entry.first.find(".downsample.0.") != std::string::npos ||
             entry.first.find(".shortcut.0.") != std::string::npos;
    });
    if (projects) cnn.shortcut = "projection";
  }
  return cnn;
}

/// Whether the checkpoint holds this network's tensors in their shapes and, beside a classifier, nothing else.
bool fits(const CnnConfig& cnn, const Checkpoint& checkpoint, const Library& library) {
  std::set<std::string> used;
  for (const Wanted& wanted : WantedList(cnn, library).all) {
    const std::string& name = checkpoint.present(wanted.theirs);
    const at::Tensor* tensor = checkpoint.find(name);
    if (tensor == nullptr || tensor->sizes() != at::IntArrayRef(wanted.shape)) return false;
    used.insert(checkpoint.prefix() + name);
  }
  for (const std::string& name : classifier_names(library)) {
    for (const char* parameter : {".weight", ".bias"}) {
      used.insert(name + parameter);
      used.insert(checkpoint.prefix() + name + parameter);
    }
  }
  return std::ranges::all_of(checkpoint.left(), [&](const auto& entry) {
    return used.contains(entry.first) || entry.first.ends_with(".num_batches_tracked");
  });
}

/// Another architecture that fits is worth more to the reader than a list of differences.
void refuse_other_architectures(const Checkpoint& checkpoint, const Library& library, const ModelConfig& config) {
  if (fits(config.cnn(), checkpoint, library)) return;
  const Names others = fitting_cnns(checkpoint, library);
  if (others.empty()) return;
  fail(Code::kShapeMismatch, "[import] {} does not fit {}: try --arch {}", checkpoint.origin(), config.architecture,
       fmt::join(others, " or "));
}

}  // namespace

std::span<const Library> cnn_libraries() { return kLibraries; }

Names fitting_cnns(const Checkpoint& checkpoint, const Library& library) {
  Names fitting;
  for (const std::string& name : architecture_names()) {
    const ModelConfig config = architecture(name);
    const auto* cnn = std::get_if<CnnConfig>(&config.network);
    if (cnn != nullptr && fits(adjusted(*cnn, checkpoint, library), checkpoint, library)) fitting.push_back(name);
  }
  return fitting;
}

ImportedCheckpoint import_cnn(Checkpoint checkpoint, const Library& library, ModelConfig config) {
  checkpoint.drop_ending(".num_batches_tracked");
  checkpoint.require_floating();
  config.network = adjusted(config.cnn(), checkpoint, library);
  refuse_other_architectures(checkpoint, library, config);

  ImportedCheckpoint out;
  out.naming = library.name;
  out.files.config = std::move(config);
  const CnnConfig& cnn = out.files.config.cnn();
  for (const Wanted& wanted : WantedList(cnn, library).all) {
    at::Tensor tensor = checkpoint.take(std::string(checkpoint.present(wanted.theirs)), wanted.shape);
    if (tensor.defined()) out.files.backbone[wanted.ours] = std::move(tensor);
  }
  const std::int64_t width = plan_of(cnn).features();
  Classifier classifier = checkpoint.take_classifier(classifier_names(library), std::span(&width, 1));
  out.classifier_weight = std::move(classifier.weight);
  out.classifier_bias = std::move(classifier.bias);
  checkpoint.finish(out.files.config.architecture);
  check_files(out.files, checkpoint.origin());
  return out;
}

}  // namespace recast
