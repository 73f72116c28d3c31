#include "grpc_methods.h"

#include <algorithm>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "recast/serve/model_name.h"
#include "serve/health.pb.h"
#include "serve/inference.pb.h"

namespace recast {
namespace {

using google::protobuf::Message;
using Answer = std::unique_ptr<Message>;

template <class Request>
Request read(const GrpcAsked& asked) {
  Request request;
  parse_message(asked.message, request, kSmallMessageBytes);
  return request;
}

template <class Response>
Answer filled(const nlohmann::json& json) {
  auto answer = std::make_unique<Response>();
  fill_message(json, *answer);
  return answer;
}

/// check_may_use() of the model that a message names.
void check_model(const GrpcAsked& asked, const std::string& model, const std::string& version = "") {
  asked.model = shown_model(model, version);
  check_may_use(asked.caller, model, version);
}

Answer server_live(const GrpcAsked& asked) {
  read<inference::ServerLiveRequest>(asked);
  auto answer = std::make_unique<inference::ServerLiveResponse>();
  answer->set_live(asked.service.live());
  return answer;
}

Answer server_ready(const GrpcAsked& asked) {
  read<inference::ServerReadyRequest>(asked);
  auto answer = std::make_unique<inference::ServerReadyResponse>();
  answer->set_ready(asked.ready && asked.service.ready());
  return answer;
}

Answer check_health(const GrpcAsked& asked) {
  const auto request = read<grpc::health::v1::HealthCheckRequest>(asked);
  if (!request.service().empty() && request.service() != "inference.GRPCInferenceService") {
    fail(Code::kNotFound, "[grpc] no service '{}'; there is inference.GRPCInferenceService",
         printable(request.service()));
  }
  using Response = grpc::health::v1::HealthCheckResponse;
  auto answer = std::make_unique<Response>();
  answer->set_status(asked.ready && asked.service.ready() ? Response::SERVING : Response::NOT_SERVING);
  return answer;
}

Answer server_metadata(const GrpcAsked& asked) {
  read<inference::ServerMetadataRequest>(asked);
  return filled<inference::ServerMetadataResponse>(asked.service.server_metadata());
}

Answer model_ready(const GrpcAsked& asked) {
  const auto request = read<inference::ModelReadyRequest>(asked);
  check_model(asked, request.name(), request.version());
  auto answer = std::make_unique<inference::ModelReadyResponse>();
  answer->set_ready(asked.service.model_ready(request.name(), request.version()));
  return answer;
}

Answer model_metadata(const GrpcAsked& asked) {
  const auto request = read<inference::ModelMetadataRequest>(asked);
  check_model(asked, request.name(), request.version());
  return filled<inference::ModelMetadataResponse>(asked.service.model_metadata(request.name(), request.version()));
}

Answer model_statistics(const GrpcAsked& asked) {
  const auto request = read<inference::ModelStatisticsRequest>(asked);
  if (!request.name().empty()) check_model(asked, request.name(), request.version());
  nlohmann::json all = asked.service.statistics(request.name(), request.version());
  if (const auto found = all.find("model_stats"); found != all.end()) keep_allowed(*found, asked.caller);
  return filled<inference::ModelStatisticsResponse>(all);
}

void refuse_repository(const std::string& name) {
  if (name.empty()) return;
  fail(Code::kNotFound, "[grpc] repository_name: there is no repository '{}'; leave it empty", printable(name));
}

Answer repository_index(const GrpcAsked& asked) {
  const auto request = read<inference::RepositoryIndexRequest>(asked);
  refuse_repository(request.repository_name());
  nlohmann::json index = asked.service.repository_index(request.ready());
  keep_allowed(index, asked.caller);
  // By hand: there may be 100,000 of them.
  auto answer = std::make_unique<inference::RepositoryIndexResponse>();
  for (const nlohmann::json& entry : index) {
    auto& model = *answer->add_models();
    model.set_name(entry.value("name", ""));
    model.set_version(entry.value("version", ""));
    model.set_state(entry.value("state", ""));
    model.set_reason(entry.value("reason", ""));
  }
  return answer;
}

/// Of Triton's form and of KServe's, where the model is in the field that Triton has for the repository.
template <class Request>
std::string model_to_manage(const Request& request, const GrpcAsked& asked) {
  const bool kserve = request.model_name().empty();
  if (!kserve) refuse_repository(request.repository_name());
  const std::string& model = kserve ? request.repository_name() : request.model_name();
  check_model(asked, model);
  return model;
}

void log_management(std::string_view event, const std::string& model, const Caller& caller) {
  log_event(LogLevel::kInfo, event, {{"model", model}, {"identity", caller.name()}});
}

Answer load(const GrpcAsked& asked) {
  const auto request = read<inference::RepositoryModelLoadRequest>(asked);
  const std::string model = model_to_manage(request, asked);
  for (const auto& [key, value] : request.parameters()) check_load_parameter(key);
  asked.service.load(model);
  log_management("grpc.model_loaded", model, asked.caller);
  auto answer = std::make_unique<inference::RepositoryModelLoadResponse>();
  answer->set_model_name(model);
  answer->set_isloaded(true);
  return answer;
}

Answer unload(const GrpcAsked& asked) {
  const auto request = read<inference::RepositoryModelUnloadRequest>(asked);
  const std::string model = model_to_manage(request, asked);
  asked.service.unload(model);
  log_management("grpc.model_unloaded", model, asked.caller);
  auto answer = std::make_unique<inference::RepositoryModelUnloadResponse>();
  answer->set_model_name(model);
  answer->set_isunloaded(true);
  return answer;
}

#define RECAST_METHOD(name) "/inference.GRPCInferenceService/" name
constexpr GrpcMethod kMethods[] = {
    {RECAST_METHOD("ModelInfer"), Right::kInfer, GrpcKind::kInfer, nullptr},
    {RECAST_METHOD("ModelStreamInfer"), Right::kInfer, GrpcKind::kStream, nullptr},
    {RECAST_METHOD("ServerLive"), std::nullopt, GrpcKind::kImmediate, server_live},
    {RECAST_METHOD("ServerReady"), std::nullopt, GrpcKind::kImmediate, server_ready},
    {"/grpc.health.v1.Health/Check", std::nullopt, GrpcKind::kImmediate, check_health},
    {RECAST_METHOD("ServerMetadata"), Right::kDescribe, GrpcKind::kImmediate, server_metadata},
    {RECAST_METHOD("ModelReady"), Right::kDescribe, GrpcKind::kReading, model_ready},
    {RECAST_METHOD("ModelMetadata"), Right::kDescribe, GrpcKind::kReading, model_metadata},
    {RECAST_METHOD("ModelStatistics"), Right::kRead, GrpcKind::kReading, model_statistics},
    {RECAST_METHOD("RepositoryIndex"), Right::kRead, GrpcKind::kReading, repository_index},
    {RECAST_METHOD("RepositoryModelLoad"), Right::kManage, GrpcKind::kReading, load},
    {RECAST_METHOD("RepositoryModelUnload"), Right::kManage, GrpcKind::kReading, unload},
};
#undef RECAST_METHOD

}  // namespace

std::span<const GrpcMethod> grpc_methods() { return kMethods; }

const GrpcMethod* find_grpc_method(std::string_view path) {
  const auto found = std::ranges::find(kMethods, path, &GrpcMethod::path);
  return found == std::end(kMethods) ? nullptr : found;
}

void check_may_use(const Caller& caller, const std::string& model, const std::string& version) {
  parse_model_name(model, version);
  if (!caller.may_use(model)) throw NotAllowed("[grpc] the token is not for this model");
}

}  // namespace recast
