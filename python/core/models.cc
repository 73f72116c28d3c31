#include "bindings.h"
#include "recast/run/import_checkpoint.h"
#include "recast/run/mimic_directory.h"
#include "recast/run/mimicry_studies.h"
#include "watch.h"

namespace recast::python {
namespace {

MimicryOptions mimicry_options(const py::dict& settings) {
  MimicryOptions options;
  take(settings, "target", options.target);
  take(settings, "groups", options.groups);
  take(settings, "templates", options.templates);
  take(settings, "sets", options.sets);
  take(settings, "solver", options.solver);
  take(settings, "seed", options.seed);
  take(settings, "steps", options.steps);
  take(settings, "rate", options.rate);
  return options;
}

StudyImages study_images(const py::dict& settings) {
  StudyImages images;
  take(settings, "data", images.data);
  take(settings, "images", images.count);
  take(settings, "image_size", images.image_size);
  return images;
}

py::object import_directory(const py::dict& settings) {
  ImportRequest request;
  take(settings, "checkpoint", request.checkpoint);
  take(settings, "architecture", request.architecture);
  take(settings, "out", request.out);
  take(settings, "force", request.force);
  take(settings, "mean", request.mean);
  take(settings, "std", request.std);
  take(settings, "interpolation", request.interpolation);
  take(settings, "crop_pct", request.crop_pct);
  take(settings, "image_size", request.image_size);
  take(settings, "pooling", request.pooling);
  take(settings, "labels", request.labels);
  return document_of([&] { return import_model(request); });
}

py::object mimic_model(const py::dict& settings, const py::object& report) {
  MimicRequest request;
  request.options = mimicry_options(settings);
  take(settings, "directory", request.directory);
  take(settings, "out", request.out);
  take(settings, "force", request.force);
  take(settings, "heal", request.heal.steps);
  take(settings, "heal_batch", request.heal.batch);
  take(settings, "heal_rate", request.heal.rate);
  request.heal.images = study_images(settings);
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    request.watch = {stop, listener};
    return mimic_directory(request);
  }));
}

py::object study(const py::dict& settings, const py::object& report, nlohmann::json (*make)(const MimicryStudy&)) {
  MimicryStudy study;
  study.options = mimicry_options(settings);
  study.images = study_images(settings);
  take(settings, "directory", study.directory);
  take(settings, "out", study.out);
  take(settings, "force", study.force);
  take(settings, "command", study.command);
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    study.watch = {stop, listener};
    return make(study);
  }));
}

}  // namespace

void add_models(py::module_& m) {
  m.def("import_model", &import_directory, py::arg("settings"));
  m.def("mimic", &mimic_model, py::arg("settings"), py::arg("report"));
  m.def(
      "compare_solvers",
      [](const py::dict& settings, const py::object& report) { return study(settings, report, &compare_solvers); },
      py::arg("settings"), py::arg("report"));
  m.def(
      "sweep_mimicry",
      [](const py::dict& settings, const py::object& report) { return study(settings, report, &sweep_mimicry); },
      py::arg("settings"), py::arg("report"));
  m.def("solvers", &mimicry_solver_names);
}

}  // namespace recast::python
