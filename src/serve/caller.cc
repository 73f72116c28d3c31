#include "caller.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>

#include "recast/base/error.h"

namespace recast {

std::string network_of(const std::string& address) {
  namespace ip = boost::asio::ip;
  boost::system::error_code error;
  const ip::address at = ip::make_address(address, error);
  if (error || at.is_v4()) return address;
  const ip::address_v6 six = at.to_v6();
  if (six.is_v4_mapped()) return ip::make_address_v4(ip::v4_mapped, six).to_string();
  auto bytes = six.to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), 0);
  return ip::address_v6(bytes).to_string() + "/64";
}

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
