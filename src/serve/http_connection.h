#pragma once
#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http_answer.h"
#include "http_api.h"
#include "http_bodies.h"
#include "http_connections.h"
#include "http_parser.h"
#include "http_stream.h"
#include "recast/base/log.h"
#include "recast/serve/access_log.h"

namespace recast {

struct HttpCore;

/// One client's connection: requests one after the other, each read whole, answered, and only then the next. Bytes that
/// a client sends ahead wait in the socket beyond a few KiB. All state is touched on the strand of the socket; what
/// other threads call posts to it.
/// While a request waits for its answer the connection keeps reading, so that it learns when the client goes. A client
/// that ends its sending side may still want the answer, or may have gone: an interim "100 Continue" tells, since a
/// socket that is closed answers it with a reset.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(HttpCore& core, std::unique_ptr<HttpStream> stream, std::string peer);

  void start();
  /// Ends after the request at hand, or now where there is none. Any thread.
  void finish_up();
  /// Ends if it still waits for a request or for the rest of one, which is then refused. Any thread.
  void make_room();
  /// Closes the socket and tells the service that nobody waits any more. On the strand, or once none runs.
  void drop();

 private:
  using Error = HttpStream::Error;
  using Clock = std::chrono::steady_clock;
  enum class State { kHandshake, kHead, kBody, kWaiting, kWriting, kClosing, kClosed };
  struct Inference;

  void next_request();
  void advance();
  bool step();
  void on_head();
  void invite_body();
  bool hold_body();
  void on_request();
  void submit(std::string body);
  void submit_inference(std::string body);
  void infer(Inference& job);
  static void write_answer(HttpCore& core, const std::string& caller, std::weak_ptr<HttpConnection> weak,
                           std::uint64_t serial, const BinaryOutputs& binary,
                           const std::shared_ptr<InferenceAccount>& account, InferenceResult result);
  /// `account`: of an inference where an access log is kept.
  void deliver(std::uint64_t serial, HttpAnswer answer, const std::shared_ptr<InferenceAccount>& account = {});
  void respond(HttpAnswer answer);
  void on_written(const Error& error, std::size_t bytes, bool keep);
  void begin_line(const HttpHead& head);
  /// The request's line in the access log, once; a status of 0: no answer was begun.
  void end_line(int status, std::size_t sent, bool complete);
  void refuse(const HttpRefusal& refusal);
  void refuse_for_want_of_room();
  void linger();
  void close();

  void read();
  void watch();
  void on_read(const Error& error, std::size_t bytes);
  void on_read_end(const Error& error);
  void probe_peer();
  void peer_gone();

  void arm(std::chrono::milliseconds time);
  void on_timeout();
  void await(Awaits what);
  /// Where no byte of a request was seen: takes what has come, or closes.
  void end_waiting();
  /// Whether bytes have come that were not read yet.
  bool has_unread() const;
  std::string party() const { return call_.caller.party(peer_); }
  std::string_view unparsed() const { return std::string_view(received_).substr(parsed_); }

  HttpCore& core_;
  const std::unique_ptr<HttpStream> stream_;
  const boost::asio::any_io_executor executor_;
  const std::string peer_;  // address
  boost::asio::steady_timer timer_;
  State state_ = State::kHandshake;
  Awaits awaits_ = Awaits::kNothing;
  bool head_began_ = false;     // a byte of the request at hand is there
  bool first_ = true;           // no request was answered yet
  bool reading_ = false;        // a read is under way
  bool peer_finished_ = false;  // nothing more will come

  std::vector<char> piece_;  // what is read into
  std::string received_;     // what is not used yet, from parsed_ on
  std::size_t parsed_ = 0;

  std::uint64_t serial_ = 0;  // of the request at hand: late answers to earlier ones are dropped
  std::optional<HttpParser> parser_;
  HttpCall call_;
  std::optional<HttpAnswer> refused_;  // decided by the header; sent once the small body is read
  std::shared_ptr<HttpBodies::Held> held_;
  std::shared_ptr<std::atomic<bool>> cancelled_;
  bool keep_alive_ = false;
  int minor_version_ = 1;
  std::size_t request_bytes_ = 0;
  Stopwatch clock_;
  std::unique_ptr<AccessEntry> line_;  // of the request at hand, where an access log is kept

  std::string out_head_, out_body_;
  int status_ = 0;
};

}  // namespace recast
