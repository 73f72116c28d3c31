#include "bindings.h"
#include "recast/run/task_commands.h"
#include "watch.h"

namespace recast::python {
void add_tasks(py::module_& m) {
  using Directory = ModelDirectory;
  using Text = std::string;
  m.def(
      "list_tasks",
      [](const Directory& d, bool removed) { return document_of([&] { return list_tasks(d, removed); }); },
      py::arg("directory"), py::arg("with_removed"));
  m.def(
      "show_task", [](const Directory& d, const Text& task) { return document_of([&] { return show_task(d, task); }); },
      py::arg("directory"), py::arg("task"));
  m.def(
      "log_task", [](const Directory& d, const Text& task) { return document_of([&] { return log_task(d, task); }); },
      py::arg("directory"), py::arg("task"));
  m.def(
      "diff_tasks",
      [](const Directory& d, const Text& a, const Text& b) { return document_of([&] { return diff_tasks(d, a, b); }); },
      py::arg("directory"), py::arg("a"), py::arg("b"));
  m.def(
      "export_task",
      [](const Directory& d, const Text& task, const Path& file, bool force) {
        return document_of([&] { return export_task(d, task, file, force); });
      },
      py::arg("directory"), py::arg("task"), py::arg("file"), py::arg("force"));
  m.def(
      "export_peft_folder",
      [](const Directory& d, const Text& task, const Path& folder, const Text& names, const Text& base, bool force) {
        return document_of([&] { return export_peft_folder(d, task, folder, names, base, force); });
      },
      py::arg("directory"), py::arg("task"), py::arg("folder"), py::arg("names"), py::arg("base_model"),
      py::arg("force"));
  m.def(
      "import_task",
      [](const Directory& d, const Path& file, const Text& name, const Path& labels) {
        return document_of([&] { return import_task_file(d, file, name, labels); });
      },
      py::arg("directory"), py::arg("file"), py::arg("name"), py::arg("labels"));
  m.def(
      "remove_task",
      [](const Directory& d, const Text& task, bool purge) {
        return document_of([&] { return remove_task(d, task, purge); });
      },
      py::arg("directory"), py::arg("task"), py::arg("purge"));
  m.def(
      "rollback_task",
      [](const Directory& d, const Text& task, const Text& version) {
        return document_of([&] { return rollback_task(d, task, version); });
      },
      py::arg("directory"), py::arg("task"), py::arg("version"));
  m.def(
      "tag_task",
      [](const Directory& d, const Text& task, const Text& tag, bool force) {
        return document_of([&] { return tag_task(d, task, tag, force); });
      },
      py::arg("directory"), py::arg("task"), py::arg("tag"), py::arg("force"));
  m.def(
      "untag_task",
      [](const Directory& d, const Text& task, const Text& tag) {
        return document_of([&] { return untag_task(d, task, tag); });
      },
      py::arg("directory"), py::arg("task"), py::arg("tag"));
  m.def(
      "list_tags", [](const Directory& d, const Text& task) { return document_of([&] { return list_tags(d, task); }); },
      py::arg("directory"), py::arg("task"));
  m.def(
      "collect_garbage", [](const Directory& d) { return document_of([&] { return collect_garbage(d); }); },
      py::arg("directory"));
}

}  // namespace recast::python
