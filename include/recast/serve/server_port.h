#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

namespace recast {

/// What can be chosen for a port, whatever it speaks.
struct PortOptions {
  std::string address = "127.0.0.1";  ///< in numbers, IPv4 or IPv6
  std::uint16_t port = 0;             ///< 0: any free one
  bool insecure = false;              ///< addresses beyond this machine without a token table
  bool management = false;            ///< without a token table: models may be loaded and unloaded

  std::filesystem::path certificate;  ///< PEM, the chain, own certificate first; empty: no TLS
  std::filesystem::path key;          ///< PEM, of the certificate
  std::filesystem::path client_ca;    ///< PEM; given: clients must show a certificate that it signed

  std::chrono::milliseconds request_timeout{60'000};   ///< until a request is answered
  std::chrono::milliseconds response_timeout{60'000};  ///< for the client to take the answer
  std::chrono::milliseconds idle_timeout{75'000};      ///< of a connection without requests
};

/// Whether it is an address in numbers, and of this machine alone.
bool is_loopback(const std::string& address);

/// A port of a server: first silent, then it serves, then it has stopped for good.
/// Threads  one thread starts, drains and stops; the service is called from several at once, and an inference occupies
///          none of them while it is computed.
/// Owns     its sockets and threads. Service, registry, token table and access log must outlive it; calls of the
///          service that are under way when it goes keep nothing of it alive and are told by CallContext::cancelled.
class ServerPort {
 public:
  ServerPort() = default;
  ServerPort(const ServerPort&) = delete;
  ServerPort& operator=(const ServerPort&) = delete;
  virtual ~ServerPort() = default;  ///< of every port: stop_now()

  /// Binds, listens and serves. Once. Throws kUnavailable: the address is taken or not of this machine.
  virtual void start() = 0;
  /// The port it listens on, once started.
  virtual std::uint16_t port() const = 0;

  /// Whoever asks whether the server is ready hears no from now on and all else goes on, for balancers that ask before
  /// they stop sending.
  virtual void not_ready() = 0;
  /// not_ready(), then takes no more connections and requests and answers those that are under way, closing each
  /// connection when nothing is left to answer. Returns when all are answered or at the deadline; whether all were.
  virtual bool drain(std::chrono::steady_clock::time_point deadline) = 0;
  /// Cancels what is not answered, closes every connection and ends the threads.
  virtual void stop_now() = 0;
};

}  // namespace recast
