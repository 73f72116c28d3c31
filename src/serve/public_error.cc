#include "public_error.h"

#include <fmt/format.h>

#include <cctype>
#include <exception>
#include <new>
#include <string_view>

#include "rationed_event.h"
#include "recast/base/error_table.h"
#include "recast/base/log.h"

namespace recast {
namespace {

/// Whether a message names where the server keeps what it has: the database of a task store, or an absolute path, which
/// is a slash that begins a word. Those of URLs' and fields' paths that messages of the server itself name stand within
/// words or quotes.
bool names_a_place(std::string_view text) {
  if (text.find("postgresql://") != std::string_view::npos) return true;
  for (std::size_t at = text.find('/'); at != text.npos; at = text.find('/', at + 1)) {
    const bool begins = at == 0 || std::string_view(" \"'(=[:,").find(text[at - 1]) != std::string_view::npos;
    const bool goes_on = at + 1 < text.size() && (std::isalnum(static_cast<unsigned char>(text[at + 1])) != 0 ||
                                                  text[at + 1] == '.' || text[at + 1] == '_');
    if (begins && goes_on) return true;
  }
  return false;
}

PublicError withheld(Code code, std::string_view details) {
  static auto* const kFailed = new RationedEvent(LogLevel::kError, "serve.failed");  // outlives every server
  const ErrorEntry& entry = error_entry(code);
  kFailed->log({{"code", entry.name}, {"message", details}});
  return {code, entry.http_status,
          fmt::format("[serve] {}: {} The server's log has the details.", entry.name, entry.meaning)};
}

PublicError of_error(const Error& error) {
  if (error.code() == Code::kInternal || error.code() == Code::kDataCorruption || names_a_place(error.what()))
    return withheld(error.code(), error.what());
  return {error.code(), error_entry(error.code()).http_status, error.what()};
}

}  // namespace

PublicError public_error() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return of_error(error);
  } catch (const std::bad_alloc&) {
    return {Code::kUnavailable, error_entry(Code::kUnavailable).http_status, "[serve] no free memory: try again later"};
  } catch (const std::exception& error) {
    return withheld(Code::kInternal, error.what());
  } catch (...) {
    return withheld(Code::kInternal, "an exception of unknown type");
  }
}

}  // namespace recast
