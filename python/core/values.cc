#include <c10/core/DefaultDtype.h>

#include "bindings.h"
#include "recast/base/error.h"

namespace recast::python {

py::object to_python(const nlohmann::json& document) {
  switch (document.type()) {
    case nlohmann::json::value_t::boolean:
      return py::bool_(document.get<bool>());
    case nlohmann::json::value_t::number_integer:
      return py::int_(document.get<std::int64_t>());
    case nlohmann::json::value_t::number_unsigned:
      return py::int_(document.get<std::uint64_t>());
    case nlohmann::json::value_t::number_float:
      return py::float_(document.get<double>());
    case nlohmann::json::value_t::string:
      return py::str(document.get_ref<const std::string&>());
    case nlohmann::json::value_t::array: {
      py::list list;
      for (const nlohmann::json& element : document) list.append(to_python(element));
      return list;
    }
    case nlohmann::json::value_t::object: {
      py::dict dict;
      for (const auto& [key, value] : document.items()) dict[py::str(key)] = to_python(value);
      return dict;
    }
    default:
      return py::none();
  }
}

void require_float32() {
  if (c10::get_default_dtype_as_scalartype() != at::kFloat)
    fail(Code::kInvalidArgument,
         "[python] torch's default dtype is {}, recast computes in float32: call "
         "torch.set_default_dtype(torch.float32) first",
         c10::toString(c10::get_default_dtype_as_scalartype()));
}

void require_dense(const at::Tensor& tensor, std::string_view what) {
  if (tensor.layout() != at::kStrided || tensor.is_quantized() || tensor.is_meta())
    fail(Code::kInvalidArgument, "[python] {} must be a dense tensor with numbers in it, got {}{} on {}", what,
         tensor.is_quantized() ? "quantised " : "", c10::str(tensor.layout()), tensor.device().str());
}

void refuse_pickle(const py::object& bound_class, const std::string& text) {
  bound_class.attr("__reduce_ex__") =
      py::cpp_function([text](const py::object&, int) -> py::object { throw py::type_error(text); },
                       py::name("__reduce_ex__"), py::is_method(bound_class), py::arg("protocol"));
}

}  // namespace recast::python
