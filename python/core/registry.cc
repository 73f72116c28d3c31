#include "recast/method/registry.h"

#include "bindings.h"
#include "recast/base/log.h"
#include "recast/method/compose.h"
#include "recast/model/config.h"
#include "recast/run/describe_methods.h"
#include "recast/run/doctor.h"
#include "recast/run/machine.h"

namespace recast::python {

void add_registry(py::module_& m) {
  m.def(
      "describe_methods", [](const std::string& only) { return to_python(describe_methods(only)); }, py::arg("only"),
      "{methods: [...], recipes: [...]}, all or one plug-in.");
  m.def(
      "check_plug",
      [](const std::string& text) {
        const PlugSpec spec = parse_plug(text);
        Registry::instance().find(spec.method).make(spec.options);
        return plug_text(spec);
      },
      py::arg("text"), "A plug-in with its options as text, checked.");
  m.def(
      "architecture", [](const std::string& name) { return to_python(architecture(name).to_json()); }, py::arg("name"),
      "config.json of an architecture by name.");
  m.def("architecture_names", &architecture_names, "Names that architecture() knows.");
  m.def(
      "machine", [] { return to_python(machine()); }, "This processor and what libtorch uses of it.");
  m.def(
      "versions", [] { return to_python(versions()); }, "Of recast and libtorch.");
  m.def(
      "doctor",
      [](const Path& directory, const std::string& store) {
        nlohmann::json report;
        {
          const Computing computing;
          report = doctor(directory, store, nlohmann::json::array());
        }
        return to_python(report);
      },
      py::arg("directory"), py::arg("store"), "What `recast doctor` finds.");
  m.def(
      "set_log",
      [](const std::string& level, const Path& file, const std::string& format) {
        if (level == "off")
          set_log(LogLevel::kOff, {});
        else
          set_log(parse_log_level(level), log_to(std::filesystem::path(file), parse_log_format(format)));
      },
      py::arg("level"), py::arg("file"), py::arg("format"), "Appends log events to a file.");
}

}  // namespace recast::python
