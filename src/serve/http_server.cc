#include "recast/serve/http_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <utility>

#include "check_port.h"
#include "http_core.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "tls.h"

namespace recast {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using namespace std::chrono_literals;

constexpr std::size_t kLargeBody = std::size_t{1} << 20;
/// How long a connection must have waited for a request before it makes room for a new one.
constexpr auto kIdleEnough = 1s;
constexpr auto kAcceptAgain = 100ms;

void check(const HttpOptions& options, bool tokens) {
  check_port("http", options, tokens);
  const auto count = [](std::string_view name, std::size_t value, std::size_t most = std::size_t{1} << 50) {
    check_range<std::size_t>("http", name, value, 1, most);
  };
  const auto time = [](std::string_view name, std::chrono::milliseconds value) { check_time("http", name, value); };
  check_range("http", "io_threads", options.io_threads, 1, 1'024);
  check_range("http", "workers", options.workers, 1, 1'024);
  count("header_bytes", options.header_bytes, std::size_t{1} << 30);
  count("header_fields", options.header_fields);
  count("url_bytes", options.url_bytes);
  count("body_bytes", options.body_bytes);
  count("bodies_bytes", options.bodies_bytes);
  count("chunks", options.chunks);
  count("response_bytes", options.response_bytes);
  count("connections", options.connections);
  time("header_timeout", options.header_timeout);
  time("body_timeout", options.body_timeout);
  time("linger_timeout", options.linger_timeout);
}

}  // namespace

// ---- connections ---------------------------------------------------------------------------------------------------

void HttpConnections::add(const std::shared_ptr<HttpConnection>& connection) {
  const std::lock_guard lock(mutex_);
  open_[connection.get()] = {connection, std::nullopt};
}

void HttpConnections::remove(const HttpConnection* connection) {
  std::shared_ptr<HttpConnection> removed;  // destroyed after the lock is gone
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(connection);
  if (found == open_.end()) return;
  if (found->second.idle) idle_.erase(*found->second.idle);
  removed = std::move(found->second.connection);
  open_.erase(found);
  if (open_.empty()) none_.notify_all();
}

void HttpConnections::set_idle(const HttpConnection* connection, bool idle) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(connection);
  if (found == open_.end() || found->second.idle.has_value() == idle) return;
  if (idle) {
    found->second.idle = idle_.insert(idle_.end(), {connection, std::chrono::steady_clock::now()});
  } else {
    idle_.erase(*found->second.idle);
    found->second.idle.reset();
  }
}

std::size_t HttpConnections::size() const {
  const std::lock_guard lock(mutex_);
  return open_.size();
}

std::vector<std::shared_ptr<HttpConnection>> HttpConnections::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<HttpConnection>> list;
  for (const auto& [key, entry] : open_) list.push_back(entry.connection);
  return list;
}

std::shared_ptr<HttpConnection> HttpConnections::take_idle(std::chrono::milliseconds at_least) {
  const std::lock_guard lock(mutex_);
  if (idle_.empty() || std::chrono::steady_clock::now() - idle_.front().since < at_least) return nullptr;
  Entry& entry = open_.at(idle_.front().connection);
  idle_.pop_front();
  entry.idle.reset();
  return entry.connection;
}

bool HttpConnections::wait_until_none(std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock lock(mutex_);
  return none_.wait_until(lock, deadline, [this] { return open_.empty(); });
}

// ---- core ----------------------------------------------------------------------------------------------------------

HttpCore::HttpCore(Service& called, HttpOptions chosen, prometheus::Registry& registry, TokenTable* tokens)
    : service(called),
      options(std::move(chosen)),
      metrics(registry),
      api(service, options, metrics, tokens),
      asks_for_tokens(tokens != nullptr),
      io(options.io_threads),
      acceptor(asio::make_strand(io)),
      accept_again(acceptor.get_executor()),
      small_(static_cast<std::size_t>(options.workers)),
      large_(1) {
  if (!options.certificate.empty()) tls = tls_context(options.certificate, options.key, options.client_ca);
}

HttpParserLimits HttpCore::parser_limits() const {
  return {options.header_bytes, options.header_fields, options.url_bytes, options.body_bytes, options.chunks};
}

asio::thread_pool& HttpCore::pool(std::size_t bytes) { return bytes < kLargeBody ? small_ : large_; }

void HttpCore::start() {
  if (std::exchange(started_, true)) fail(Code::kInvalidArgument, "[http] a server starts once");
  const tcp::endpoint endpoint(asio::ip::make_address(options.address), options.port);
  const auto check = [&](const ErrorCode& error) {
    if (!error) return;
    fail(Code::kUnavailable, "[http] cannot listen on {} port {}: {}; choose another port, or end who holds it",
         options.address, options.port, error.message());
  };
  ErrorCode error;
  acceptor.open(endpoint.protocol(), error);
  check(error);
  acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  check(error);
  acceptor.bind(endpoint, error);
  check(error);
  acceptor.listen(asio::socket_base::max_listen_connections, error);
  check(error);
  port = acceptor.local_endpoint().port();
  accept();
  for (int i = 0; i < options.io_threads; ++i) threads_.emplace_back([this] { run_io(); });
  log_event(LogLevel::kInfo, "http.listening",
            {{"address", std::string_view(options.address)},
             {"port", port.load()},
             {"tls", tls != nullptr},
             {"tokens", asks_for_tokens}});
}

void HttpCore::run_io() {
  const auto stay = asio::make_work_guard(io);
  for (;;) {
    try {
      io.run();
      return;
    } catch (const std::exception& error) {  // one connection's handler, mostly for want of memory: the others go on
      log_event(LogLevel::kError, "http.handler_failed", {{"error", std::string_view(error.what())}});
    }
  }
}

void HttpCore::accept() {
  acceptor.async_accept(asio::make_strand(io),
                        [this](const ErrorCode& error, tcp::socket socket) { on_accept(error, std::move(socket)); });
}

void HttpCore::on_accept(const ErrorCode& error, tcp::socket socket) {
  if (error == asio::error::operation_aborted || !acceptor.is_open()) return;
  if (!error) {
    try {
      take(std::move(socket));
    } catch (const std::exception& failure) {
      log_event(LogLevel::kError, "http.accept_failed", {{"error", std::string_view(failure.what())}});
    }
    return accept();
  }
  // Out of descriptors or memory, mostly: whoever waits longest makes room, and those who knock wait a little.
  log_event(LogLevel::kWarn, "http.accept_failed", {{"error", error.message()}});
  if (const auto idle = connections.take_idle(0ms)) idle->finish_up();
  accept_again.expires_after(kAcceptAgain);
  accept_again.async_wait([this](const ErrorCode& stopped) {
    if (!stopped && acceptor.is_open()) accept();
  });
}

void HttpCore::take(tcp::socket socket) {
  if (draining) return;
  if (connections.size() >= options.connections) {
    const auto idle = connections.take_idle(kIdleEnough);
    if (!idle) return turn_away(std::move(socket));
    idle->finish_up();
  }
  ErrorCode ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const tcp::endpoint peer = socket.remote_endpoint(ignored);
  auto stream = tls ? tls_stream(std::move(socket), *tls) : plain_stream(std::move(socket));
  const auto connection = std::make_shared<HttpConnection>(*this, std::move(stream), peer.address().to_string());
  connections.add(connection);
  connection->start();
}

void HttpCore::turn_away(tcp::socket socket) {
  metrics.refused("limit");
  if (tls) return;
  // What it sent already must be read, or the answer may be lost to a reset. Neither call waits.
  std::array<char, 16'384> unread;
  ::recv(socket.native_handle(), unread.data(), unread.size(), MSG_DONTWAIT);
  HttpAnswer answer =
      error_answer(503, fmt::format("[http] {} connections are open: try again later", options.connections));
  const std::string text = head_text(answer, answer.body.size(), 1, false, http_date()) + answer.body;
  ::send(socket.native_handle(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ErrorCode ignored;
  socket.shutdown(tcp::socket::shutdown_both, ignored);
}

void HttpCore::stop_accepting() {
  if (!started_) return;
  asio::post(acceptor.get_executor(), [this] {
    ErrorCode ignored;
    acceptor.close(ignored);
    accept_again.cancel();
  });
}

void HttpCore::stop() {
  std::call_once(stopped_, [this] {
    io.stop();
    for (std::thread& thread : threads_) thread.join();
    small_.stop();
    large_.stop();
    small_.join();
    large_.join();
    for (const auto& connection : connections.all()) {
      connection->drop();
      connections.remove(connection.get());
      metrics.closed();
    }
    ErrorCode ignored;
    acceptor.close(ignored);
    if (port != 0) log_event(LogLevel::kInfo, "http.stopped", {{"port", port.load()}});
  });
}

// ---- server --------------------------------------------------------------------------------------------------------

HttpServer::HttpServer(Service& service, HttpOptions options, prometheus::Registry& registry, TokenTable* tokens) {
  check(options, tokens != nullptr);
  core_ = std::make_shared<HttpCore>(service, std::move(options), registry, tokens);
  core_->self = core_;
}

HttpServer::~HttpServer() { stop_now(); }

void HttpServer::start() { core_->start(); }
std::uint16_t HttpServer::port() const { return core_->port; }
void HttpServer::not_ready() { core_->api.not_ready(); }

bool HttpServer::drain(std::chrono::steady_clock::time_point deadline) {
  not_ready();
  core_->draining = true;
  core_->stop_accepting();
  for (const auto& connection : core_->connections.all()) connection->finish_up();
  return core_->connections.wait_until_none(deadline);
}

void HttpServer::stop_now() { core_->stop(); }

}  // namespace recast
