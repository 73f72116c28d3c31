#include "recast/serve/server.h"

#include <ATen/Parallel.h>
#include <prometheus/registry.h>
#include <sys/resource.h>

#include <algorithm>
#include <future>
#include <memory>
#include <thread>

#include "named_limits.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/base/utc.h"
#include "recast/format/printable.h"
#include "recast/serve/access_log.h"
#include "recast/serve/token_table.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kLook{20};

/// Each connection takes a descriptor, and the usual soft limit is 1,024. No more than this, where the system would
/// allow a million: nothing else bounds the connections of gRPC, which take 20 KB each.
constexpr rlim_t kFiles = 20'000;

void raise_file_limit() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  const rlim_t wanted = std::min(files.rlim_max, kFiles);
  if (files.rlim_cur >= wanted) return;
  files.rlim_cur = wanted;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

ServerOptions completed(ServerOptions options) {
  if (options.engine.workers == 0) options.engine.workers = at::get_num_threads();
  for (const std::string& limit : options.limits) set_limit(options, limit);
  return options;
}

/// Engine and ports, in the order in which they need each other.
class Server {
 public:
  explicit Server(const ServerOptions& options) {
    if (!options.http && !options.grpc)
      fail(Code::kInvalidArgument, "[serve] --no-http and --no-grpc leave nothing to serve: take one of them away");
    if (!options.tokens.empty()) tokens_ = std::make_unique<TokenTable>(options.tokens);
    if (!options.access_log.empty()) access_log_ = std::make_unique<AccessLog>(options.access_log, registry_);
    engine_ = make_engine(options.engine, &registry_);
    if (options.metrics) {
      metrics_ = std::make_unique<HttpServer>(*engine_, *options.metrics, registry_,
                                              is_loopback(options.metrics->address) ? nullptr : tokens_.get());
      ports_.push_back(metrics_.get());
    }
    if (options.http) {
      http_ = std::make_unique<HttpServer>(*engine_, *options.http, registry_, tokens_.get(), access_log_.get());
      ports_.push_back(http_.get());
    }
    if (options.grpc) {
      grpc_ = std::make_unique<GrpcServer>(*engine_, *options.grpc, registry_, tokens_.get(), access_log_.get());
      ports_.push_back(grpc_.get());
    }
  }

  ServerPorts start() {
    for (ServerPort* port : ports_) port->start();
    const auto number = [](const ServerPort* port) { return port ? std::optional(port->port()) : std::nullopt; };
    return {.http = number(http_.get()), .grpc = number(grpc_.get()), .metrics = number(metrics_.get())};
  }

  void reopen_log() {
    if (access_log_) access_log_->reopen();
  }

  /// All at once, so that none waits for the slow clients of another.
  bool drain(Clock::time_point deadline) {
    for (ServerPort* port : ports_) port->not_ready();
    std::vector<std::future<bool>> drained;
    for (ServerPort* port : ports_)
      drained.push_back(std::async(std::launch::async, [port, deadline] { return port->drain(deadline); }));
    bool all = true;
    for (std::future<bool>& one : drained) all = one.get() && all;
    return engine_->drain(deadline) && all;
  }

 private:
  prometheus::Registry registry_;
  std::unique_ptr<TokenTable> tokens_;
  std::unique_ptr<AccessLog> access_log_;
  std::unique_ptr<Service> engine_;
  std::unique_ptr<ServerPort> metrics_, http_, grpc_;
  std::vector<ServerPort*> ports_;  // those that there are
};

}  // namespace

bool serve(const ServerOptions& options, const std::atomic<bool>& stop, const std::function<bool()>& reopen_log,
           const std::function<void(const ServerPorts&)>& listening) {
  raise_file_limit();
  Server server(completed(options));
  listening(server.start());
  for (; !stop; std::this_thread::sleep_for(kLook))
    if (reopen_log()) server.reopen_log();
  const auto began = Clock::now();
  const bool all = server.drain(began + options.drain);
  log_event(all ? LogLevel::kInfo : LogLevel::kWarn, "serve.drained",
            {{"all", all}, {"ms", std::chrono::duration<double, std::milli>(Clock::now() - began).count()}});
  return all;
}

std::string add_token(const TokenRequest& request) {
  TokenEntry entry{.name = request.name, .roles = {}, .tasks = request.tasks, .expires = {}, .salt = {}, .sha256 = {}};
  for (const std::string& text : request.roles) {
    const std::optional<Role> role = role_of(text);
    if (!role) fail(Code::kInvalidArgument, "[token] --role must be infer, read or manage, got '{}'", printable(text));
    entry.roles.insert(*role);
  }
  if (!request.expires.empty()) {
    entry.expires = parse_utc(request.expires);
    if (!entry.expires)
      fail(Code::kInvalidArgument, "[token] --expires must be a time in UTC as 2027-01-31T00:00:00Z, got '{}'",
           printable(request.expires));
  }
  return add_token(request.file, std::move(entry));
}

}  // namespace recast

extern "C" {
const RecastServe recast_serve = &recast::serve;
const RecastAddToken recast_add_token = &recast::add_token;
}
