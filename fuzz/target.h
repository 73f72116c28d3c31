#pragma once
#include <fmt/format.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast::fuzz {

/// What is fed with bytes from outside. It returns where the bytes are refused or accepted as they should be; whatever
/// it throws is a finding.
struct Target {
  std::string name;
  void (*run)(std::string_view bytes);
};

/// Those linked into this program: one in a fuzzer, all of them in the test that replays the corpus.
const std::vector<Target>& targets();

struct Registration {
  Registration(const char* name, void (*run)(std::string_view));
};

/// A property that does not hold.
class Finding : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// What `read` returns, or nothing where it refused its input as readers do: by an Error that blames the input (our own
/// bugs are kInternal) in one line of printable text. Any other exception is a finding.
template <class Read>
auto accepted(const Read& read) -> std::optional<std::remove_cvref_t<decltype(read())>> {
  try {
    return read();
  } catch (const Error& error) {
    const std::string message = error.what();
    if (error.code() == Code::kInternal) throw Finding(message);
    if (message.empty() || message.size() > 5000 || printable(message, message.size() + 1) != message) {
      throw Finding("the message is not one short line of text: " + message);
    }
    return std::nullopt;
  }
}

}  // namespace recast::fuzz

/// `RECAST_FUZZ_TARGET(csv) { ...uses `bytes`... }`: the only target of its file, called like the file.
#define RECAST_FUZZ_TARGET(name)                                                    \
  static void run_##name(std::string_view bytes);                                   \
  static const ::recast::fuzz::Registration registration_##name(#name, run_##name); \
  static void run_##name([[maybe_unused]] std::string_view bytes)

#define RECAST_FUZZ_CHECK(condition)                                                                           \
  do {                                                                                                         \
    if (!(condition)) throw ::recast::fuzz::Finding(fmt::format("{}:{}: {}", __FILE__, __LINE__, #condition)); \
  } while (false)
