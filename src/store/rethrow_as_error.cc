#include "rethrow_as_error.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <new>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

void rethrow_as_error(const std::string& shown) {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    fail(Code::kExhausted, "[store] {}: not enough memory", shown);
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    const bool memory = text.find("allocate memory") != text.npos;
    fail(memory ? Code::kExhausted : Code::kInternal, "[store] {}: {}", shown,
         printable(text.substr(0, text.find('\n')), 200));
  } catch (const std::filesystem::filesystem_error& error) {
    fail(Code::kUnavailable, "[store] {}: {}", printable(error.path1().string(), 4096), error.code().message());
  }
}

}  // namespace recast
