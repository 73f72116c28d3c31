#include "bindings.h"
#include "recast/lab/run_lab.h"
#include "watch.h"

namespace recast::python {
namespace {

LabRequest lab_request(const py::dict& settings) {
  LabRequest request;
  take(settings, "file", request.file);
  take(settings, "overrides", request.overrides);
  take(settings, "out", request.out);
  take(settings, "cells", request.cells);
  take(settings, "force", request.force);
  take(settings, "command", request.command);
  return request;
}

/// Cells one after another, on the thread that called: signals and `report` belong to it.
py::object run(const py::dict& settings, const py::object& report) {
  LabRequest request = lab_request(settings);
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    request.stop = stop;
    request.listener = listener;
    return run_lab(request);
  }));
}

py::object looked_at(const py::dict& settings, nlohmann::json (*look)(const LabRequest&)) {
  const LabRequest request = lab_request(settings);
  return document_of([&] { return look(request); });
}

}  // namespace

void add_lab(py::module_& m) {
  m.def("run_lab", &run, py::arg("settings"), py::arg("report"));
  m.def(
      "report_lab", [](const py::dict& settings) { return looked_at(settings, &report_lab); }, py::arg("settings"));
  m.def(
      "list_lab", [](const py::dict& settings) { return looked_at(settings, &list_lab); }, py::arg("settings"));
}

}  // namespace recast::python
