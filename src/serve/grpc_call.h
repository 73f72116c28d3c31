#pragma once
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "grpc_methods.h"
#include "grpc_metrics.h"
#include "job_threads.h"
#include "open_calls.h"
#include "rationed_event.h"
#include "recast/base/log.h"
#include "recast/serve/access_log.h"
#include "recast/serve/grpc_server.h"

namespace recast {

/// What the calls of one server share. `open`, `readers`, `access_log` and what `metrics` counts in outlive every call
/// that is open, the rest every call.
struct GrpcFloor {
  Service& service;
  const GrpcOptions options;
  TokenTable* const tokens;
  AccessLog* const access_log;
  OpenCalls& open;
  JobThreads& readers;
  GrpcMetrics metrics;
  RationedEvent token_refused{LogLevel::kWarn, "grpc.token_refused"};
  std::atomic<bool> ready{true};
};

/// One call of any method, from its header to its status.
///
/// gRPC's generic interface hands over a call when its header is there, and its message when it is asked for: so who
/// calls is checked before a byte of the message is taken, and there is one way in for all methods.
///
/// A call is receiving, working or sending, or over: its status was given to gRPC, and nothing but a cancellation may
/// follow. Whoever gets there first (the answer, a deadline, the client's cancellation, the end of the server) ends it;
/// operations are started while the lock is held, so that none comes behind the last one. gRPC runs the reactions in
/// threads of its own, never in the call that starts an operation.
class GrpcCall final : public grpc::ServerGenericBidiReactor,
                       public TimedCall,
                       public std::enable_shared_from_this<GrpcCall> {
 public:
  /// The reactor for a call that came in; it keeps itself until gRPC is done with it.
  static GrpcCall* begin(std::shared_ptr<GrpcFloor> floor, grpc::GenericCallbackServerContext& context);

  GrpcCall(std::shared_ptr<GrpcFloor> floor, grpc::GenericCallbackServerContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void expired() override;
  void closing() override;

 private:
  enum class Phase { kReceiving, kWorking, kSending, kOver };

  void admit(bool room);
  void begin_line();
  grpc::Status authorise();
  void receive();
  /// False: the call is over.
  bool work();
  bool over();
  std::string party();
  void answer();
  void infer();
  void inferred(const InferenceAccount* account, InferenceResult result);
  void refused(const grpc::Status& status);
  /// What the call's line in the access log says of the request at hand, unless the call is over.
  void name_model(const std::string& model);
  void settle(const InferenceAccount& account);
  void serialize(const google::protobuf::Message& message);
  void send_last(const google::protobuf::Message& message);
  void send_and_go_on(inference::ModelStreamInferResponse message, grpc::StatusCode status);
  /// False: the call was over, or is sending.
  bool finish(const grpc::Status& status);
  /// With the lock held.
  void end(const grpc::Status& status);
  /// A line in the access log, with the lock held: of the call, or of a request in a stream.
  void add_line(grpc::StatusCode status, bool complete, double ms);
  std::string_view method() const { return method_ == nullptr ? "other" : method_->path; }
  bool streams() const { return method_ != nullptr && method_->kind == GrpcKind::kStream; }

  const std::shared_ptr<GrpcFloor> floor_;
  const Stopwatch watch_;
  const GrpcMethod* method_ = nullptr;
  Caller caller_;
  const std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);
  grpc::ByteBuffer received_, sent_;
  bool raw_ = false;  ///< the answer
  std::string id_;    ///< of the request at hand, in a stream

  std::mutex mutex_;
  grpc::GenericCallbackServerContext* context_;  ///< null: gRPC is done
  Phase phase_ = Phase::kReceiving;
  bool closing_ = false;
  grpc::StatusCode status_ = grpc::StatusCode::OK;
  std::optional<AccessEntry> line_;  ///< nothing: no access log is kept
  Stopwatch request_watch_;          ///< in a stream
  bool answered_one_ = false;        ///< in a stream
};

}  // namespace recast
