#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "recast/serve/service.h"

namespace recast {

class TokenTable;

/// Everything about the gRPC port that can be chosen; names and meanings as in HttpOptions. Every limit has a finite
/// default.
struct GrpcOptions {
  std::string address = "127.0.0.1";  ///< in numbers, IPv4 or IPv6
  std::uint16_t port = 8001;          ///< 0: any free one
  bool insecure = false;              ///< addresses beyond this machine whatever the library and without tokens
  bool management = false;            ///< without a token table: models may be loaded and unloaded

  std::filesystem::path certificate;  ///< PEM, the chain, own certificate first; empty: no TLS
  std::filesystem::path key;          ///< PEM, of the certificate
  std::filesystem::path client_ca;    ///< PEM; given: clients must show a certificate that it signed

  int workers = 2;  ///< for calls that read the store; an inference occupies none of them

  std::size_t message_bytes = std::size_t{64} << 20;  ///< of one message, either way, and of what it unpacks to
  std::size_t memory_bytes = std::size_t{1} << 30;    ///< of all messages that are being received or sent
  std::size_t metadata_bytes = std::size_t{16} << 10;
  int streams = 100;  ///< calls of one connection at a time
  int calls = 4'096;  ///< calls at a time
  RequestLimits request;

  std::chrono::milliseconds handshake_timeout{10'000};  ///< of TCP and TLS, up to HTTP/2's settings
  std::chrono::milliseconds request_timeout{60'000};    ///< from the header to the answer, or less as the client says
  std::chrono::milliseconds response_timeout{60'000};   ///< for the client to take the answer
  std::chrono::milliseconds stream_timeout{600'000};    ///< between two requests of a ModelStreamInfer
  std::chrono::milliseconds idle_timeout{75'000};       ///< of a connection without calls
  std::chrono::milliseconds keepalive{60'000};          ///< silence after which a client is asked whether it is there
  std::chrono::milliseconds keepalive_timeout{20'000};  ///< for it to say so
  std::chrono::milliseconds ping_interval{10'000};      ///< clients that ping more often are sent away
};

/// The Open Inference Protocol v2 over gRPC, with Triton's repository, statistics and stream and the Check of
/// grpc.health.v1; docs/serving.md has the calls, the roles and the limits.
/// Threads  one thread starts, drains and stops; the service is called from several at once, and an inference occupies
///          none of them while it is computed.
/// Owns     its sockets and threads. Service and token table must outlive it; calls of the service that are under way
///          when it goes keep nothing of it alive and are told by CallContext::cancelled.
class GrpcServer {
 public:
  /// Throws kInvalidArgument: an address that is no number, one beyond this machine with neither tokens nor `insecure`,
  /// or, without `insecure`, with a gRPC library older than the remedies against floods of HTTP/2 frames; a certificate
  /// without its key or the reverse; a limit out of range; kNotFound, kDataCorruption: the files of TLS.
  GrpcServer(Service& service, GrpcOptions options, TokenTable* tokens = nullptr);
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;
  ~GrpcServer();  ///< stop_now()

  /// Binds, listens and serves. Once. Throws kUnavailable: the address is taken or not of this machine.
  void start();
  /// The port it listens on, once started.
  std::uint16_t port() const;

  /// ServerReady and Check say no from now on and all else goes on, for balancers that ask before they stop sending.
  void not_ready();
  /// not_ready(), then takes no more connections and calls and answers those that are under way. Returns when all are
  /// answered, or at the deadline with the rest cancelled; whether all were.
  bool drain(std::chrono::steady_clock::time_point deadline);
  /// Cancels every call and ends the threads.
  void stop_now();

 private:
  struct Core;
  std::unique_ptr<Core> core_;
};

/// Whether a gRPC library of this version ("1.51.1") withstands floods of HTTP/2 frames, as far as is known: rapid
/// resets (CVE-2023-44487), endless HPACK integers and strings (CVE-2023-33953), headers that abort the process
/// (CVE-2023-1428), connections that use up the descriptors (CVE-2023-4785), a poisoned header table (CVE-2024-7246).
bool withstands_floods(std::string_view grpc_version);

}  // namespace recast
