/// What a command that several processes can share lets a user choose of them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "command_line.h"
#include "recast/comm/ranks.h"

namespace recast {

struct RanksFlags {
  std::string ranks = "auto";
  std::optional<double> timeout;

  void declare(Command& command);
  /// Those that the launcher's variables tell of; a log event says how they are joined.
  std::unique_ptr<Ranks> open() const;
};

}  // namespace recast
