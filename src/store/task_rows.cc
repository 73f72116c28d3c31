#include "task_rows.h"

#include <ATen/core/Tensor.h>

#include "recast/base/utc.h"

namespace recast {

std::string removed_utc(HiddenBy by) { return utc_now() + std::string(by == HiddenBy::kRollback ? kByRollback : ""); }

std::int64_t tensor_bytes(const Numbers& numbers, Scope scope) {
  std::int64_t bytes = 0;
  for (const auto& [plug, scopes] : numbers.plugs()) {
    for (const auto& [name, number] : numbers.at(plug, scope)) {
      if (const auto* tensor = std::get_if<at::Tensor>(&number)) bytes += static_cast<std::int64_t>(tensor->nbytes());
    }
  }
  return bytes;
}

}  // namespace recast
