#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "recast/serve/infer_body.h"
#include "recast/serve/server_port.h"
#include "recast/serve/service.h"

namespace prometheus {
class Registry;
}

namespace recast {

class AccessLog;
class TokenTable;
struct HttpCore;

/// Of the folder that corrections made on the page are kept in.
struct CorrectionLimits {
  std::int64_t images = 10'000;                ///< in the whole folder
  std::int64_t bytes = std::int64_t{2} << 30;  ///< the same
};

/// Everything about the HTTP port that can be chosen. Every limit has a finite default. `request_timeout` runs from the
/// end of the body on.
struct HttpOptions : PortOptions {
  HttpOptions() { port = 8000; }

  bool metrics_only = false;  ///< a port for /metrics and the two health paths, nothing else

  /// Names of this server beside numbers and localhost: where no tokens are asked for, requests under any other name
  /// are refused, since a page from anywhere may give itself that name (DNS rebinding).
  std::vector<std::string> allowed_hosts;

  std::filesystem::path examples;  ///< a folder of images that the page offers to ask about; empty: none
  std::filesystem::path
      corrections;  ///< where corrections made on the page are kept, for `learn`; empty: none are taken
  CorrectionLimits correction_limits;

  int io_threads = 2;  ///< move bytes only; never parse JSON, never wait for the service
  int workers = 2;     ///< parse, call the service and write; one more for bodies of 1 MiB and above, one for lists

  std::size_t header_bytes = std::size_t{16} << 10;
  std::size_t header_fields = 100;
  std::size_t url_bytes = std::size_t{8} << 10;
  std::size_t body_bytes = std::size_t{64} << 20;   ///< of one request
  std::size_t bodies_bytes = std::size_t{1} << 30;  ///< of all requests that are being received or parsed
  std::size_t chunks = 65'536;                      ///< of one body
  InferBodyLimits inference;                        ///< of what stands in an inference's body
  std::size_t response_bytes = std::size_t{64} << 20;
  std::size_t connections = 1'024;

  std::chrono::milliseconds header_timeout{10'000};  ///< TLS handshake; a header from its first byte on
  std::chrono::milliseconds body_timeout{60'000};    ///< from the end of the header to the end of the body
  std::chrono::milliseconds linger_timeout{2'000};   ///< for the client to close after the last answer
};

/// The Open Inference Protocol v2 over HTTP/1.1, with Triton's binary tensors, repository and statistics, Prometheus
/// metrics, an OpenAPI document and a page for people; docs/serving.md has the paths and the limits.
/// Of its threads, those that move bytes call no more of the service than live() and ready().
class HttpServer final : public ServerPort {
 public:
  /// Families that the registry holds already, as of a second server, are shared.
  /// Throws   kInvalidArgument: an address that is no number, one beyond this machine with neither tokens nor
  ///          `insecure`, a certificate without its key or the reverse, an allowed host that is no name, a limit out of
  ///          range; kNotFound, kDataCorruption: the files of TLS, the folder of examples; kUnavailable: the folder for
  ///          corrections.
  HttpServer(Service& service, HttpOptions options, prometheus::Registry& registry, TokenTable* tokens = nullptr,
             AccessLog* access_log = nullptr);
  ~HttpServer() override;

  void start() override;
  std::uint16_t port() const override;
  void not_ready() override;
  bool drain(std::chrono::steady_clock::time_point deadline) override;
  void stop_now() override;

 private:
  std::shared_ptr<HttpCore> core_;
};

}  // namespace recast
