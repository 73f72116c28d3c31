#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "recast/serve/engine.h"
#include "recast/serve/grpc_server.h"
#include "recast/serve/http_server.h"

namespace recast {

/// A port for /metrics and the health paths alone.
inline HttpOptions metrics_port() {
  HttpOptions options;
  options.port = 8002;
  options.metrics_only = true;
  return options;
}

/// What `recast serve` can be told; a port without options is not served.
struct ServerOptions {
  EngineOptions engine;
  std::optional<HttpOptions> http = HttpOptions();
  std::optional<GrpcOptions> grpc = GrpcOptions();
  std::optional<HttpOptions> metrics = metrics_port();  ///< asks for no token on this machine's own addresses
  std::filesystem::path tokens;                         ///< a token file (token_table.h); empty: none
  std::string access_log;                               ///< of all ports but that for metrics: a file, or "-" for
                                                        ///< standard error; empty: none
  std::vector<std::string> limits;                      ///< "NAME=VALUE", over what the fields above say
  std::chrono::milliseconds drain{30'000};              ///< for what was taken when the end is asked for
};

/// Where a server listens; nothing: not there.
struct ServerPorts {
  std::optional<std::uint16_t> http, grpc, metrics;
};

/// Serves the tasks of the model directories on all ports until `stop` is set, then lets them drain: no new connections
/// and calls, and what was taken is answered. `listening` is called once, before the first request is answered;
/// `reopen_log` all the time: each time that it says yes the access log's file is opened anew. Raises the limit of open
/// files to 20,000, or what the system allows. Returns whether all was answered in time.
/// Threads  those of its parts; the calling one waits.
/// Throws   as make_engine(), HttpServer, GrpcServer, TokenTable, AccessLog, and what `listening` throws;
///          kInvalidArgument: a limit that there is not.
bool serve(const ServerOptions& options, const std::atomic<bool>& stop, const std::function<bool()>& reopen_log,
           const std::function<void(const ServerPorts&)>& listening);

/// A token as a person asks for it.
struct TokenRequest {
  std::filesystem::path file;
  std::string name;
  std::vector<std::string> roles, tasks;  ///< infer, read, manage; globs
  std::string expires;                    ///< as 2027-01-31T00:00:00Z; empty: never
};
/// add_token() in words. Throws kInvalidArgument: a role or a time that is none.
std::string add_token(const TokenRequest& request);

}  // namespace recast

/// The same for programs that open this library when they need it, and load neither it nor gRPC before.
extern "C" {
using RecastServe = decltype(&recast::serve);
using RecastAddToken = std::string (*)(const recast::TokenRequest&);
extern const RecastServe recast_serve;
extern const RecastAddToken recast_add_token;
}
