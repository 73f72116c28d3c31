#include <c10/util/Exception.h>

#include <system_error>

#include "bindings.h"
#include "recast/base/error_table.h"
#include "recast/format/printable.h"

namespace recast::python {
namespace {

/// Raises recast.errors' class of this code.
void raise(Code code, const std::string& message) {
  try {
    const py::object make = py::module_::import("recast.errors").attr("error_of");
    const py::object error = make(py::str(std::string(name(code))), py::str(message));
    PyErr_SetObject(py::type::handle_of(error).ptr(), error.ptr());
  } catch (py::error_already_set& other) {
    other.restore();
  }
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Error& error) {
    raise(error.code(), error.what());
  } catch (const c10::OutOfMemoryError& error) {
    raise(Code::kExhausted, "[memory] the device has not enough memory: use smaller batches or images");
  } catch (const c10::Error& error) {
    const std::string text = first_line(error.msg());
    const bool memory = text.find("can't allocate memory") != text.npos;
    raise(memory ? Code::kExhausted : Code::kInternal, (memory ? "[memory] " : "[torch] ") + text);
  } catch (const std::filesystem::filesystem_error& error) {
    raise(Code::kUnavailable,
          fmt::format("[file] {}: {}", printable(error.path1().string(), 300), error.code().message()));
  } catch (const std::system_error& error) {
    raise(Code::kUnavailable, std::string("[system] ") + error.what());
  } catch (const std::bad_alloc&) {
    raise(Code::kExhausted, "[memory] not enough memory: use smaller batches or images, or end other programs");
  } catch (const nlohmann::json::exception& error) {
    raise(Code::kInternal, "[internal] " + printable(error.what(), 1000));
  }
}

}  // namespace

void add_errors(py::module_& m) {
  py::register_local_exception_translator(&translate);
  m.def(
      "error_table",
      [] {
        py::list rows;
        for (const ErrorEntry& entry : error_table()) {
          py::dict row;
          row["code"] = std::string(entry.name);
          row["exception"] = std::string(entry.exception);
          row["meaning"] = std::string(entry.meaning);
          rows.append(row);
        }
        return rows;
      },
      "Every code with its nearest built-in exception and its meaning.");
  m.def(
      "raise_error",
      [](const std::string& code, const std::string& message) {
        for (const ErrorEntry& entry : error_table())
          if (entry.name == code) throw Error(entry.code, message);
        throw Error(Code::kInvalidArgument, "[errors] no code '" + code + "'");
      },
      py::arg("code"), py::arg("message"), "Raises the exception of a code, the way the library does.");
}

}  // namespace recast::python
