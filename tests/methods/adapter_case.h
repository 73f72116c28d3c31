#pragma once
// A plug-in with random numbers on a toy backbone: features and gradients here, and by adapter_reference.py.
#include <nlohmann/json.hpp>

#include "conformance/toy_source.h"
#include "methods/reference.h"

namespace recast {

/// A network of a known architecture, all weights zero: for counting.
inline std::shared_ptr<const Backbone> zeros_of(const std::string& name) {
  ModelFiles files;
  files.config = architecture(name);
  for (const auto& [tensor, shape] : backbone_tensors(files.config.network)) files.backbone[tensor] = at::zeros(shape);
  return make_backbone(files);
}

/// What a run of no epochs leaves, so that every number of the plug-ins is there.
inline Model untrained(const std::shared_ptr<const Backbone>& backbone, const std::vector<std::string>& plugs,
                       std::int64_t side_px = 16) {
  const Recipe recipe = toy_recipe(/*epochs=*/0);
  const auto rows = std::make_shared<ToySource>(at::zeros({3, 3, side_px, side_px}), at::arange(3));
  return learn(toy_model(backbone, recipe, plugs), toy_task(), {rows, rows}, recipe, {}).model;
}

/// Elements of all tensors of a state.
inline std::int64_t count(const State& state) {
  std::int64_t numbers = 0;
  for (const auto& [name, number] : state) numbers += std::get<at::Tensor>(number).numel();
  return numbers;
}

/// One comparison with the Python reference.
struct AdapterCase {
  nlohmann::json network, method;  ///< as adapter_reference.py reads them
  std::vector<std::string> plugs;  ///< aliases of those whose numbers are at work
  Mode mode = Mode::kEvaluate;
};

/// The network part of a question about a toy ViT.
inline nlohmann::json vit_question(const VitConfig& vit) {
  return {{"name", "vit"},
          {"patch", vit.patch_px},
          {"width", vit.width},
          {"heads", vit.heads},
          {"depth", vit.depth},
          {"eps", vit.norm_eps},
          {"layer_scale", vit.layer_scale}};
}

inline nlohmann::json cnn_question(const CnnConfig& cnn) {
  nlohmann::json stages = nlohmann::json::array();
  for (const CnnStage& stage : cnn.stages)
    stages.push_back({{"block", stage.block}, {"blocks", stage.blocks}, {"stride", stage.stride}});
  return {{"name", "cnn"},
          {"stages", stages},
          {"stem_stride", cnn.stem_stride},
          {"padding", cnn.padding},
          {"eps", cnn.norm_eps}};
}

/// Compares values, gradients of every number whose family is in method["trains"], and what the pass emits. `numbers`
/// are those at work, by scope, with whatever values the caller gave them; own: the backbone's tensors.
inline void expect_as_reference(const AdapterCase& question, Model model, const NamedTensors& own) {
  const auto trains = [&](const std::string& name) {
    const auto& families = question.method["trains"];
    return std::find(families.begin(), families.end(), std::string(family_of(name))) != families.end();
  };
  TensorFile file;
  file.metadata = {{"network", question.network.dump()}, {"method", question.method.dump()}};
  for (const auto& [name, tensor] : own) file.tensors["own/" + name] = tensor;
  std::map<std::string, at::Tensor> learned;
  for (const std::string& plug : question.plugs)
    for (const auto& [scope, state] : model.numbers().plugs()[plug])
      for (const auto& [name, number] : state) {
        at::Tensor value = std::get<at::Tensor>(number);
        if (!value.is_floating_point()) continue;
        file.tensors["number/" + name] = value.detach().clone();
        if (trains(name)) learned[name] = value.set_requires_grad(true);
      }
  const at::Tensor input = toy_images(5);
  const Batch batch{{{"input", input}}, 5};
  Emissions emissions;
  Run run;
  run.mode = question.mode;
  run.key = Key(3);
  run.emissions = &emissions;
  const at::Tensor features = model.features(batch, run);
  const at::Tensor direction = Key(9).fold("direction").normal(features.sizes());
  (features * direction).sum().backward();
  file.tensors["input"] = input;
  file.tensors["direction"] = direction;

  const NamedTensors answer = python_reference("adapter_reference.py", file);
  ASSERT_EQ(answer.size(), 1 + learned.size() + emissions.values.size());
  EXPECT_LE(relative_difference(features.detach(), answer.find("features")->second), 1e-5);
  ASSERT_FALSE(learned.empty());
  for (const auto& [name, value] : learned) {
    ASSERT_TRUE(value.grad().defined()) << name;
    EXPECT_LE(relative_difference(value.grad(), answer.find("gradient/" + name)->second), 1e-4) << name;
  }
  for (const auto& [key, value] : emissions.values)
    EXPECT_LE(relative_difference(value, answer.find("next/" + key.second)->second), 1e-5) << key.second;
}

/// Normal draws of size `scale` around what is there, for every floating number of the plug-in's task state.
inline void shake(Model& model, const std::string& plug, double scale) {
  State& own = model.numbers().at(plug, Scope::kTask);
  for (const auto& [name, number] : State(own)) {
    const at::Tensor& value = std::get<at::Tensor>(number);
    if (value.is_floating_point()) own.set(name, value + scale * Key(5).fold(name).normal(value.sizes()));
  }
}

}  // namespace recast
