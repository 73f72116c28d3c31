// Why the process may hold two copies of Protocol Buffers. libtorch_cpu.so of the PyPI wheel (torch 2.13.0) has
// protobuf 3.13 inside, linked statically and hidden: of its names it exports three copies of byteswap<>, which
// Debian's libprotobuf 3.21 does not have. Names that both export, and may therefore share, are functions of the C++
// library that either was compiled with (call_once, hash tables, trees, vectors); the code behind them is the same.
// Absl is in an inline namespace of Debian's own (absl::debian3), and OpenSSL, c-ares and re2 are not in libtorch at
// all. So neither needs -Bsymbolic, archives or RTLD_DEEPBIND: programs linked in both orders made calls, parsed JSON
// into messages and ran operators inside of calls, lazily bound and with LD_BIND_NOW; LD_DEBUG=bindings shows the names
// that cross over. tests/serve/one_process_test.cc keeps watch. What does need care is at compile time: the wheel's
// include folder brings headers of that 3.13, and cmake/Grpc.cmake keeps the system's in front of them.
#include "recast/serve/grpc_server.h"

#include <fmt/format.h>
#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/version_info.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "check_port.h"
#include "grpc_call.h"
#include "grpc_credentials.h"
#include "recast/base/error.h"
#include "recast/base/log.h"

namespace recast {
namespace {

using std::chrono::milliseconds;

// ---- options --------------------------------------------------------------------------------------------------------

GrpcOptions checked(GrpcOptions options, bool tokens) {
  check_port("grpc", options, tokens);
  if (!options.insecure && !is_loopback(options.address) && !withstands_floods(grpc::Version()))
    fail(Code::kInvalidArgument,
         "[grpc] {} can be reached from other machines, and gRPC {} is older than 1.66, the first that no report of "
         "floods of HTTP/2 frames names: listen on 127.0.0.1 behind a proxy, build with a newer gRPC, or give "
         "--insecure",
         options.address, grpc::Version());
  const auto range = []<class Number>(std::string_view name, Number value, Number least, Number most) {
    check_range("grpc", name, value, least, most);
  };
  const auto time = [](std::string_view name, milliseconds value) { check_time("grpc", name, value); };
  range("workers", options.workers, 1, 1'024);
  range("message_bytes", options.message_bytes, std::size_t{1'024}, std::size_t{1} << 30);
  range("memory_bytes", options.memory_bytes, std::size_t{1} << 20, std::size_t{1} << 50);
  range("metadata_bytes", options.metadata_bytes, std::size_t{1'024}, std::size_t{1} << 20);
  range("streams", options.streams, 1, 1'000'000);
  range("calls", options.calls, 1, 1'000'000);
  check_limits("grpc", options.request);
  time("handshake_timeout", options.handshake_timeout);
  time("stream_timeout", options.stream_timeout);
  time("keepalive", options.keepalive);
  time("keepalive_timeout", options.keepalive_timeout);
  time("ping_interval", options.ping_interval);
  return options;
}

/// How often open calls are looked at: a tenth of the shortest time, within reason.
milliseconds tick(const GrpcOptions& options) {
  const milliseconds shortest = std::min({options.request_timeout, options.response_timeout, options.stream_timeout});
  return std::clamp(shortest / 10, milliseconds(5), milliseconds(250));
}

// ---- the library's settings -----------------------------------------------------------------------------------------

int as_int(std::size_t bytes) {
  return static_cast<int>(std::min<std::size_t>(bytes, std::numeric_limits<int>::max()));
}
int as_int(milliseconds time) { return static_cast<int>(time.count()); }

void set_limits(grpc::ServerBuilder& builder, const GrpcOptions& options) {
  builder.SetMaxReceiveMessageSize(as_int(options.message_bytes));
  builder.SetResourceQuota(grpc::ResourceQuota("recast").Resize(options.memory_bytes));
  // As over HTTP: a compressed message of a megabyte may hold a gigabyte.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  const auto argument = [&builder](const char* name, int value) { builder.AddChannelArgument(name, value); };
  argument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // or a second server would silently share the port
  argument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.streams);
  argument(GRPC_ARG_MAX_METADATA_SIZE, as_int(options.metadata_bytes));
  argument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, as_int(options.handshake_timeout));
  argument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, as_int(options.idle_timeout));
  argument(GRPC_ARG_KEEPALIVE_TIME_MS, as_int(options.keepalive));
  argument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, as_int(options.keepalive_timeout));
  argument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  argument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, as_int(options.ping_interval));
  argument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2);
}

/// By itself the library would write on standard error.
void log_through_recast() {
#if GRPC_CPP_VERSION_MAJOR == 1 && GRPC_CPP_VERSION_MINOR < 65
  gpr_set_log_function([](gpr_log_func_args* line) {
    // The library outlives every server, and so does what it calls. Clients cause its errors, too: of handshakes.
    static auto* const kErrors = new RationedEvent(LogLevel::kWarn, "grpc.library");
    const std::string_view note = line->message;
    if (line->severity == GPR_LOG_SEVERITY_ERROR)
      kErrors->log({{"note", note}});
    else
      log_event(LogLevel::kDebug, "grpc.library", {{"note", note}});
  });
#endif
}

class AllCalls final : public grpc::CallbackGenericService {
 public:
  explicit AllCalls(std::shared_ptr<GrpcFloor> floor) : floor_(std::move(floor)) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return GrpcCall::begin(floor_, *context);
  }

 private:
  const std::shared_ptr<GrpcFloor> floor_;
};

}  // namespace

// ---- the server -----------------------------------------------------------------------------------------------------

struct GrpcServer::Core {
  Core(Service& service, GrpcOptions wanted, prometheus::Registry& registry, TokenTable* tokens, AccessLog* access_log)
      : options(checked(std::move(wanted), tokens != nullptr)),
        tls(options.certificate.empty() ? nullptr : std::make_unique<TlsFiles>(options)),
        credentials(tls ? tls_credentials(*tls) : grpc::InsecureServerCredentials()),
        open(static_cast<std::size_t>(options.calls), tick(options)),
        readers(options.workers, options.calls),
        floor(new GrpcFloor{service, options, tokens, access_log, open, readers, GrpcMetrics(registry)}),
        calls(floor) {}

  void start();
  /// Whether all calls were answered.
  bool stop(std::chrono::system_clock::time_point deadline);

  const GrpcOptions options;
  const std::unique_ptr<TlsFiles> tls;  ///< null: none
  const std::shared_ptr<grpc::ServerCredentials> credentials;
  OpenCalls open;
  JobThreads readers;
  const std::shared_ptr<GrpcFloor> floor;
  AllCalls calls;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

void GrpcServer::Core::start() {
  log_through_recast();
  const bool six = options.address.find(':') != std::string::npos;
  const std::string address = fmt::format("{}:{}", six ? "[" + options.address + "]" : options.address, options.port);
  grpc::ServerBuilder builder;
  set_limits(builder, options);
  builder.AddListeningPort(address, credentials, &port);
  builder.RegisterCallbackGenericService(&calls);
  server = builder.BuildAndStart();
  if (!server || port == 0) {
    server.reset();
    fail(Code::kUnavailable, "[grpc] cannot listen on {}: the port is taken, or the address is not of this machine",
         address);
  }
}

bool GrpcServer::Core::stop(std::chrono::system_clock::time_point deadline) {
  floor->ready = false;
  if (!server) return true;
  open.close();
  server->Shutdown(deadline);
  const bool all = std::chrono::system_clock::now() < deadline;
  open.wait_until_none();
  server.reset();
  return all;
}

GrpcServer::GrpcServer(Service& service, GrpcOptions options, prometheus::Registry& registry, TokenTable* tokens,
                       AccessLog* access_log)
    : core_(std::make_unique<Core>(service, std::move(options), registry, tokens, access_log)) {}

GrpcServer::~GrpcServer() { stop_now(); }

void GrpcServer::start() {
  RECAST_ASSERT(!core_->server);
  core_->start();
  log_event(LogLevel::kInfo, "grpc.listening",
            {{"address", core_->options.address}, {"port", core_->port}, {"tls", !core_->options.certificate.empty()}});
}

std::uint16_t GrpcServer::port() const { return static_cast<std::uint16_t>(core_->port); }

void GrpcServer::not_ready() { core_->floor->ready = false; }

bool GrpcServer::drain(std::chrono::steady_clock::time_point deadline) {
  const auto left = std::min<std::chrono::steady_clock::duration>(deadline - std::chrono::steady_clock::now(),
                                                                  std::chrono::hours(24));
  return core_->stop(std::chrono::system_clock::now() + left);
}

void GrpcServer::stop_now() { core_->stop(std::chrono::system_clock::now()); }

bool withstands_floods(std::string_view grpc_version) {
  int major = 0, minor = 0;
  const char* const end = grpc_version.data() + grpc_version.size();
  const auto [dot, error] = std::from_chars(grpc_version.data(), end, major);
  if (error != std::errc() || dot == end || *dot != '.') return false;
  if (std::from_chars(dot + 1, end, minor).ec != std::errc()) return false;
  return major > 1 || (major == 1 && minor >= 66);
}

}  // namespace recast
