#include "store_errors.h"

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
    fail(Code::kUnavailable, "[store] {}: {}", printable_path(error.path1()), error.code().message());
  }
}

void fail_damaged_store(const std::string& shown, std::string_view what) {
  fail(Code::kDataCorruption, "[store] {}: damaged, or no task store ({}); restore it from a copy", shown,
       printable(what, 200));
}

void require_backbone(const std::string& ours, const std::string& what, const std::string& name,
                      const std::string& fingerprint) {
  if (fingerprint == ours) return;
  fail(Code::kShapeMismatch,
       "[store] {} '{}' belongs to another backbone: its fingerprint is {}, the model directory's is {}; use the model "
       "directory that it was learned in, or learn it again",
       what, printable(name), printable(fingerprint), ours);
}

}  // namespace recast
