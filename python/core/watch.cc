#include "watch.h"

#include "recast/run/figures.h"

namespace recast::python {

template <class Work>
void Watch::in_python(const Work& work) {
  if (pending_) return;  // it ends soon
  const py::gil_scoped_acquire lock;
  try {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    work();
  } catch (const py::error_already_set&) {
    pending_ = std::current_exception();
    stop_ = true;
  }
}

void Watch::tell(const char* event, const std::string& text, std::int64_t done, std::int64_t total,
                 const nlohmann::json& figures) {
  in_python([&] {
    if (!report_.is_none()) report_(event, text, done, total, to_python(figures));
  });
}

void Watch::epoch(const EpochMetrics& metrics) { tell("epoch", metrics.stage, 0, 0, figures(metrics)); }

/// To be shown even where nobody listens.
void Watch::warning(const std::string& text) {
  if (!report_.is_none()) return tell("warning", text, 0, 0, {});
  in_python([&] {
    const py::object category = py::module_::import("recast.progress").attr("RecastWarning");
    if (PyErr_WarnEx(category.ptr(), text.c_str(), 2) != 0) throw py::error_already_set();
  });
}

void Watch::raise_pending(const std::string& note) {
  if (!pending_) return;
  try {
    std::rethrow_exception(pending_);
  } catch (py::error_already_set& raised) {
    const py::object value = raised.value();
    if (!note.empty() && py::hasattr(value, "add_note")) value.attr("add_note")(note);
    throw;
  }
}

}  // namespace recast::python
