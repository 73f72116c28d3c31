#include "named_limits.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <limits>
#include <utility>
#include <vector>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using std::chrono::milliseconds;

template <class Number>
std::int64_t as_number(Number value) {
  return static_cast<std::int64_t>(value);
}
std::int64_t as_number(milliseconds value) { return value.count(); }

/// What the type cannot hold is out of any range: whoever checks it says so.
template <class Number>
void assign(Number& to, std::int64_t value) {
  to = std::in_range<Number>(value) ? static_cast<Number>(value) : std::numeric_limits<Number>::max();
}
void assign(milliseconds& to, std::int64_t value) { to = milliseconds(value); }

template <auto Member>
constexpr Limit of_http(std::string_view name) {
  return {name, [](const ServerOptions& options) { return as_number((*options.http).*Member); },
          [](ServerOptions& options, std::int64_t value) {
            if (options.http) assign((*options.http).*Member, value);
            if (options.metrics) assign((*options.metrics).*Member, value);
          }};
}

template <auto Member>
constexpr Limit of_grpc(std::string_view name) {
  return {name, [](const ServerOptions& options) { return as_number((*options.grpc).*Member); },
          [](ServerOptions& options, std::int64_t value) {
            if (options.grpc) assign((*options.grpc).*Member, value);
          }};
}

/// Of HTTP and gRPC alike.
template <auto Member>
constexpr Limit of_ports(std::string_view name) {
  return {name, [](const ServerOptions& options) { return as_number((*options.http).*Member); },
          [](ServerOptions& options, std::int64_t value) {
            of_http<Member>("").set(options, value);
            of_grpc<Member>("").set(options, value);
          }};
}

template <auto Member>
constexpr Limit of_requests(std::string_view name) {
  return {name, [](const ServerOptions& options) { return as_number(options.http->inference.request.*Member); },
          [](ServerOptions& options, std::int64_t value) {
            if (options.http) assign(options.http->inference.request.*Member, value);
            if (options.grpc) assign(options.grpc->request.*Member, value);
          }};
}

template <auto Member>
constexpr Limit of_json(std::string_view name) {
  return {name, [](const ServerOptions& options) { return as_number(options.http->inference.*Member); },
          [](ServerOptions& options, std::int64_t value) {
            if (options.http) assign(options.http->inference.*Member, value);
          }};
}

template <auto Member>
constexpr Limit of_corrections(std::string_view name) {
  return {name, [](const ServerOptions& options) { return as_number(options.http->correction_limits.*Member); },
          [](ServerOptions& options, std::int64_t value) {
            if (options.http) assign(options.http->correction_limits.*Member, value);
          }};
}

template <auto Member>
constexpr Limit of_engine(std::string_view name) {
  return {name, [](const ServerOptions& options) { return as_number(options.engine.*Member); },
          [](ServerOptions& options, std::int64_t value) { assign(options.engine.*Member, value); }};
}

constexpr Limit kRows = {"rows", of_engine<&EngineOptions::max_rows>("").get,
                         [](ServerOptions& options, std::int64_t value) {
                           of_engine<&EngineOptions::max_rows>("").set(options, value);
                           of_requests<&RequestLimits::rows>("").set(options, value);
                         }};

constexpr Limit kLimits[] = {
    kRows,
    of_requests<&RequestLimits::tensors>("tensors"),
    of_requests<&RequestLimits::rank>("dimensions"),
    of_requests<&RequestLimits::parameters>("parameters"),
    of_requests<&RequestLimits::parameter_bytes>("parameter_bytes"),
    of_requests<&RequestLimits::name_bytes>("name_bytes"),
    of_json<&InferBodyLimits::depth>("json.depth"),
    of_json<&InferBodyLimits::values>("json.values"),
    of_json<&InferBodyLimits::text_bytes>("json.text_bytes"),
    of_engine<&EngineOptions::queue_rows>("queue_rows"),
    of_engine<&EngineOptions::queue_bytes>("queue_bytes"),
    of_engine<&EngineOptions::store_grace>("store_grace_ms"),
    of_ports<&PortOptions::request_timeout>("request_ms"),
    of_ports<&PortOptions::response_timeout>("response_ms"),
    of_ports<&PortOptions::idle_timeout>("idle_ms"),
    of_http<&HttpOptions::header_bytes>("http.header_bytes"),
    of_http<&HttpOptions::header_fields>("http.header_fields"),
    of_http<&HttpOptions::url_bytes>("http.url_bytes"),
    of_http<&HttpOptions::body_bytes>("http.body_bytes"),
    of_http<&HttpOptions::bodies_bytes>("http.bodies_bytes"),
    of_http<&HttpOptions::chunks>("http.chunks"),
    of_http<&HttpOptions::response_bytes>("http.response_bytes"),
    of_http<&HttpOptions::connections>("http.connections"),
    of_http<&HttpOptions::header_timeout>("http.header_ms"),
    of_http<&HttpOptions::body_timeout>("http.body_ms"),
    of_http<&HttpOptions::linger_timeout>("http.linger_ms"),
    of_corrections<&CorrectionLimits::images>("corrections.images"),
    of_corrections<&CorrectionLimits::bytes>("corrections.bytes"),
    of_grpc<&GrpcOptions::message_bytes>("grpc.message_bytes"),
    of_grpc<&GrpcOptions::memory_bytes>("grpc.memory_bytes"),
    of_grpc<&GrpcOptions::metadata_bytes>("grpc.metadata_bytes"),
    of_grpc<&GrpcOptions::streams>("grpc.streams"),
    of_grpc<&GrpcOptions::calls>("grpc.calls"),
    of_grpc<&GrpcOptions::handshake_timeout>("grpc.handshake_ms"),
    of_grpc<&GrpcOptions::stream_timeout>("grpc.stream_ms"),
    of_grpc<&GrpcOptions::keepalive>("grpc.keepalive_ms"),
    of_grpc<&GrpcOptions::keepalive_timeout>("grpc.keepalive_answer_ms"),
    of_grpc<&GrpcOptions::ping_interval>("grpc.ping_ms"),
};

}  // namespace

std::span<const Limit> all_limits() { return kLimits; }

void set_limit(ServerOptions& options, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals == assignment.npos)
    fail(Code::kInvalidArgument, "[serve] --limit must be NAME=VALUE, got '{}'", printable(assignment));
  const std::string name = assignment.substr(0, equals);
  const auto* const limit = std::ranges::find(kLimits, name, &Limit::name);
  if (limit == std::end(kLimits)) {
    std::vector<std::string> names;
    for (const Limit& one : kLimits) names.emplace_back(one.name);
    const std::string near = nearest(name, names);
    fail(Code::kInvalidArgument, "[serve] --limit: no limit is called '{}'{}", printable(name),
         near.empty() ? "; docs/serving.md lists them" : ", did you mean '" + near + "'?");
  }
  std::int64_t value = -1;
  const char* const end = assignment.data() + assignment.size();
  const auto [stopped, error] = std::from_chars(assignment.data() + equals + 1, end, value);
  if (error != std::errc() || stopped != end || value < 0)
    fail(Code::kInvalidArgument, "[serve] --limit {} must be a whole number, got '{}'", name,
         printable(std::string_view(assignment).substr(equals + 1)));
  limit->set(options, value);
}

}  // namespace recast
