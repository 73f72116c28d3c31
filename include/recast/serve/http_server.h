#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "recast/serve/infer_body.h"
#include "recast/serve/service.h"

namespace prometheus {
class Registry;
}

namespace recast {

class TokenTable;
struct HttpCore;

/// Everything about the HTTP port that can be chosen. Every limit has a finite default.
struct HttpOptions {
  std::string address = "127.0.0.1";  ///< in numbers, IPv4 or IPv6
  std::uint16_t port = 8000;          ///< 0: any free one
  bool insecure = false;              ///< addresses beyond this machine without a token table
  bool management = false;            ///< without a token table: models may be loaded and unloaded
  bool metrics_only = false;          ///< a port for /metrics and the two health paths, nothing else

  std::filesystem::path certificate;  ///< PEM, the chain, own certificate first; empty: no TLS
  std::filesystem::path key;          ///< PEM, of the certificate
  std::filesystem::path client_ca;    ///< PEM; given: clients must show a certificate that it signed

  int io_threads = 2;  ///< move bytes only; never parse JSON, never wait for the service
  int workers = 2;     ///< parse, call the service and write; one more does so for bodies of 1 MiB and above

  std::size_t header_bytes = std::size_t{16} << 10;
  std::size_t header_fields = 100;
  std::size_t url_bytes = std::size_t{8} << 10;
  std::size_t body_bytes = std::size_t{64} << 20;   ///< of one request
  std::size_t bodies_bytes = std::size_t{1} << 30;  ///< of all requests that are being received or parsed
  std::size_t chunks = 65'536;                      ///< of one body
  InferBodyLimits inference;                        ///< of what stands in an inference's body
  std::size_t response_bytes = std::size_t{64} << 20;
  std::size_t connections = 1'024;

  std::chrono::milliseconds header_timeout{10'000};    ///< TLS handshake; a header from its first byte on
  std::chrono::milliseconds body_timeout{60'000};      ///< from the end of the header to the end of the body
  std::chrono::milliseconds idle_timeout{75'000};      ///< between two requests of one connection
  std::chrono::milliseconds request_timeout{60'000};   ///< from the end of the body to the answer
  std::chrono::milliseconds response_timeout{60'000};  ///< for the client to take the answer
  std::chrono::milliseconds linger_timeout{2'000};     ///< for the client to close after the last answer
};

/// The Open Inference Protocol v2 over HTTP/1.1, with Triton's binary tensors, repository and statistics, Prometheus
/// metrics and an OpenAPI document; docs/serving.md has the paths and the limits.
/// Threads  one thread starts, drains and stops; the service is called from several at once, never (but for live() and
///          ready()) from one that moves bytes, and an inference occupies none of them while it is computed.
/// Owns     its sockets and threads. Service, registry and token table must outlive it; calls of the service that are
///          under way when it goes keep nothing of it alive and are told by CallContext::cancelled.
class HttpServer {
 public:
  /// Families that the registry holds already, as of a second server, are shared.
  /// Throws   kInvalidArgument: an address that is no number, one beyond this machine with neither tokens nor
  ///          `insecure`, a certificate without its key or the reverse, a limit of 0; kNotFound, kDataCorruption: the
  ///          files of TLS.
  HttpServer(Service& service, HttpOptions options, prometheus::Registry& registry, TokenTable* tokens = nullptr);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();  ///< stop_now()

  /// Binds, listens and serves. Once. Throws kUnavailable: the address is taken or not of this machine.
  void start();
  /// The port it listens on, once started.
  std::uint16_t port() const;

  /// /v2/health/ready says no from now on and all else goes on, for balancers that ask before they stop sending.
  void not_ready();
  /// not_ready(), then takes no more connections, answers the requests that are being received or computed, closes each
  /// connection after its answer and those without a request at once. Returns when all are closed or at the deadline;
  /// whether all were closed.
  bool drain(std::chrono::steady_clock::time_point deadline);
  /// Closes every connection and ends the threads. What is not answered is cancelled.
  void stop_now();

 private:
  std::shared_ptr<HttpCore> core_;
};

}  // namespace recast
