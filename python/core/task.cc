#include "task.h"

#include <fmt/ranges.h>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/method/numbers_file.h"

namespace recast::python {
namespace {

py::object value_of(const Number& number) {
  return std::visit([](const auto& value) { return py::object(py::cast(value)); }, number);
}

/// "PLUG.family@slot#key" apart.
std::pair<std::string, std::string> split_name(const std::string& full) {
  const std::size_t dot = full.find('.');
  if (dot == full.npos) fail(Code::kInvalidArgument, "[python] '{}' is no number: PLUG.family@slot", printable(full));
  return {full.substr(0, dot), full.substr(dot + 1)};
}

/// A copy of the task whose numbers of these names are others. Gradients flow into them.
Task with_numbers(const Task& task, const std::map<std::string, at::Tensor>& numbers) {
  Task changed = task;
  Numbers& own = changed.loaded.model.numbers();
  for (const auto& [full, tensor] : numbers) {
    const auto [plug, name] = split_name(full);
    const auto scope = own.at(plug, Scope::kTask).has(name) ? Scope::kTask : Scope::kShared;
    const State& state = std::as_const(own).at(plug, scope);
    if (!state.has(name)) fail(Code::kNotFound, "[python] task '{}' has no number '{}'", task.loaded.record.name, full);
    const at::Tensor& old = state.tensor(name);
    if (old.sizes() != tensor.sizes() || old.scalar_type() != tensor.scalar_type())
      fail(Code::kShapeMismatch, "[python] '{}' is {} [{}], expected {} [{}]", full, at::toString(tensor.scalar_type()),
           fmt::join(tensor.sizes(), ", "), at::toString(old.scalar_type()), fmt::join(old.sizes(), ", "));
    require_dense(tensor, "'" + full + "'");
    if (old.device() != tensor.device())
      fail(Code::kInvalidArgument, "[python] '{}' is on {}, the task's numbers on {}", full, tensor.device().str(),
           old.device().str());
    own.at(plug, scope).set(name, tensor);
  }
  return changed;
}

Run run_of(bool bf16, std::vector<std::string> taps) {
  Run run;
  run.dtype = bf16 ? at::kBFloat16 : at::kFloat;
  run.taps = std::move(taps);
  return run;
}

Fields forward(const Task& task, const at::Tensor& input, bool bf16, std::vector<std::string> taps, bool heads) {
  require_pixels(input);
  const Computing computing;
  const Batch batch{{{"input", input.to(task.directory.device())}}, input.size(0)};
  const Run run = run_of(bf16, std::move(taps));
  if (heads) return task.loaded.model.forward(batch, run);
  return {{"features", task.loaded.model.features(batch, run)}};
}

at::Tensor logits_of_features(const Task& task, const at::Tensor& features) {
  require_dense(features, "features");
  if (!at::isFloatingType(features.scalar_type()))
    fail(Code::kInvalidArgument, "[python] features are floating numbers, got {}",
         at::toString(features.scalar_type()));
  const Computing computing;
  const Batch batch{{{"features", features.to(task.directory.device(), at::kFloat)}},
                    features.dim() > 0 ? features.size(0) : 0};
  return task.loaded.model.forward(batch, {}).at("logits");
}

std::map<std::string, at::Tensor> weights_of(const Task& task) {
  const Computing computing;
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, number] : task.loaded.model.weights()) weights[name] = std::get<at::Tensor>(number);
  return weights;
}

py::object record_of(const TaskRecord& record) {
  nlohmann::json plugs = nlohmann::json::array();
  for (const PlugSpec& plug : record.plugs) plugs.push_back(plug_text(plug));
  return to_python({{"task", record.name},
                    {"version", record.version},
                    {"labels", record.labels},
                    {"plugs", plugs},
                    {"recipe", record.recipe},
                    {"metrics", record.metrics},
                    {"data", record.data},
                    {"fingerprint", record.fingerprint},
                    {"created_utc", record.created_utc}});
}

}  // namespace

py::dict numbers_of(const Numbers& numbers) {
  py::dict values;
  for (const auto& [plug, scopes] : numbers.plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [name, number] : state) values[py::str(plug + "." + name)] = value_of(number);
  return values;
}

void require_pixels(const at::Tensor& input) {
  require_dense(input, "images");
  if (input.dim() != 4 || input.size(1) != 3)
    fail(Code::kShapeMismatch, "[python] images are [B, 3, H, W], got [{}]", fmt::join(input.sizes(), ", "));
  if (!at::isFloatingType(input.scalar_type()))
    fail(Code::kInvalidArgument,
         "[python] images are normalised floating pixels, got {}: recast.normalise() makes them",
         at::toString(input.scalar_type()));
}

void add_task(py::module_& m) {
  py::class_<Task> task(m, "Task", "A stored task that can be called.");
  task.def_property_readonly("record", [](const Task& t) { return record_of(t.loaded.record); })
      .def_property_readonly("preprocessing",
                             [](const Task& t) { return to_python(nlohmann::json(t.loaded.preprocessing)); })
      .def("numbers", [](const Task& t) { return numbers_of(t.loaded.model.numbers()); })
      .def("with_numbers", &with_numbers, py::arg("numbers"))
      .def("forward", &forward, py::arg("input"), py::arg("bf16"), py::arg("taps"), py::arg("heads"))
      .def("logits_of_features", &logits_of_features, py::arg("features"))
      .def("weights", &weights_of)
      .def(
          "commit",
          [](const Task& t, const std::string& name) {
            const Computing computing;
            TaskRecord record = t.loaded.record;
            record.numbers = t.loaded.model.numbers().only(Scope::kTask).clone();
            if (!name.empty()) record.name = name;
            record.created_utc.clear();
            return t.directory.store().commit(record);
          },
          py::arg("name"))
      .def(
          "__deepcopy__",
          [](const Task& t, const py::dict&) {
            const Computing computing;
            Task copy = t;
            copy.loaded.model.numbers() = t.loaded.model.numbers().clone();
            return copy;
          },
          py::arg("memo"));
  refuse_pickle(task,
                "a recast.Task cannot be pickled: load it again where it is needed, recast.open(path).tasks[name], or "
                "write it to a file with model.tasks.export(name, file)");
}

}  // namespace recast::python
