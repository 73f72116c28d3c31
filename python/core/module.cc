// The extension module recast._core: the library's functions for the Python package around it, which is what users see.
#include <torch/version.h>

#include "bindings.h"

PYBIND11_MODULE(_core, m) {
  using namespace recast::python;
  m.doc() = "The library under the package recast. Not for direct use: names may change.";
  m.attr("torch_version") = TORCH_VERSION;
  add_errors(m);
  add_registry(m);
  add_data(m);
  add_task(m);
  add_directory(m);
  add_tasks(m);
  add_models(m);
  add_adaptation(m);
  add_lab(m);
}
