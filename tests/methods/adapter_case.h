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

/// Cases that go to the Python reference together, since its start takes longer than all of them.
class AdapterComparison {
 public:
  /// Runs the model: numbers are those at work, with whatever values the caller gave them; own: the backbone's tensors.
  void add(const std::string& name, const AdapterCase& question, Model model, const NamedTensors& own) {
    const auto& families = question.method["trains"];
    const auto trains = [&](const std::string& number) {
      return std::find(families.begin(), families.end(), std::string(family_of(number))) != families.end();
    };
    file_.metadata[name] = nlohmann::json({{"network", question.network}, {"method", question.method}}).dump();
    for (const auto& [tensor, value] : own) file_.tensors[name + "/own/" + tensor] = value;
    std::map<std::string, at::Tensor> learned;
    for (const std::string& plug : question.plugs)
      for (const auto& [scope, state] : model.numbers().plugs()[plug])
        for (const auto& [number_name, number] : state) {
          at::Tensor value = std::get<at::Tensor>(number);
          if (!value.is_floating_point()) continue;
          file_.tensors[name + "/number/" + number_name] = value.detach().clone();
          if (trains(number_name)) learned[number_name] = value.set_requires_grad(true);
        }
    ASSERT_FALSE(learned.empty()) << name;
    const at::Tensor input = toy_images(5);
    Emissions emissions;
    Run run;
    run.mode = question.mode;
    run.key = Key(3);
    run.emissions = &emissions;
    const at::Tensor features = model.features(Batch{{{"input", input}}, 5}, run);
    const at::Tensor direction = Key(9).fold("direction").normal(features.sizes());
    (features * direction).sum().backward();
    file_.tensors[name + "/input"] = input;
    file_.tensors[name + "/direction"] = direction;
    ours_[name + "/features"] = features.detach();
    for (const auto& [number, value] : learned) {
      ASSERT_TRUE(value.grad().defined()) << number;
      ours_[name + "/gradient/" + number] = value.grad();
    }
    for (const auto& [key, value] : emissions.values) ours_[name + "/next/" + key.second] = value;
  }

  /// Values and emissions to 1e-5, gradients to 1e-4 of the largest element: what fp32 leaves after a whole network.
  void expect_agreement() const {
    const NamedTensors theirs = python_reference("adapter_reference.py", file_);
    ASSERT_EQ(theirs.size(), ours_.size());
    for (const auto& [name, tensor] : ours_) {
      const double allowed = name.find("/gradient/") != name.npos ? 1e-4 : 1e-5;
      EXPECT_LE(relative_difference(tensor, theirs.find(name)->second), allowed) << name;
    }
  }

 private:
  TensorFile file_;
  std::map<std::string, at::Tensor> ours_;
};

/// Normal draws of size `scale` around what is there, for every floating number of the plug-in's task state.
inline void shake(Model& model, const std::string& plug, double scale) {
  State& own = model.numbers().at(plug, Scope::kTask);
  for (const auto& [name, number] : State(own)) {
    const at::Tensor& value = std::get<at::Tensor>(number);
    if (value.is_floating_point()) own.set(name, value + scale * Key(5).fold(name).normal(value.sizes()));
  }
}

}  // namespace recast
