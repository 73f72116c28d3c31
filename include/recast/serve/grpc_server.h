#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "recast/serve/server_port.h"
#include "recast/serve/service.h"

namespace prometheus {
class Registry;
}

namespace recast {

class AccessLog;
class TokenTable;

/// Everything about the gRPC port that can be chosen. Every limit has a finite default. `request_timeout` runs from the
/// header on, and is less where the client says so; `insecure` also lets addresses beyond this machine be served by a
/// gRPC library that does not withstand floods.
struct GrpcOptions : PortOptions {
  GrpcOptions() { port = 8001; }

  int workers = 2;  ///< for calls that read the store; an inference occupies none of them

  std::size_t message_bytes = std::size_t{64} << 20;  ///< of one message, either way, and of what it unpacks to
  std::size_t memory_bytes = std::size_t{1} << 30;    ///< of all messages that are being received or sent
  std::size_t metadata_bytes = std::size_t{16} << 10;
  int streams = 100;  ///< calls of one connection at a time
  int calls = 4'096;  ///< calls at a time
  RequestLimits request;

  std::chrono::milliseconds handshake_timeout{10'000};  ///< of TCP and TLS, up to HTTP/2's settings
  std::chrono::milliseconds stream_timeout{600'000};    ///< between two requests of a ModelStreamInfer
  std::chrono::milliseconds keepalive{60'000};          ///< silence after which a client is asked whether it is there
  std::chrono::milliseconds keepalive_timeout{20'000};  ///< for it to say so
  std::chrono::milliseconds ping_interval{10'000};      ///< clients that ping more often are sent away
};

/// The Open Inference Protocol v2 over gRPC, with Triton's repository, statistics and stream and the Check of
/// grpc.health.v1; docs/serving.md has the calls, the roles and the limits.
class GrpcServer final : public ServerPort {
 public:
  /// Families that the registry holds already are shared.
  /// Throws   kInvalidArgument: an address that is no number, one beyond this machine with neither tokens nor
  ///          `insecure`, or, without `insecure`, with a gRPC library that may not withstand floods of HTTP/2 frames; a
  ///          certificate without its key or the reverse; a limit out of range; kNotFound, kDataCorruption:
  ///          the files of TLS.
  GrpcServer(Service& service, GrpcOptions options, prometheus::Registry& registry, TokenTable* tokens = nullptr,
             AccessLog* access_log = nullptr);
  ~GrpcServer() override;

  void start() override;
  std::uint16_t port() const override;
  void not_ready() override;
  bool drain(std::chrono::steady_clock::time_point deadline) override;
  void stop_now() override;

 private:
  struct Core;
  std::unique_ptr<Core> core_;
};

/// Whether a gRPC library of this version ("1.51.1") is of 1.66 or later, the first release that no report of these
/// names: rapid resets (CVE-2023-44487), endless HPACK integers and strings, and headers in any number of frames
/// (CVE-2023-33953), headers that abort the process (CVE-2023-1428), connections that use up the descriptors
/// (CVE-2023-4785), a poisoned header table (CVE-2024-7246, up to 1.65.3). Patches of older releases have remedies,
/// too, as may those of a distribution: the version does not tell.
bool withstands_floods(std::string_view grpc_version);

}  // namespace recast
