#pragma once
#include "recast/serve/token_table.h"

namespace recast {

/// What add_token() takes: salt and digest are its own.
inline TokenEntry entry_of(const std::string& name, std::set<Role> roles, std::vector<std::string> tasks = {"*"}) {
  return {name, std::move(roles), std::move(tasks), {}, {}, {}};
}

}  // namespace recast
