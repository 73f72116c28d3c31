#pragma once
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "http_api.h"
#include "http_connection.h"
#include "http_metrics.h"
#include "recast/serve/http_server.h"

namespace recast {

/// The connections that are open, and which of them wait for a request, the one that waits longest in front.
class HttpConnections {
 public:
  void add(const std::shared_ptr<HttpConnection>& connection);
  void remove(const HttpConnection* connection);
  void set_idle(const HttpConnection* connection, bool idle);
  std::size_t size() const;
  std::vector<std::shared_ptr<HttpConnection>> all() const;
  /// One that has waited that long or more, or null. It is idle no longer.
  std::shared_ptr<HttpConnection> take_idle(std::chrono::milliseconds at_least);
  bool wait_until_none(std::chrono::steady_clock::time_point deadline) const;

 private:
  struct Idle {
    const HttpConnection* connection;
    std::chrono::steady_clock::time_point since;
  };
  struct Entry {
    std::shared_ptr<HttpConnection> connection;
    std::optional<std::list<Idle>::iterator> idle;
  };

  mutable std::mutex mutex_;
  mutable std::condition_variable none_;
  std::unordered_map<const HttpConnection*, Entry> open_;
  std::list<Idle> idle_;
};

/// All of a server that its connections share. Threads end, then the pools, then the io_context, then the rest: jobs
/// and handlers that never ran are destroyed while what they refer to is there.
struct HttpCore {
  HttpCore(Service& called, HttpOptions chosen, prometheus::Registry& registry, TokenTable* tokens);
  HttpCore(const HttpCore&) = delete;
  HttpCore& operator=(const HttpCore&) = delete;
  ~HttpCore() { stop(); }

  void start();
  void stop_accepting();
  void stop();
  /// Where work on so many bytes is done: large bodies wait for large bodies.
  boost::asio::thread_pool& pool(std::size_t bytes);
  HttpParserLimits parser_limits() const;

  Service& service;
  const HttpOptions options;
  HttpMetrics metrics;
  HttpApi api;
  const bool asks_for_tokens;
  std::atomic<bool> draining{false};
  std::atomic<std::size_t> body_bytes{0};  ///< held for bodies, of all connections
  std::unique_ptr<boost::asio::ssl::context> tls;
  HttpConnections connections;
  std::atomic<std::uint16_t> port{0};
  std::weak_ptr<HttpCore> self;  ///< for what outlives a server: the service's answers

  boost::asio::io_context io;
  boost::asio::ip::tcp::acceptor acceptor;  ///< and its timer: on a strand of their own
  boost::asio::steady_timer accept_again;

 private:
  void accept();
  void on_accept(const boost::system::error_code& error, boost::asio::ip::tcp::socket socket);
  void take(boost::asio::ip::tcp::socket socket);
  void turn_away(boost::asio::ip::tcp::socket socket);
  void run_io();

  boost::asio::thread_pool small_, large_;
  std::vector<std::thread> threads_;
  bool started_ = false;
  std::once_flag stopped_;
};

}  // namespace recast
