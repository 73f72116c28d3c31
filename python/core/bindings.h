#pragma once
// What the files of the extension module share. Each file adds one subject to the module; nothing here is logic of its
// own: arguments in, one call of the library, values out.
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/utils/pybind.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace recast::python {
namespace py = pybind11;

void add_errors(py::module_& m);
void add_registry(py::module_& m);
void add_data(py::module_& m);
void add_directory(py::module_& m);
void add_task(py::module_& m);
void add_tasks(py::module_& m);
void add_models(py::module_& m);
void add_adaptation(py::module_& m);
void add_lab(py::module_& m);

/// None, bool, int, float, str, list, dict.
py::object to_python(const nlohmann::json& document);
/// Pickling an object of this class, or copying it where it has no __deepcopy__, raises TypeError with this one line,
/// which says what to do instead.
void refuse_pickle(const py::object& bound_class, const std::string& text);
/// A path as Python gives it: str or os.PathLike, turned into str by the caller.
using Path = std::string;

/// Throws kInvalidArgument where torch.set_default_dtype() says something else than float32: our arithmetic is made of
/// tensors of the default type.
void require_float32();

/// Throws kInvalidArgument: not a dense strided tensor whose numbers are there. `what`: "images", a name.
void require_dense(const at::Tensor& tensor, std::string_view what);

/// While the library computes: other Python threads go on, and an autocast region of the caller does not change what is
/// computed. Gradients are recorded as the caller wants.
class Computing {
 public:
  Computing() { require_float32(); }

 private:
  py::gil_scoped_release release_;
  c10::impl::ExcludeDispatchKeyGuard plain_{c10::autocast_dispatch_keyset};
};

/// The same for calls that learn by themselves, wherever they are called from: torch.no_grad(), inference_mode().
class Learning {
  Computing computing_;
  c10::InferenceMode normal_{false};
  at::AutoGradMode recorded_{true};
};

/// Sets `place` from settings[name] where that is there and not None. Throws TypeError naming the key.
template <class T>
void take(const py::dict& settings, const char* name, T& place) {
  if (!settings.contains(name)) return;
  const py::object value = settings[name];
  if (value.is_none()) return;
  try {
    if constexpr (std::is_same_v<T, std::filesystem::path>)
      place = value.cast<std::string>();
    else
      place = value.cast<T>();
  } catch (const py::cast_error&) {
    throw py::type_error(std::string(name) + " cannot be " + py::repr(value).cast<std::string>());
  }
}
template <class T>
void take(const py::dict& settings, const char* name, std::optional<T>& place) {
  T value{};
  if (!settings.contains(name) || py::object(settings[name]).is_none()) return;
  take(settings, name, value);
  place = std::move(value);
}

}  // namespace recast::python
