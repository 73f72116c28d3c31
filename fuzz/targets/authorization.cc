// The header (HTTP) or metadata (gRPC) that says who calls, against a table of one token.
#include <algorithm>
#include <filesystem>

#include "recast/format/files.h"
#include "recast/serve/token_table.h"
#include "scratch_folder.h"
#include "target.h"

using namespace recast;

namespace {

const std::string kToken = "recast_0123456789";

TokenTable& table() {
  static const fuzz::ScratchFolder folder;
  static TokenTable made = [] {
    TokenEntry entry{.name = "ci",
                     .roles = {Role::kInfer},
                     .tasks = {"*"},
                     .expires = std::nullopt,
                     .salt = std::string(32, '0'),
                     .sha256 = sha256_hex(std::string(32, '0') + kToken)};
    const auto file = folder.put("tokens.yaml", token_entry_yaml(entry));
    std::filesystem::permissions(file, std::filesystem::perms::owner_read);
    return TokenTable(file, {.reread_every = std::chrono::hours(1), .unknown_burst = 1e15, .unknown_per_second = 1e15});
  }();
  return made;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool is_scheme(std::string_view text) { return std::ranges::equal(text, std::string_view("bearer "), {}, lower); }

/// "Bearer ", in any case, more spaces, and the token.
bool is_right(std::string_view header) {
  if (!header.ends_with(kToken)) return false;
  header.remove_suffix(kToken.size());
  return is_scheme(header.substr(0, 7)) && header.find_first_not_of(' ', 7) == header.npos;
}

}  // namespace

RECAST_FUZZ_TARGET(authorization) {
  const TokenVerdict verdict = table().check(bytes, Right::kInfer);
  RECAST_FUZZ_CHECK((verdict.access == Access::kGranted) == is_right(bytes));
  RECAST_FUZZ_CHECK(verdict.access == Access::kGranted || verdict.access == Access::kUnauthenticated);
  RECAST_FUZZ_CHECK(verdict.access == Access::kGranted ? verdict.message.empty() : verdict.identity.name.empty());
  if (verdict.access != Access::kGranted) return;
  RECAST_FUZZ_CHECK(table().check(bytes, Right::kManage).access == Access::kForbidden);
}
