#pragma once
// A server over LinearService on a port of its own, and a client for it.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <prometheus/registry.h>

#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "format/expect_error.h"
#include "linear_service.h"
#include "metric_of.h"
#include "recast/serve/grpc_server.h"
#include "serve/inference.grpc.pb.h"

namespace recast {

using namespace std::chrono_literals;
using Stub = inference::GRPCInferenceService::Stub;

inline GrpcOptions any_port() {
  GrpcOptions options;
  options.port = 0;
  return options;
}

template <class Change>
GrpcOptions options_with(const Change& change) {
  GrpcOptions options = any_port();
  change(options);
  return options;
}

/// A connection of its own, that takes answers of any size.
inline std::shared_ptr<grpc::Channel> connect(int port, std::shared_ptr<grpc::ChannelCredentials> credentials = {},
                                              int most_bytes = -1) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(most_bytes);
  return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port),
                                   credentials ? credentials : grpc::InsecureChannelCredentials(), arguments);
}

struct GrpcTestServer {
  explicit GrpcTestServer(GrpcOptions options = any_port(), TokenTable* tokens = nullptr,
                          AccessLog* access_log = nullptr)
      : server(service, std::move(options), registry, tokens, access_log) {
    server.start();
    channel = connect(server.port());
    stub = std::make_unique<Stub>(channel);
  }

  prometheus::Registry registry;
  LinearService service{{{"pair", 2}, {"five", 5}}};
  GrpcServer server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<Stub> stub;
};

inline std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}
inline std::vector<float> floats_of(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// One row for "pair": of 1, 2, 3 the logits are 6 and 12.
inline inference::ModelInferRequest call_for(const std::string& model, const std::vector<float>& row, bool raw = true) {
  inference::ModelInferRequest request;
  request.set_model_name(model);
  request.set_id("7");
  auto& input = *request.add_inputs();
  input.set_name("x");
  input.set_datatype("FP32");
  input.add_shape(1);
  input.add_shape(static_cast<std::int64_t>(row.size()));
  if (raw) {
    request.add_raw_input_contents(floats(row));
  } else {
    input.mutable_contents()->mutable_fp32_contents()->Add(row.begin(), row.end());
  }
  return request;
}

/// A context that gives up after a while, so that no test hangs.
struct GrpcContext : grpc::ClientContext {
  explicit GrpcContext(const std::string& token = "", std::chrono::milliseconds within = 20s) {
    set_deadline(std::chrono::system_clock::now() + within);
    if (!token.empty()) AddMetadata("authorization", "Bearer " + token);
  }
};

/// Calls one method and gives its status: status_of(stub, &Stub::ServerLive, request, response).
template <class Request, class Response, class Method>
grpc::Status call(Stub& stub, Method method, const Request& request, Response& response,
                  const std::string& token = "") {
  GrpcContext context(token);
  return (stub.*method)(&context, request, &response);
}

/// Bytes over a channel, whatever they are: what comes back, or the status.
inline grpc::Status send_bytes(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                               const std::string& bytes, std::string* answer = nullptr) {
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub(channel);
  GrpcContext context;
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, {}, &request, &response, [&](grpc::Status status) { done.set_value(status); });
  const grpc::Status status = done.get_future().get();
  std::vector<grpc::Slice> slices;
  if (status.ok() && answer != nullptr && response.Dump(&slices).ok()) {
    for (const grpc::Slice& part : slices) answer->append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return status;
}

/// A ModelStreamInfer that is open.
struct StreamCall {
  explicit StreamCall(GrpcTestServer& at) : stream(at.stub->ModelStreamInfer(&context)) {}

  GrpcContext context{"", 60s};
  std::unique_ptr<grpc::ClientReaderWriter<inference::ModelInferRequest, inference::ModelStreamInferResponse>> stream;
};

}  // namespace recast
