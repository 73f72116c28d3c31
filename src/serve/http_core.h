#pragma once
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "http_api.h"
#include "http_bodies.h"
#include "http_connection.h"
#include "http_connections.h"
#include "http_metrics.h"
#include "job_threads.h"
#include "recast/serve/http_server.h"
#include "tls.h"

namespace recast {

/// All of a server that its connections share. Threads end, then the pools, then the io_context, then the rest: jobs
/// and handlers that never ran are destroyed while what they refer to is there.
struct HttpCore {
  HttpCore(Service& called, HttpOptions chosen, prometheus::Registry& registry, TokenTable* tokens,
           AccessLog* requests);
  HttpCore(const HttpCore&) = delete;
  HttpCore& operator=(const HttpCore&) = delete;
  ~HttpCore() { stop(); }

  void start();
  /// Returns once no more are let in, or at the deadline.
  void stop_accepting(std::chrono::steady_clock::time_point deadline);
  void stop();
  /// Where work on so many bytes is done: large bodies wait for large bodies.
  JobThreads& pool(std::size_t bytes) { return bytes < kLargeBody ? small_ : large_; }
  /// Where what takes long without large bodies is done: lists and corrections.
  JobThreads& lists() { return lists_; }
  HttpParserLimits parser_limits() const;

  Service& service;
  const HttpOptions options;
  HttpMetrics metrics;
  HttpApi api;
  const bool asks_for_tokens;
  AccessLog* const access_log;  ///< null: none is kept
  std::atomic<bool> draining{false};
  HttpBodies bodies;
  std::unique_ptr<TlsFiles> tls;  ///< null: none
  HttpConnections connections;
  std::atomic<std::uint16_t> port{0};
  std::weak_ptr<HttpCore> self;  ///< for what outlives a server: the service's answers

  boost::asio::io_context io;
  boost::asio::ip::tcp::acceptor acceptor;  ///< and its timer: on a strand of their own
  boost::asio::steady_timer accept_again;

 private:
  void accept();
  void on_accept(const boost::system::error_code& error, boost::asio::ip::tcp::socket socket);
  void take(boost::asio::ip::tcp::socket socket) noexcept;
  void take_who_knocked();
  void turn_away(boost::asio::ip::tcp::socket socket);
  void run_io();

  static constexpr std::size_t kLargeBody = std::size_t{1} << 20;

  JobThreads small_, large_, lists_;
  std::vector<std::thread> threads_;
  bool started_ = false;
  /// Set by the wait for a connection, or to wait for one again, that ends with the acceptor: there is always one.
  std::promise<void> closed_;
  const std::shared_future<void> all_taken_ = closed_.get_future().share();
  std::once_flag stopped_;
};

}  // namespace recast
