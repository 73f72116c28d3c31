#include "caller.h"

#include "recast/base/error.h"

namespace recast {

std::function<bool(std::string_view)> Caller::rule() const {
  if (!identity) return {};
  return [identity = identity](std::string_view model) { return identity->may_use(model); };
}

void keep_allowed(nlohmann::json& entries, const Caller& caller) {
  if (!caller.identity || !entries.is_array()) return;
  auto& list = entries.get_ref<nlohmann::json::array_t&>();
  std::erase_if(list, [&](const nlohmann::json& entry) { return !caller.may_use(entry.value("name", "")); });
}

std::string shown_model(const std::string& model, const std::string& version) {
  return version.empty() ? model : model + ":" + version;
}

void check_load_parameter(std::string_view key) {
  if (key != "config" && !key.starts_with("file:")) return;
  fail(Code::kInvalidArgument, "[load] parameters.{}: tasks come from the store alone, as they were stored",
       key == "config" ? "config" : "file");
}

}  // namespace recast
