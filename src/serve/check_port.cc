#include "check_port.h"

#include <boost/asio/ip/address.hpp>

#include "recast/format/printable.h"

namespace recast {

using boost::asio::ip::make_address;
using std::chrono::milliseconds;

bool is_loopback(const std::string& address) {
  boost::system::error_code error;
  return make_address(address, error).is_loopback();
}

void check_port(std::string_view area, const PortOptions& options, bool tokens) {
  boost::system::error_code error;
  make_address(options.address, error);
  if (error)
    fail(Code::kInvalidArgument, "[{}] '{}' is no address in numbers, as 127.0.0.1, 0.0.0.0 or ::1", area,
         printable(options.address));
  if (!is_loopback(options.address) && !tokens && !options.insecure)
    fail(Code::kInvalidArgument,
         "[{}] {} can be reached from other machines: give a token file (--tokens FILE), or let everybody in with "
         "--insecure",
         area, options.address);
  if (options.certificate.empty() != options.key.empty())
    fail(Code::kInvalidArgument, "[{}] a certificate and its key belong together: give both or neither", area);
  if (options.certificate.empty() && !options.client_ca.empty())
    fail(Code::kInvalidArgument, "[{}] certificates of clients need TLS: give a certificate and its key, too", area);
  check_time(area, "request_timeout", options.request_timeout);
  check_time(area, "response_timeout", options.response_timeout);
  check_time(area, "idle_timeout", options.idle_timeout);
}

void check_time(std::string_view area, std::string_view name, milliseconds value) {
  const auto day = milliseconds(std::chrono::hours(24)).count();
  if (value.count() >= 1 && value.count() <= day) return;
  fail(Code::kInvalidArgument, "[{}] {} must lie in 1..{} ms, got {}", area, name, day, value.count());
}

void check_count(std::string_view area, std::string_view name, std::size_t value) {
  check_range(area, name, value, std::size_t{1}, std::size_t{1} << 50);
}

void check_limits(std::string_view area, const RequestLimits& limits) {
  check_range(area, "rows", limits.rows, std::int64_t{1}, std::int64_t{1} << 50);
  check_count(area, "tensors", limits.tensors);
  check_count(area, "dimensions", limits.rank);
  check_count(area, "parameters", limits.parameters);
  check_count(area, "parameter_bytes", limits.parameter_bytes);
  check_count(area, "name_bytes", limits.name_bytes);
}

}  // namespace recast
