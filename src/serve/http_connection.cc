#include "http_connection.h"

#include <sys/socket.h>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <utility>
#include <variant>

#include "http_core.h"
#include "recast/base/error.h"

namespace recast {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr std::size_t kHeadPiece = std::size_t{8} << 10, kBodyPiece = std::size_t{64} << 10;
/// What a client may send ahead of an answer before the rest waits in its socket.
constexpr std::size_t kAhead = std::size_t{64} << 10;
/// A refused request's body that is read all the same, so that the connection can go on.
constexpr std::uint64_t kReadAnyway = std::uint64_t{64} << 10;
/// Headers and bodies up to this go out in one piece: one packet, one TLS record.
constexpr std::size_t kOnePiece = std::size_t{12} << 10;
/// The service has its own look at the deadline, with a better message: it gets the first word.
constexpr auto kGrace = 1s;
/// In the access log, of a request whose connection ended before an answer was begun; as nginx has it.
constexpr int kNoAnswer = 499;
/// Answers up to this are written on the thread that has them.
constexpr std::size_t kSmallAnswer = std::size_t{64} << 10;

/// Runs what a thread of others must survive: without memory even to say so, the request runs into its deadline.
template <class Work>
void guarded(const Work& work) noexcept {
  try {
    work();
  } catch (const std::exception& error) {
    log_event(LogLevel::kError, "http.handler_failed", {{"error", std::string_view(error.what())}});
  }
}

}  // namespace

/// An inference on its way to the service.
struct HttpConnection::Inference {
  std::uint64_t serial = 0;
  HttpCall call;
  std::string caller;
  std::string body;
  std::shared_ptr<HttpBodies::Held> held;
  std::shared_ptr<std::atomic<bool>> cancelled;
  Clock::time_point deadline;
  std::shared_ptr<InferenceAccount> account;  // null: no access log is kept
};

HttpConnection::HttpConnection(HttpCore& core, std::unique_ptr<HttpStream> stream, std::string peer)
    : core_(core),
      stream_(std::move(stream)),
      executor_(stream_->socket().get_executor()),
      peer_(std::move(peer)),
      timer_(executor_),
      cancelled_(std::make_shared<std::atomic<bool>>(false)) {}

// ---- life ----------------------------------------------------------------------------------------------------------

void HttpConnection::start() {
  core_.metrics.opened();
  asio::dispatch(executor_, [self = shared_from_this()] {
    self->arm(self->core_.options.header_timeout);
    self->await(Awaits::kRest);
    self->stream_->handshake([self](const Error& error) {
      if (self->state_ == State::kClosed) return;
      if (!error) return self->next_request();
      log_event(LogLevel::kDebug, "http.handshake_failed", {{"peer", self->peer_}, {"error", error.message()}});
      self->close();
    });
  });
}

void HttpConnection::finish_up() {
  asio::post(executor_, [self = shared_from_this()] {
    if (self->state_ == State::kHandshake) return self->close();
    if (self->state_ == State::kHead && !self->head_began_) self->end_waiting();
  });
}

void HttpConnection::make_room() {
  asio::post(executor_, [self = shared_from_this()] {
    const bool began = self->state_ == State::kBody || (self->state_ == State::kHead && self->head_began_);
    if (began) return self->refuse_for_want_of_room();
    if (self->state_ == State::kHandshake) return self->close();
    if (self->state_ == State::kHead) return self->end_waiting();
    self->core_.connections.set(self.get(), self->awaits_);  // it is not waiting just now, or invites a body
  });
}

void HttpConnection::refuse_for_want_of_room() {
  core_.metrics.refused("limit");
  HttpAnswer answer = too_many_connections(core_.options.connections);
  answer.close = true;
  respond(std::move(answer));
}

void HttpConnection::drop() {
  *cancelled_ = true;
  end_line(state_ == State::kWriting ? status_ : 0, 0, false);
  Error ignored;
  stream_->socket().close(ignored);
}

void HttpConnection::linger() {
  state_ = State::kClosing;
  received_.clear();
  parsed_ = 0;
  arm(core_.options.linger_timeout);
  stream_->finish([self = shared_from_this()](const Error&) {
    if (self->stream_->secure()) self->close();
  });
  if (stream_->secure()) return;
  // Closing with bytes unread would send a reset, which may overtake the answer.
  if (peer_finished_) return close();
  if (!reading_) read();
}

void HttpConnection::close() {
  if (state_ == State::kClosed) return;
  drop();
  state_ = State::kClosed;
  held_.reset();
  await(Awaits::kNothing);
  timer_.cancel();
  core_.metrics.closed();
  core_.connections.remove(this);
}

void HttpConnection::await(Awaits what) {
  if (awaits_ == what) return;
  awaits_ = what;
  core_.connections.set(this, what);
}

/// Bytes may be with the system, or read already by a read whose handler did not run yet; cancelling tells which.
void HttpConnection::end_waiting() {
  arm(core_.options.header_timeout);
  Error ignored;
  stream_->socket().cancel(ignored);
}

bool HttpConnection::has_unread() const {
  Error error;
  return stream_->socket().available(error) > 0 && !error;
}

// ---- time ----------------------------------------------------------------------------------------------------------

void HttpConnection::arm(std::chrono::milliseconds time) {
  timer_.expires_after(time);
  timer_.async_wait([self = shared_from_this()](const Error& error) {
    // A wait that ended just before it was replaced is told by the time that is set now.
    if (!error && self->timer_.expiry() <= Clock::now()) self->on_timeout();
  });
}

void HttpConnection::on_timeout() {
  const auto too_slow = [this](std::string_view what, std::chrono::milliseconds limit) {
    core_.metrics.refused("slow");
    HttpAnswer answer = error_answer(408, fmt::format("[http] {} did not arrive within {} ms", what, limit.count()));
    answer.close = true;
    respond(std::move(answer));
  };
  switch (state_) {
    case State::kHead:
      if (head_began_) return too_slow("the header", core_.options.header_timeout);
      return close();
    case State::kBody:
      return too_slow("the body", core_.options.body_timeout);
    case State::kWaiting:
      *cancelled_ = true;
      return respond(error_answer(
          503, fmt::format("[http] no answer within {} ms: try again later", core_.options.request_timeout.count())));
    case State::kHandshake:
    case State::kWriting:
      core_.metrics.refused("slow");
      return close();
    case State::kClosing:
      return close();
    case State::kClosed:
      return;
  }
}

// ---- reading -------------------------------------------------------------------------------------------------------

void HttpConnection::read() {
  reading_ = true;
  piece_.resize(state_ == State::kBody ? kBodyPiece : kHeadPiece);
  stream_->read_some(asio::buffer(piece_), [self = shared_from_this()](const Error& error, std::size_t bytes) {
    self->reading_ = false;
    self->on_read(error, bytes);
  });
}

void HttpConnection::watch() {
  if (!reading_ && !peer_finished_ && unparsed().size() < kAhead) read();
}

void HttpConnection::on_read(const Error& error, std::size_t bytes) {
  if (state_ == State::kClosed) return;
  if (error == asio::error::operation_aborted && has_unread()) return read();
  if (error) return on_read_end(error);
  core_.metrics.received(bytes);
  if (state_ == State::kClosing) return read();
  received_.append(piece_.data(), bytes);
  if (state_ == State::kHead && !head_began_) {
    head_began_ = true;
    clock_ = {};
    await(Awaits::kRest);
    arm(core_.options.header_timeout);
  }
  if (state_ == State::kHead || state_ == State::kBody)
    advance();
  else if (state_ == State::kWaiting)
    watch();
}

void HttpConnection::on_read_end(const Error& error) {
  peer_finished_ = true;
  const bool half_closed = error == asio::error::eof && !stream_->secure();
  switch (state_) {
    case State::kHead:
    case State::kBody:
      if (!half_closed || !head_began_) return close();
      return refuse({400, "the request ends before its end"});
    case State::kWaiting:
      return half_closed ? probe_peer() : peer_gone();
    case State::kClosing:
      return close();
    default:
      return;  // the write will tell
  }
}

void HttpConnection::probe_peer() {
  if (minor_version_ == 0) return;  // knows no interim answers; gets its answer, or a reset
  stream_->socket().async_wait(HttpStream::Socket::wait_error,
                               [self = shared_from_this(), serial = serial_](const Error& error) {
                                 if (!error && self->serial_ == serial && self->state_ == State::kWaiting)
                                   self->peer_gone();
                               });
  ::send(stream_->socket().native_handle(), kContinue.data(), kContinue.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void HttpConnection::peer_gone() {
  core_.metrics.refused("gone");
  log_event(LogLevel::kDebug, "http.client_gone",
            {{"method", call_.method}, {"path", call_.path_template()}, {"ms", clock_.ms()}});
  close();
}

// ---- a request -----------------------------------------------------------------------------------------------------

void HttpConnection::next_request() {
  if (unparsed().empty() && peer_finished_) return close();
  ++serial_;
  state_ = State::kHead;
  parser_.emplace(core_.parser_limits());
  call_ = {};
  refused_.reset();
  cancelled_ = std::make_shared<std::atomic<bool>>(false);
  keep_alive_ = false;
  status_ = 0;
  request_bytes_ = 0;
  head_began_ = !unparsed().empty();
  clock_ = {};
  await(head_began_ ? Awaits::kRest : Awaits::kRequest);
  arm(head_began_ || first_ ? core_.options.header_timeout : core_.options.idle_timeout);
  first_ = false;
  advance();
  if (core_.draining && state_ == State::kHead && !head_began_) end_waiting();
}

void HttpConnection::advance() {
  try {
    while ((state_ == State::kHead || state_ == State::kBody) && step()) {
    }
    received_.erase(0, parsed_);
    parsed_ = 0;
  } catch (const std::exception& error) {  // no memory; anything else would be a bug
    log_event(LogLevel::kError, "http.connection_failed", {{"error", std::string_view(error.what())}});
    return close();
  }
  if (state_ != State::kHead && state_ != State::kBody) return;
  if (peer_finished_) return on_read_end(asio::error::eof);
  if (!reading_) read();
}

/// Whether there may be more to do with what is there.
bool HttpConnection::step() {
  const std::size_t used = parser_->put(unparsed());
  parsed_ += used;
  request_bytes_ += used;
  if (const auto& refusal = parser_->refusal()) {
    refuse(*refusal);
    return false;
  }
  if (state_ == State::kHead) {
    if (!parser_->head_done()) return used > 0;
    on_head();
    return state_ == State::kBody;
  }
  if (!hold_body()) return false;
  if (parser_->done()) {
    on_request();
    return false;
  }
  return used > 0;
}

bool HttpConnection::hold_body() {
  if (held_->grow_to(parser_->body_bytes())) return true;
  HttpAnswer answer = error_answer(503, "[http] too many bytes of bodies are being received: try again later");
  answer.close = true;
  respond(std::move(answer));
  return false;
}

void HttpConnection::refuse(const HttpRefusal& refusal) {
  HttpAnswer answer = error_answer(refusal.status, "[http] " + refusal.text);
  answer.close = true;
  if (parser_->head_done() && call_.method.empty()) call_.method = parser_->head().method;
  respond(std::move(answer));
}

void HttpConnection::on_head() {
  const HttpHead& head = parser_->head();
  clock_ = {};
  begin_line(head);
  keep_alive_ = head.keep_alive;
  minor_version_ = head.minor_version;
  refused_ = core_.api.admit(head, peer_, call_);
  if (refused_) {
    const bool read_anyway = !head.chunked && !head.expects_continue && head.length.value_or(0) <= kReadAnyway;
    if (!read_anyway) refused_->close = true;
    if (!read_anyway || parser_->done()) return respond(std::move(*refused_));
  } else if (!parser_->done()) {
    parser_->limit_body(core_.api.body_limit(call_));
  }
  if (parser_->done()) return on_request();
  held_ = std::make_shared<HttpBodies::Held>(core_.bodies, party());
  state_ = State::kBody;
  arm(core_.options.body_timeout);
  if (head.expects_continue) invite_body();
}

void HttpConnection::invite_body() {
  if (!unparsed().empty()) return;  // it did not wait for it
  state_ = State::kWriting;         // nothing else is parsed or written until it is out
  out_head_ = kContinue;
  stream_->write({asio::buffer(out_head_), asio::const_buffer()},
                 [self = shared_from_this()](const Error& error, std::size_t bytes) {
                   if (self->state_ != State::kWriting) return;
                   if (error) return self->close();
                   self->core_.metrics.sent(bytes);
                   self->state_ = State::kBody;
                   self->advance();
                 });
}

void HttpConnection::on_request() {
  if (refused_) return respond(std::move(*refused_));
  state_ = State::kWaiting;
  await(Awaits::kNothing);
  if (call_.immediate()) return respond(core_.api.answer(call_, {}));
  arm(core_.options.request_timeout + kGrace);
  if (peer_finished_)
    probe_peer();
  else
    watch();
  if (call_.infers())
    submit_inference(parser_->take_body());
  else
    submit(parser_->take_body());
}

void HttpConnection::submit(std::string body) {
  JobThreads& jobs = call_.takes_long() ? core_.lists() : core_.pool(0);
  jobs.run(party(), [self = shared_from_this(), serial = serial_, call = call_, body = std::move(body),
                     cancelled = cancelled_] {
    if (*cancelled) return;
    guarded([&] { self->deliver(serial, self->core_.api.answer(call, body)); });
  });
}

void HttpConnection::submit_inference(std::string body) {
  auto job = std::make_shared<Inference>();
  job->serial = serial_;
  job->call = call_;
  job->caller = party();
  job->body = std::move(body);
  job->held = std::move(held_);
  job->cancelled = cancelled_;
  job->deadline = Clock::now() + core_.options.request_timeout;
  if (line_) job->account = std::make_shared<InferenceAccount>();
  JobThreads& jobs = core_.pool(job->body.size());
  jobs.run(job->caller, [self = shared_from_this(), job] {
    if (!*job->cancelled) guarded([&] { self->infer(*job); });
  });
}

void HttpConnection::infer(Inference& job) {
  try {
    InferenceRequest request = core_.api.inference(job.call, job.body);
    std::string().swap(job.body);
    job.held.reset();
    CallContext context{.deadline = job.deadline,
                        .cancelled = job.cancelled,
                        .caller = std::move(job.caller),
                        .may_use = job.call.caller.rule(),
                        .account = job.account};
    BinaryOutputs binary(request);
    // Neither the connection nor the server is kept by the service: it may answer after both are gone.
    auto done = [weak_core = core_.self, weak = weak_from_this(), serial = job.serial, binary = std::move(binary),
                 account = job.account, caller = context.caller](InferenceResult result) {
      if (const auto alive = weak_core.lock())
        guarded([&] { write_answer(*alive, caller, weak, serial, binary, account, std::move(result)); });
    };
    core_.service.infer(std::move(request), std::move(context), std::move(done));
  } catch (...) {
    deliver(job.serial, answer_of_current_exception());
  }
}

void HttpConnection::write_answer(HttpCore& core, const std::string& caller, std::weak_ptr<HttpConnection> weak,
                                  std::uint64_t serial, const BinaryOutputs& binary,
                                  const std::shared_ptr<InferenceAccount>& account, InferenceResult result) {
  const auto* response = std::get_if<InferenceResponse>(&result);
  const std::size_t bytes = response ? output_bytes(*response) : 0;
  auto write = [weak = std::move(weak), serial, binary, account, result = std::move(result)] {
    guarded([&] {
      if (const auto self = weak.lock())
        self->deliver(serial, self->core_.api.inference_answer(result, binary), account);
    });
  };
  if (bytes <= kSmallAnswer)
    asio::post(core.io, std::move(write));
  else
    core.pool(bytes).run(caller, std::move(write));
}

void HttpConnection::deliver(std::uint64_t serial, HttpAnswer answer,
                             const std::shared_ptr<InferenceAccount>& account) {
  asio::post(executor_, [self = shared_from_this(), serial, answer = std::move(answer), account]() mutable {
    if (self->serial_ != serial || self->state_ != State::kWaiting) return;
    if (self->line_ && account) self->line_->account = *account;
    self->respond(std::move(answer));
  });
}

// ---- the answer ----------------------------------------------------------------------------------------------------

void HttpConnection::respond(HttpAnswer answer) {
  state_ = State::kWriting;
  await(Awaits::kNothing);
  held_.reset();
  arm(core_.options.response_timeout);
  status_ = answer.status;
  if (core_.access_log && !line_) begin_line({});  // it has no header that can be read
  if (line_) answer.fields.emplace_back("X-Request-Id", line_->id);
  const bool keep = keep_alive_ && !answer.close && !core_.draining;
  out_head_ = head_text(answer, answer.body.size(), minor_version_, keep, http_date());
  out_body_ = call_.method == "HEAD" ? std::string() : std::move(answer.body);
  if (out_head_.size() + out_body_.size() <= kOnePiece) {
    out_head_ += out_body_;
    out_body_.clear();
  }
  stream_->write({asio::buffer(out_head_), asio::buffer(out_body_)},
                 [self = shared_from_this(), keep](const Error& error, std::size_t bytes) {
                   self->on_written(error, bytes, keep);
                 });
}

void HttpConnection::on_written(const Error& error, std::size_t bytes, bool keep) {
  if (state_ == State::kClosed) return;
  core_.metrics.sent(bytes);
  core_.metrics.answered(call_.path_template(), call_.method, status_, clock_.ms() / 1000);
  if (logs(LogLevel::kDebug))
    log_event(LogLevel::kDebug, "http.request",
              {{"method", call_.method},
               {"path", call_.path_template()},
               {"status", status_},
               {"ms", clock_.ms()},
               {"received", request_bytes_},
               {"sent", bytes},
               {"identity", call_.caller.name()}});
  end_line(status_, bytes, !error);
  std::string().swap(out_body_);
  if (error) return close();
  if (keep) return next_request();
  linger();
}

// ---- the access log ------------------------------------------------------------------------------------------------

void HttpConnection::begin_line(const HttpHead& head) {
  if (!core_.access_log) return;
  line_ = std::make_unique<AccessEntry>(core_.access_log->begin("http", head.request_id, head.traceparent, peer_));
}

void HttpConnection::end_line(int status, std::size_t sent, bool complete) {
  if (!line_) return;
  line_->route = call_.path_template();
  line_->method = call_.method;
  line_->model = shown_model(call_.model, call_.version);
  line_->status = status == 0 ? kNoAnswer : status;
  line_->complete = complete;
  line_->received = request_bytes_;
  line_->sent = sent;
  line_->ms = clock_.ms();
  line_->caller = call_.caller.name();
  core_.access_log->add(std::move(*line_));
  line_.reset();
}

}  // namespace recast
