#include "agreement.h"

#include <string>
#include <vector>

namespace recast {

void require_agreement(const nlohmann::json& own, Ranks& ranks) {
  if (ranks.alone()) return;
  const std::vector<std::string> all = ranks.gather(own.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  const nlohmann::json first = nlohmann::json::parse(all[0], nullptr, false);
  for (int rank = 1; rank < ranks.size(); ++rank) {
    const nlohmann::json other = nlohmann::json::parse(all[static_cast<std::size_t>(rank)], nullptr, false);
    if (!first.is_object() || !other.is_object())
      fail(Code::kShapeMismatch, "[ranks] rank {} and rank 0 run different commands", rank);
    for (const auto& [what, value] : first.items())
      if (other.value(what, nlohmann::json()) != value)
        fail(Code::kShapeMismatch,
             "[ranks] rank {} and rank 0 differ in: {}; all need the same program, command, model and images", rank,
             what);
  }
}

}  // namespace recast
