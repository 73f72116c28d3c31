#include "recast/serve/http_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <limits>
#include <utility>

#include "check_port.h"
#include "http_core.h"
#include "recast/base/error.h"
#include "recast/base/log.h"

namespace recast {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using namespace std::chrono_literals;

/// Each connection has one job at the most.
constexpr std::int64_t kMostJobs = std::numeric_limits<std::int64_t>::max();
constexpr auto kAcceptAgain = 100ms;

void check(const HttpOptions& options, bool tokens) {
  check_port("http", options, tokens);
  const auto count = [](std::string_view name, std::size_t value) { check_count("http", name, value); };
  const auto time = [](std::string_view name, std::chrono::milliseconds value) { check_time("http", name, value); };
  check_range("http", "io_threads", options.io_threads, 1, 1'024);
  check_range("http", "workers", options.workers, 1, 1'024);
  check_limits("http", options.inference.request);
  check_range<std::size_t>("http", "json.depth", options.inference.depth, 1, 1'000);
  count("json.values", options.inference.values);
  count("json.text_bytes", options.inference.text_bytes);
  check_range<std::size_t>("http", "header_bytes", options.header_bytes, 1, std::size_t{1} << 30);
  count("header_fields", options.header_fields);
  count("url_bytes", options.url_bytes);
  count("body_bytes", options.body_bytes);
  count("bodies_bytes", options.bodies_bytes);
  count("chunks", options.chunks);
  count("response_bytes", options.response_bytes);
  count("connections", options.connections);
  check_range<std::int64_t>("http", "corrections.images", options.correction_limits.images, 1, std::int64_t{1} << 50);
  check_range<std::int64_t>("http", "corrections.bytes", options.correction_limits.bytes, 1, std::int64_t{1} << 50);
  time("header_timeout", options.header_timeout);
  time("body_timeout", options.body_timeout);
  time("linger_timeout", options.linger_timeout);
}

}  // namespace

// ---- core ----------------------------------------------------------------------------------------------------------

HttpCore::HttpCore(Service& called, HttpOptions chosen, prometheus::Registry& registry, TokenTable* tokens,
                   AccessLog* requests)
    : service(called),
      options(std::move(chosen)),
      metrics(registry),
      api(service, options, metrics, tokens),
      asks_for_tokens(tokens != nullptr),
      access_log(requests),
      bodies(options.bodies_bytes),
      io(options.io_threads),
      acceptor(asio::make_strand(io)),
      accept_again(acceptor.get_executor()),
      small_(options.workers, kMostJobs),
      large_(1, kMostJobs),
      lists_(1, kMostJobs) {
  if (!options.certificate.empty()) tls = std::make_unique<TlsFiles>(options);
}

HttpParserLimits HttpCore::parser_limits() const {
  return {options.header_bytes, options.header_fields, options.url_bytes, options.body_bytes, options.chunks};
}

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
  // It may have been taken just before the end: what it sent is answered all the same.
  if (!error) take(std::move(socket));
  if (!acceptor.is_open()) return closed_.set_value();
  if (!error) return accept();
  // Out of descriptors or memory, mostly: whoever waits longest makes room, and those who knock wait a little.
  log_event(LogLevel::kWarn, "http.accept_failed", {{"error", error.message()}});
  if (const auto first = connections.take_room_for({})) first->make_room();
  accept_again.expires_after(kAcceptAgain);
  accept_again.async_wait([this](const ErrorCode&) { acceptor.is_open() ? accept() : closed_.set_value(); });
}

void HttpCore::take(tcp::socket socket) noexcept try {
  ErrorCode ignored;
  const std::string peer = socket.remote_endpoint(ignored).address().to_string(), network = network_of(peer);
  if (!connections.has_room_for(network, options.connections)) {
    // Those that make room are open for a moment more: how many of them is bounded, too.
    const auto first = connections.size() < 2 * options.connections ? connections.take_room_for(network) : nullptr;
    if (!first) return turn_away(std::move(socket));
    first->make_room();
  }
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  auto stream = tls ? tls_stream(std::move(socket), tls->content()->context) : plain_stream(std::move(socket));
  const auto connection = std::make_shared<HttpConnection>(*this, std::move(stream), peer);
  connections.add(connection, network);
  connection->start();
} catch (const std::exception& error) {
  log_event(LogLevel::kError, "http.accept_failed", {{"error", std::string_view(error.what())}});
}

void HttpCore::turn_away(tcp::socket socket) {
  metrics.refused("limit");
  if (tls) return;
  // What it sent already must be read, or the answer may be lost to a reset. Neither call waits.
  std::array<char, 16'384> unread;
  ::recv(socket.native_handle(), unread.data(), unread.size(), MSG_DONTWAIT);
  const HttpAnswer answer = too_many_connections(options.connections);
  const std::string text = head_text(answer, answer.body.size(), 1, false, http_date()) + answer.body;
  ::send(socket.native_handle(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ErrorCode ignored;
  socket.shutdown(tcp::socket::shutdown_both, ignored);
}

/// Those who were connected by the system and not taken yet may have sent their requests already.
void HttpCore::take_who_knocked() {
  ErrorCode error;
  acceptor.non_blocking(true, error);
  while (!error) {
    tcp::socket socket = acceptor.accept(asio::make_strand(io), error);
    if (!error) take(std::move(socket));
  }
}

void HttpCore::stop_accepting(std::chrono::steady_clock::time_point deadline) {
  if (!started_) return;
  asio::post(acceptor.get_executor(), [this] {
    take_who_knocked();
    ErrorCode ignored;
    acceptor.close(ignored);
    accept_again.cancel();
  });
  all_taken_.wait_until(deadline);
}

void HttpCore::stop() {
  std::call_once(stopped_, [this] {
    io.stop();
    for (std::thread& thread : threads_) thread.join();
    for (JobThreads* jobs : {&small_, &large_, &lists_}) jobs->stop();
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

HttpServer::HttpServer(Service& service, HttpOptions options, prometheus::Registry& registry, TokenTable* tokens,
                       AccessLog* access_log) {
  check(options, tokens != nullptr);
  core_ = std::make_shared<HttpCore>(service, std::move(options), registry, tokens, access_log);
  core_->self = core_;
}

HttpServer::~HttpServer() { stop_now(); }

void HttpServer::start() { core_->start(); }
std::uint16_t HttpServer::port() const { return core_->port; }
void HttpServer::not_ready() { core_->api.not_ready(); }

bool HttpServer::drain(std::chrono::steady_clock::time_point deadline) {
  not_ready();
  core_->draining = true;
  log_event(LogLevel::kInfo, "http.draining", {{"port", core_->port.load()}});
  core_->stop_accepting(deadline);
  for (const auto& connection : core_->connections.all()) connection->finish_up();
  return core_->connections.wait_until_none(deadline);
}

void HttpServer::stop_now() { core_->stop(); }

}  // namespace recast
