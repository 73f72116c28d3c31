#include "recast/run/failure.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <new>
#include <system_error>

#include "recast/format/printable.h"

namespace recast {

Failure failure_at_hand(std::string_view less_memory) {
  const std::string less =
      (less_memory.empty() ? "" : fmt::format("lower {}, ", less_memory)) + "end other programs or raise the limit";
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return {Code::kExhausted, fmt::format("[memory] the device has not enough memory: {}", less)};
  } catch (const c10::Error& error) {
    const std::string text = error.msg().substr(0, error.msg().find('\n'));
    if (text.find("can't allocate memory") == text.npos) return {Code::kInternal, "[torch] " + text};
    const std::size_t asked = text.find("tried to allocate ");
    return {
        Code::kExhausted,
        fmt::format("[memory] not enough memory{}: {}",
                    asked == text.npos ? "" : " (" + text.substr(asked, text.find('.', asked) - asked) + ")", less)};
  } catch (const std::bad_alloc&) {
    return {Code::kExhausted, fmt::format("[memory] not enough memory: {}", less)};
  } catch (const std::filesystem::filesystem_error& error) {
    const std::string path = printable_path(error.path1());
    if (error.code() == std::errc::filename_too_long)
      return {Code::kInvalidArgument,
              fmt::format("[file] {}: the name is longer than this file system takes; choose a shorter one", path)};
    if (error.code() == std::errc::too_many_symbolic_link_levels)
      return {Code::kNotFound, fmt::format("[file] {}: a link that leads back to itself; mend or remove it", path)};
    return {Code::kUnavailable, fmt::format("[file] {}: {}", path, error.code().message())};
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again)
      return {Code::kUnavailable, fmt::format("[system] {}", error.what())};
    return {Code::kExhausted,
            "[threads] no more threads can be made here: lower --threads, or raise ulimit -u and ulimit -v"};
  } catch (const std::exception& error) {
    return {Code::kInternal, fmt::format("[internal] {}", printable(error.what(), 1000))};
  } catch (...) {
    return {Code::kInternal, "[internal] an exception of an unknown type"};
  }
}

}  // namespace recast
