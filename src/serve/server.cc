#include "recast/serve/server.h"

#include <ATen/Parallel.h>
#include <prometheus/registry.h>
#include <sys/resource.h>

#include <future>
#include <memory>
#include <thread>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/base/utc.h"
#include "recast/format/printable.h"
#include "recast/serve/token_table.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kLookAtStop{20};

/// Each connection takes a descriptor, and the usual soft limit is 1,024.
void raise_file_limit() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == files.rlim_max) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

EngineOptions with_threads(EngineOptions options) {
  if (options.workers == 0) options.workers = at::get_num_threads();
  return options;
}

/// Engine and ports, in the order in which they need each other.
class Server {
 public:
  explicit Server(const ServerOptions& options) {
    if (!options.http && !options.grpc)
      fail(Code::kInvalidArgument, "[serve] --no-http and --no-grpc leave nothing to serve: take one of them away");
    if (!options.tokens.empty()) tokens_ = std::make_unique<TokenTable>(options.tokens);
    engine_ = make_engine(with_threads(options.engine), &registry_);
    const auto table = [&](bool asked) { return asked ? tokens_.get() : nullptr; };
    if (options.metrics) {
      metrics_ = std::make_unique<HttpServer>(*engine_, *options.metrics, registry_,
                                              table(!is_loopback(options.metrics->address)));
      ports_.push_back(metrics_.get());
    }
    if (options.http) {
      http_ = std::make_unique<HttpServer>(*engine_, *options.http, registry_, table(true));
      ports_.push_back(http_.get());
    }
    if (options.grpc) {
      grpc_ = std::make_unique<GrpcServer>(*engine_, *options.grpc, registry_, table(true));
      ports_.push_back(grpc_.get());
    }
  }

  ServerPorts start() {
    for (ServerPort* port : ports_) port->start();
    const auto number = [](const ServerPort* port) { return port ? std::optional(port->port()) : std::nullopt; };
    return {.http = number(http_.get()), .grpc = number(grpc_.get()), .metrics = number(metrics_.get())};
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
  std::unique_ptr<Service> engine_;
  std::unique_ptr<ServerPort> metrics_, http_, grpc_;
  std::vector<ServerPort*> ports_;  // those that there are
};

Role parse_role(const std::string& text) {
  for (const Role role : {Role::kInfer, Role::kRead, Role::kManage})
    if (name(role) == text) return role;
  fail(Code::kInvalidArgument, "[token] --role must be infer, read or manage, got '{}'", printable(text));
}

}  // namespace

bool serve(const ServerOptions& options, const std::atomic<bool>& stop,
           const std::function<void(const ServerPorts&)>& listening) {
  raise_file_limit();
  Server server(options);
  listening(server.start());
  while (!stop) std::this_thread::sleep_for(kLookAtStop);
  const auto began = Clock::now();
  const bool all = server.drain(began + options.drain);
  log_event(all ? LogLevel::kInfo : LogLevel::kWarn, "serve.drained",
            {{"all", all}, {"ms", std::chrono::duration<double, std::milli>(Clock::now() - began).count()}});
  return all;
}

std::string add_token(const TokenRequest& request) {
  TokenEntry entry{.name = request.name, .roles = {}, .tasks = request.tasks, .expires = {}, .salt = {}, .sha256 = {}};
  for (const std::string& role : request.roles) entry.roles.insert(parse_role(role));
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
