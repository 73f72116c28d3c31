// The file that says who may do what, and its globs.
#include "recast/serve/token_table.h"
#include "target.h"

using namespace recast;

RECAST_FUZZ_TARGET(token_file) {
  const auto entries = fuzz::accepted([&] { return parse_token_file(std::string(bytes), "tokens.yaml"); });
  if (!entries) return;
  std::string written;
  for (const TokenEntry& entry : *entries) {
    RECAST_FUZZ_CHECK(!entry.roles.empty() && !entry.tasks.empty() && entry.sha256.size() == 64);
    for (const std::string& glob : entry.tasks) {
      RECAST_FUZZ_CHECK(glob.find_first_of("*?") != glob.npos || glob_matches(glob, glob));
      glob_matches(glob, entry.name);
    }
    written += token_entry_yaml(entry);
  }
  RECAST_FUZZ_CHECK(parse_token_file(written, "written") == *entries);
}
