#pragma once
#include <atomic>
#include <exception>
#include <string>
#include <utility>

#include "bindings.h"
#include "recast/base/error.h"
#include "recast/train/learn.h"

namespace recast::python {

/// Carries what a long call reports to a Python function, and Ctrl-C the other way: the call then ends after the step
/// at hand. `report`: None, or called as report(event, text, done, total, figures). What it raises ends the call, too.
/// The library calls back on the thread that called it, so signals are looked at where Python allows it.
class Watch final : public Listener {
 public:
  explicit Watch(py::object report) : report_(std::move(report)) {}

  const std::atomic<bool>* stop() const { return &stop_; }

  void stage(const std::string& name, std::int64_t total_steps) override { tell("stage", name, 0, total_steps, {}); }
  void step(std::int64_t done, std::int64_t total) override { tell("step", "", done, total, {}); }
  void epoch(const EpochMetrics& metrics) override;
  void note(const std::string& text) override { tell("note", text, 0, 0, {}); }
  void warning(const std::string& text) override;

  /// After the call: raises what Python has to say, if it has; `note`, where not empty, is added to it.
  void raise_pending(const std::string& note = {});

 private:
  void tell(const char* event, const std::string& text, std::int64_t done, std::int64_t total,
            const nlohmann::json& figures);
  /// Runs with the interpreter's lock; what is raised inside is kept, and ends the call.
  template <class Work>
  void in_python(const Work& work);

  const py::object report_;
  std::atomic<bool> stop_ = false;
  std::exception_ptr pending_;
};

/// What work() gives, which runs as Learning does, as Python values.
template <class Work>
py::object document_of(const Work& work) {
  nlohmann::json document;
  {
    const Learning learning;
    document = work();
  }
  return to_python(document);
}

/// Runs work(stop, listener) as Learning does.
template <class Work>
auto watched(const py::object& report, const Work& work) {
  Watch watch(report);
  try {
    auto result = [&] {
      const Learning learning;
      return work(watch.stop(), &watch);
    }();
    watch.raise_pending();
    return result;
  } catch (const Error& error) {
    watch.raise_pending(error.what());
    throw;
  }
}

}  // namespace recast::python
