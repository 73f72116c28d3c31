#include "grpc_call.h"

#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <variant>

#include "grpc_status.h"
#include "public_error.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;
using google::protobuf::Message;

grpc::Status shutting_down() { return {grpc::StatusCode::UNAVAILABLE, "[grpc] the server is shutting down"}; }

/// When a client stops waiting.
Clock::time_point deadline_of(const grpc::ServerContextBase& context) {
  const auto told = context.deadline();
  if (told == std::chrono::system_clock::time_point::max()) return Clock::time_point::max();
  const auto left = told - std::chrono::system_clock::now();
  // A client may say years: nobody waits for so long here.
  return Clock::now() + std::min<std::chrono::system_clock::duration>(left, std::chrono::hours(24));
}

/// "127.0.0.1" of "ipv4:127.0.0.1:50000", "::1" of "ipv6:%5B::1%5D:50000", as HTTP has them.
std::string address_of(const grpc::ServerContextBase& context) {
  std::string address = context.peer();
  address.erase(0, address.find(':') + 1);
  address.erase(std::min(address.rfind(':'), address.size()));
  for (const std::string_view bracket : {"[", "]", "%5B", "%5D"})
    if (const std::size_t at = address.find(bracket); at != address.npos) address.erase(at, bracket.size());
  return address;
}

/// As HTTP/2 counts a list of headers. gRPC has counted already, but 1.51 does so for each frame by itself
/// (CVE-2023-33953).
std::size_t metadata_bytes(const grpc::GenericCallbackServerContext& context) {
  constexpr std::size_t kOfEach = 32;
  std::size_t bytes = kOfEach + context.method().size();
  for (const auto& [key, value] : context.client_metadata()) bytes += kOfEach + key.size() + value.size();
  return bytes;
}

}  // namespace

GrpcCall* GrpcCall::begin(std::shared_ptr<GrpcFloor> floor, grpc::GenericCallbackServerContext& context) {
  const auto call = std::make_shared<GrpcCall>(std::move(floor), context);
  call->floor_->metrics.opened();
  call->begin_line();
  call->admit(call->floor_->open.add(call, network_of(address_of(context))));
  return call.get();  // open calls are kept, and this one is until gRPC has it and is done with it
}

GrpcCall::GrpcCall(std::shared_ptr<GrpcFloor> floor, grpc::GenericCallbackServerContext& context)
    : floor_(std::move(floor)), method_(find_grpc_method(context.method())), context_(&context) {}

void GrpcCall::begin_line() {
  if (floor_->access_log == nullptr) return;
  const auto field = [&](const char* name) {
    const auto found = context_->client_metadata().find(name);
    return found == context_->client_metadata().end() ? std::string_view()
                                                      : std::string_view(found->second.data(), found->second.size());
  };
  line_ = floor_->access_log->begin("grpc", field("x-request-id"), field("traceparent"), address_of(*context_));
  line_->route = method();
  context_->AddInitialMetadata("x-request-id", line_->id);
}

void GrpcCall::admit(bool room) {
  if (method_ == nullptr) {
    finish({grpc::StatusCode::UNIMPLEMENTED, "[grpc] there is no method " + printable(context_->method())});
  } else if (!room) {
    finish({grpc::StatusCode::UNAVAILABLE, "[grpc] too many calls are open already: try again later"});
  } else if (const std::size_t bytes = metadata_bytes(*context_); bytes > floor_->options.metadata_bytes) {
    finish({grpc::StatusCode::RESOURCE_EXHAUSTED, fmt::format("[grpc] the call's metadata have {} bytes, more than {}",
                                                              bytes, floor_->options.metadata_bytes)});
  } else if (const grpc::Status status = authorise(); !status.ok()) {
    finish(status);
  } else {
    receive();
  }
}

grpc::Status GrpcCall::authorise() {
  if (!method_->right) return grpc::Status::OK;
  const Right right = *method_->right;
  if (floor_->tokens == nullptr) {
    if (right != Right::kManage || floor_->options.management) return grpc::Status::OK;
    return {grpc::StatusCode::PERMISSION_DENIED, std::string(kManagementIsOff)};
  }
  const auto [first, last] = context_->client_metadata().equal_range("authorization");
  const bool one = first != last && std::next(first) == last;  // of two, neither counts
  TokenVerdict verdict =
      floor_->tokens->check(one ? std::string_view(first->second.data(), first->second.size()) : "", right);
  if (verdict.access == Access::kGranted) {
    caller_.identity = std::make_shared<const TokenIdentity>(std::move(verdict.identity));
    return grpc::Status::OK;
  }
  floor_->token_refused.log({{"method", method_->path},
                             {"peer", context_->peer()},
                             {"identity", verdict.identity.name},
                             {"message", verdict.message}});
  const grpc::StatusCode code = verdict.access == Access::kForbidden ? grpc::StatusCode::PERMISSION_DENIED
                                : verdict.access == Access::kTooMany ? grpc::StatusCode::RESOURCE_EXHAUSTED
                                                                     : grpc::StatusCode::UNAUTHENTICATED;
  return {code, verdict.message};
}

void GrpcCall::receive() {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kOver) return;
  if (closing_ && streams()) return end(shutting_down());
  phase_ = Phase::kReceiving;
  expires(Clock::now() + (streams() ? floor_->options.stream_timeout : floor_->options.request_timeout));
  StartRead(&received_);
}

bool GrpcCall::work() {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kReceiving) return false;
  phase_ = Phase::kWorking;
  if (streams()) expires(Clock::now() + floor_->options.request_timeout);
  request_watch_ = {};
  if (line_) line_->received = received_.Length();
  return true;
}

void GrpcCall::OnReadDone(bool ok) {
  const auto self = shared_from_this();
  if (!ok) {
    finish(streams() ? grpc::Status::OK
                     : grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "[grpc] the call ended without a message"));
    return;
  }
  if (!work()) return;
  floor_->metrics.received(received_.Length());
  // A stream may outlast its token.
  if (const grpc::Status status = streams() ? authorise() : grpc::Status::OK; !status.ok()) {
    finish(status);
    return;
  }
  const bool inference = method_->answer == nullptr;
  if (!inference && received_.Length() > static_cast<std::size_t>(kSmallMessageBytes)) {
    finish({grpc::StatusCode::RESOURCE_EXHAUSTED, fmt::format("[grpc] the message has {} bytes, {} takes {}",
                                                              received_.Length(), method_->path, kSmallMessageBytes)});
  } else if (inference) {
    infer();
  } else if (method_->kind == GrpcKind::kImmediate) {
    answer();
  } else if (!floor_->readers.run(party(), [self] { self->answer(); })) {
    finish({grpc::StatusCode::UNAVAILABLE, "[grpc] too many calls wait for the store: try again later"});
  }
}

bool GrpcCall::over() {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kOver;
}

std::string GrpcCall::party() {
  const std::lock_guard lock(mutex_);
  return context_ == nullptr ? std::string() : caller_.party(address_of(*context_));
}

void GrpcCall::answer() {
  if (over()) return;
  std::string model;
  try {
    const OpenStream message = [this] { return std::make_unique<grpc::ProtoBufferReader>(&received_); };
    const auto made = method_->answer({floor_->service, floor_->ready, caller_, message, model});
    name_model(model);
    send_last(*made);
  } catch (...) {
    name_model(model);
    finish(status_of_current_exception());
  }
}

void GrpcCall::infer() {
  try {
    inference::ModelInferRequest message;
    parse_message([this] { return std::make_unique<grpc::ProtoBufferReader>(&received_); }, message,
                  static_cast<std::int64_t>(floor_->options.message_bytes));
    received_.Clear();
    id_ = message.id();
    raw_ = wants_raw_answer(message);
    InferenceRequest request = read_request(std::move(message), floor_->options.request);
    name_model(shown_model(request.model, request.version));
    check_may_use(caller_, request.model, request.version);
    CallContext context;
    {
      const std::lock_guard lock(mutex_);
      if (context_ == nullptr) return;
      context.deadline = std::min(deadline_of(*context_), Clock::now() + floor_->options.request_timeout);
      context.caller = caller_.party(address_of(*context_));
    }
    context.cancelled = cancelled_;
    context.may_use = caller_.rule();
    if (floor_->access_log != nullptr) context.account = std::make_shared<InferenceAccount>();
    auto done = [self = shared_from_this(), account = context.account](InferenceResult result) {
      self->inferred(account.get(), std::move(result));
    };
    floor_->service.infer(std::move(request), std::move(context), std::move(done));
  } catch (...) {
    refused(status_of_current_exception());
  }
}

void GrpcCall::inferred(const InferenceAccount* account, InferenceResult result) {
  if (over()) return;
  if (account != nullptr) settle(*account);
  try {
    if (const auto* error = std::get_if<std::exception_ptr>(&result)) std::rethrow_exception(*error);
    inference::ModelInferResponse message = write_response(std::get<InferenceResponse>(std::move(result)), raw_);
    if (!streams()) return send_last(message);
    inference::ModelStreamInferResponse next;
    *next.mutable_infer_response() = std::move(message);
    send_and_go_on(std::move(next), grpc::StatusCode::OK);
  } catch (...) {
    refused(status_of_current_exception());
  }
}

void GrpcCall::refused(const grpc::Status& status) {
  if (!streams()) {
    finish(status);
    return;
  }
  inference::ModelStreamInferResponse message;
  message.set_error_message(status.error_message());
  message.mutable_infer_response()->set_id(id_);
  send_and_go_on(std::move(message), status.error_code());
}

void GrpcCall::name_model(const std::string& model) {
  const std::lock_guard lock(mutex_);
  if (line_ && phase_ != Phase::kOver) line_->model = model;
}

void GrpcCall::settle(const InferenceAccount& account) {
  const std::lock_guard lock(mutex_);
  if (line_ && phase_ != Phase::kOver) line_->account = account;
}

void GrpcCall::serialize(const Message& message) {
  const std::size_t bytes = message.ByteSizeLong();
  if (bytes > floor_->options.message_bytes) {
    fail(Code::kExhausted, "[grpc] the answer has {} bytes, more than {}: send fewer rows or ask for fewer outputs",
         bytes, floor_->options.message_bytes);
  }
  sent_.Clear();  // the writer takes an empty one only
  bool owned;
  const grpc::Status status = grpc::SerializationTraits<Message>::Serialize(message, &sent_, &owned);
  if (!status.ok()) fail(Code::kInternal, "[grpc] cannot write the answer: {}", status.error_message());
}

void GrpcCall::send_last(const Message& message) {
  serialize(message);
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kOver) return;
  phase_ = Phase::kOver;
  expires(Clock::now() + floor_->options.response_timeout);
  floor_->metrics.sent(sent_.Length());
  if (line_) line_->sent = sent_.Length();
  StartWriteAndFinish(&sent_, grpc::WriteOptions(), grpc::Status::OK);
}

void GrpcCall::send_and_go_on(inference::ModelStreamInferResponse message, grpc::StatusCode status) {
  try {
    serialize(message);
  } catch (...) {
    finish(status_of_current_exception());
    return;
  }
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kOver) return;
  phase_ = Phase::kSending;
  expires(Clock::now() + floor_->options.response_timeout);
  floor_->metrics.sent(sent_.Length());
  if (line_) {
    line_->sent = sent_.Length();
    add_line(status, true, request_watch_.ms());
    answered_one_ = true;
  }
  StartWrite(&sent_);
}

void GrpcCall::OnWriteDone(bool ok) {
  const auto self = shared_from_this();
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::kSending) phase_ = Phase::kWorking;
  }
  if (ok) {
    receive();
  } else {
    finish({grpc::StatusCode::CANCELLED, "[grpc] the client is gone"});
  }
}

void GrpcCall::end(const grpc::Status& status) {
  phase_ = Phase::kOver;
  status_ = status.error_code();
  if (status_ == grpc::StatusCode::UNAVAILABLE)  // what gRPC's own retries go by (its proposal A6)
    context_->AddTrailingMetadata("grpc-retry-pushback-ms",
                                  std::to_string(std::chrono::milliseconds(kRetryAfter).count()));
  expires(Clock::now() + floor_->options.response_timeout);
  Finish(status);
}

bool GrpcCall::finish(const grpc::Status& status) {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kOver || phase_ == Phase::kSending) return false;
  end(status);
  return true;
}

void GrpcCall::OnCancel() {
  const auto self = shared_from_this();
  *cancelled_ = true;
  finish({grpc::StatusCode::CANCELLED, "[grpc] cancelled"});
}

void GrpcCall::expired() {
  *cancelled_ = true;
  if (finish({grpc::StatusCode::DEADLINE_EXCEEDED, "[grpc] the call took longer than the server waits"})) return;
  const std::lock_guard lock(mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

void GrpcCall::closing() {
  const std::lock_guard lock(mutex_);
  closing_ = true;
  if (streams() && phase_ == Phase::kReceiving) end(shutting_down());
}

void GrpcCall::add_line(grpc::StatusCode status, bool complete, double ms) {
  line_->status = status;
  line_->complete = complete;
  line_->ms = ms;
  line_->caller = caller_.name();
  floor_->access_log->add(*line_);
  line_->model.clear();
  line_->account = {};
  line_->received = line_->sent = 0;
}

void GrpcCall::OnDone() {
  floor_->metrics.closed(method(), status_, watch_.ms() / 1000);
  {
    const std::lock_guard lock(mutex_);
    // A stream's requests have lines of their own; its end has one where it says more.
    const bool complete = !*cancelled_ || status_ == grpc::StatusCode::DEADLINE_EXCEEDED;
    if (line_ && (!answered_one_ || status_ != grpc::StatusCode::OK)) add_line(status_, complete, watch_.ms());
  }
  const auto self = floor_->open.remove(this);
  {
    const std::lock_guard lock(mutex_);
    context_ = nullptr;
  }
  *cancelled_ = true;
  log_event(LogLevel::kDebug, "grpc.call",
            {{"method", method()}, {"status", static_cast<int>(status_)}, {"ms", watch_.ms()}});
}

}  // namespace recast
