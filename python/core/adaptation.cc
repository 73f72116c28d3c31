#include "recast/run/adaptation.h"

#include "bindings.h"
#include "recast/base/error.h"
#include "recast/mimic/mimicry.h"
#include "task.h"
#include "watch.h"

namespace recast::python {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

/// Tensors of a module under its library's names as recast's files, in memory of their own: the module may go on
/// changing.
ModelFiles files_of(const Tensors& tensors, const nlohmann::json& config) {
  const at::NoGradGuard no_grad;
  NamedTensors copies;
  for (const auto& [name, tensor] : tensors) copies[name] = tensor.detach().to(at::kCPU).clone();
  return import_checkpoint(std::move(copies), ModelConfig::from_json(config, "the network"), "the network").files;
}

std::unique_ptr<Adaptation> adapt_tensors(const Tensors& tensors, const std::string& config,
                                          const std::vector<std::string>& plugs, const py::object& mimicry,
                                          std::uint64_t seed, const py::object& report) {
  std::optional<MimicryOptions> options;
  if (!mimicry.is_none()) {
    const auto settings = mimicry.cast<py::dict>();
    options.emplace();
    take(settings, "target", options->target);
    take(settings, "groups", options->groups);
    take(settings, "templates", options->templates);
    take(settings, "sets", options->sets);
    take(settings, "solver", options->solver);
    take(settings, "steps", options->steps);
    take(settings, "rate", options->rate);
    options->seed = seed;
  }
  return watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    ModelFiles files = files_of(tensors, nlohmann::json::parse(config));
    if (options)
      files = mimic(files, *options, stop, [&](std::int64_t done, std::int64_t total) {
                listener->step(done, total);
              }).files;
    return std::make_unique<Adaptation>(std::move(files), plugs, seed);
  });
}

/// The module's tensors as files without banks.
ModelFiles dense_files(const ModelFiles& files, const Tensors& tensors) {
  ModelConfig dense = files.config;
  dense.bank = {};
  return files_of(tensors, dense.to_json());
}

std::unique_ptr<Adaptation> adapt_directory(const ModelDirectory& directory, const Tensors& tensors,
                                            const std::vector<std::string>& plugs, std::uint64_t seed) {
  const Learning learning;
  auto adaptation = std::make_unique<Adaptation>(directory.files(), plugs, seed);
  Adaptation(directory.files(), {}, seed).require_frozen(dense_files(directory.files(), tensors));
  return adaptation;
}

Tensors plain(const NamedTensors& tensors) { return Tensors(tensors.begin(), tensors.end()); }
NamedTensors named(const Tensors& tensors) { return NamedTensors(tensors.begin(), tensors.end()); }

py::list slots_of(const Adaptation& adaptation) {
  py::list slots;
  for (const Adaptation::MadeSlot& slot : adaptation.slots()) {
    py::dict trains;
    for (const auto& [name, moves] : slot.trains) trains[py::str(name)] = moves;
    slots.append(py::make_tuple(slot.name, slot.vector, plain(slot.numbers), trains));
  }
  return slots;
}

}  // namespace

void add_adaptation(py::module_& m) {
  py::class_<Adaptation> adaptation(m, "Adaptation", "The frozen half of an adapted network.");
  adaptation
      .def_static("of_tensors", &adapt_tensors, py::arg("tensors"), py::arg("config"), py::arg("plugs"),
                  py::arg("mimicry"), py::arg("seed"), py::arg("report"))
      .def_static("of_directory", &adapt_directory, py::arg("directory"), py::arg("tensors"), py::arg("plugs"),
                  py::arg("seed"))
      .def_property_readonly("fingerprint", &Adaptation::fingerprint)
      .def_property_readonly("feature_width", &Adaptation::feature_width)
      .def_property_readonly("plugs", &Adaptation::plugs)
      .def_property_readonly("config", [](const Adaptation& a) { return to_python(a.files().config.to_json()); })
      .def("slots", &slots_of)
      .def(
          "weight",
          [](const Adaptation& a, const std::string& slot, const Tensors& numbers) {
            const Computing computing;
            return a.weight(slot, named(numbers));
          },
          py::arg("slot"), py::arg("numbers"))
      .def(
          "features",
          [](const Adaptation& a, const at::Tensor& pixels, const Tensors& numbers) {
            require_pixels(pixels);
            const Computing computing;
            return a.features(pixels, named(numbers));
          },
          py::arg("pixels"), py::arg("numbers"))
      .def(
          "require_frozen",
          [](const Adaptation& a, const Tensors& tensors) {
            const Learning learning;
            a.require_frozen(dense_files(a.files(), tensors));
          },
          py::arg("tensors"))
      .def(
          "write",
          [](const Adaptation& a, const Path& directory, bool force) {
            const Computing computing;
            write_model_files(directory, a.files(), force);
          },
          py::arg("directory"), py::arg("force"))
      .def(
          "commit",
          [](const Adaptation& a, const ModelDirectory& directory, const std::string& task,
             const std::vector<std::string>& labels, const Tensors& numbers, const at::Tensor& weight,
             const at::Tensor& bias) {
            const Learning learning;
            if (directory.fingerprint() != a.fingerprint())
              fail(Code::kShapeMismatch, "[adapt] the network is {}, {} holds {}: write the network there first",
                   a.fingerprint(), directory.path().string(), directory.fingerprint());
            return directory.store().commit(a.record(task, labels, named(numbers), {weight, bias}));
          },
          py::arg("directory"), py::arg("task"), py::arg("labels"), py::arg("numbers"), py::arg("weight"),
          py::arg("bias"))
      .def(
          "stored",
          [](const Adaptation& a, const ModelDirectory& directory, const std::string& task) {
            Adaptation::Stored found;
            {
              const Learning learning;
              found = a.stored(directory.record(task));
            }
            return py::make_tuple(plain(found.numbers), found.head.weight, found.head.bias);
          },
          py::arg("directory"), py::arg("task"))
      // Const: copies of a module share it.
      .def(
          "__deepcopy__", [](const py::object& self, const py::dict&) { return self; }, py::arg("memo"));
  refuse_pickle(adaptation,
                "an adapted module cannot be pickled: keep its state_dict(), or store it with recast.save_task()");
}

}  // namespace recast::python
