#include "http_api.h"

#include <fmt/format.h>

#include <exception>
#include <nlohmann/json.hpp>
#include <variant>

#include "http_content.h"
#include "http_openapi.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "recast/serve/model_name.h"

namespace recast {
namespace {

using nlohmann::json;

/// Of the bodies of index, load and unload, and of those that mean nothing, such as that of a GET.
constexpr std::size_t kSmallBody = std::size_t{64} << 10;

HttpAnswer with_allow(HttpAnswer answer, std::string_view allow) {
  answer.fields.emplace_back("Allow", std::string(allow));
  return answer;
}

HttpAnswer options_answer(std::string_view allow) {
  HttpAnswer answer;
  answer.status = 204;
  return with_allow(std::move(answer), allow);
}

std::vector<std::string> allowed_hosts(const HttpOptions& options) {
  std::vector<std::string> names;
  for (const std::string& text : options.allowed_hosts) {
    const std::optional<std::string> name = host_name(text);
    if (!name)
      fail(Code::kInvalidArgument,
           "[http] allowed host '{}': expected a name alone, as recast.example, without scheme and port",
           printable(text));
    names.push_back(*name);
  }
  return names;
}

}  // namespace

std::size_t output_bytes(const InferenceResponse& response) {
  std::size_t bytes = 0;
  for (const WireTensor& output : response.outputs) bytes += output.bytes.size();
  return bytes;
}

bool HttpCall::immediate() const {
  return route && (route->action == HttpAction::kLive || route->action == HttpAction::kReady ||
                   route->action == HttpAction::kOpenapi);
}

bool HttpCall::takes_long() const {
  return route && (route->action == HttpAction::kIndex || route->action == HttpAction::kStatistics ||
                   route->action == HttpAction::kTasks || route->action == HttpAction::kCorrect);
}

HttpApi::HttpApi(Service& service, const HttpOptions& options, HttpMetrics& metrics, TokenTable* tokens)
    : service_(service),
      options_(options),
      metrics_(metrics),
      tokens_(tokens),
      allowed_hosts_(allowed_hosts(options)),
      openapi_(openapi_document(options, tokens != nullptr)),
      page_(service, options, tokens != nullptr) {}

// ---- from the header -----------------------------------------------------------------------------------------------

std::optional<HttpAnswer> HttpApi::admit(const HttpHead& head, std::string_view peer, HttpCall& call) const {
  try {
    call.method = head.method;
    call.route = find_route(path_of(head.target));
    if (auto refused = refuse_host(head)) return refused;
    if (head.target == "*" && head.method == "OPTIONS") return options_answer("GET, HEAD, POST, OPTIONS");
    if (call.route && options_.metrics_only && call.route->action != HttpAction::kMetrics &&
        call.route->action != HttpAction::kLive && call.route->action != HttpAction::kReady)
      call.route.reset();
    if (!call.route) return error_answer(404, "[http] nothing is at this path; GET /v2/openapi.json lists the paths");
    if (head.method == "OPTIONS") return options_answer(call.route->allow());
    if (!call.route->allows(head.method))
      return with_allow(error_answer(405, fmt::format("[http] this path takes {}", call.route->allow())),
                        call.route->allow());
    if (auto refused = authorise(head, peer, call)) return refused;
    if (call.corrects() && !page_.takes_corrections())
      return error_answer(403, "[http] corrections are taken by a server that was started with --corrections FOLDER");
    if (!call.route->model.empty()) call.model = decode_path_segment(call.route->model);
    if (!call.route->version.empty()) call.version = decode_path_segment(call.route->version);
    if (!call.route->example.empty()) call.example = decode_path_segment(call.route->example);
    if (call.route->action == HttpAction::kTasks) call.query = head.target;
    call.route->model = call.route->version = call.route->example = {};
    if (!call.model.empty()) parse_model_name(call.model, call.version);
    if (!call.model.empty() && !call.caller.may_use(call.model))
      return error_answer(403, "[http] the token is not for this model");
    return check_content(head, call);
  } catch (...) {
    return answer_of_current_exception();
  }
}

/// Tokens defend by themselves: a page from elsewhere has none.
std::optional<HttpAnswer> HttpApi::refuse_host(const HttpHead& head) const {
  if (tokens_ || names_this_server(head, allowed_hosts_)) return std::nullopt;
  metrics_.refused("host");
  return error_answer(421, fmt::format("[http] without tokens this server answers as localhost, by its number, or "
                                       "under names that --allowed-host NAME gives it, not as '{}'",
                                       printable(*head.host)));
}

/// A page from anywhere can make a browser on this machine send such a request.
std::optional<HttpAnswer> HttpApi::refuse_open_change(const HttpHead& head, const HttpCall& call) const {
  if (call.corrects()) {
    if (from_own_page(head)) return std::nullopt;
    return error_answer(403, "[http] without a token corrections are taken from the page of this server alone");
  }
  if (!options_.management) return error_answer(403, kManagementIsOff);
  if (head.origin) return error_answer(403, "[http] web pages may not load or unload without a token");
  return std::nullopt;
}

std::optional<HttpAnswer> HttpApi::authorise(const HttpHead& head, std::string_view peer, HttpCall& call) const {
  if (!call.route->right) return std::nullopt;
  const Right right = *call.route->right;
  if (!tokens_) return right == Right::kManage ? refuse_open_change(head, call) : std::nullopt;
  TokenVerdict verdict = tokens_->check(head.authorization.value_or(""), right);
  if (verdict.access == Access::kGranted) {
    call.caller.identity = std::make_shared<const TokenIdentity>(std::move(verdict.identity));
    return std::nullopt;
  }
  metrics_.refused("token");
  token_refused_.log({{"path", call.route->path_template},
                      {"peer", peer},
                      {"identity", std::string_view(verdict.identity.name)},
                      {"message", std::string_view(verdict.message)}});
  if (verdict.access == Access::kForbidden) return error_answer(403, verdict.message);
  if (verdict.access == Access::kTooMany) return error_answer(429, verdict.message);
  HttpAnswer answer = error_answer(401, verdict.message);
  answer.fields.emplace_back("WWW-Authenticate", "Bearer");
  return answer;
}

std::optional<HttpAnswer> HttpApi::check_content(const HttpHead& head, HttpCall& call) const {
  if (head.length && *head.length > body_limit(call))
    return error_answer(413, fmt::format("[http] the body has {} bytes, more than {}", *head.length, body_limit(call)));
  if (!call.route->post) return std::nullopt;
  if (const auto refusal = check_content_fields(head, call.infers(), call.json_bytes))
    return error_answer(refusal->status, "[http] " + refusal->text);
  return std::nullopt;
}

std::size_t HttpApi::body_limit(const HttpCall& call) const {
  if (call.infers()) return options_.body_bytes;
  return std::min(call.corrects() ? kMostCorrectionBody : kSmallBody, options_.body_bytes);
}

// ---- answers -------------------------------------------------------------------------------------------------------

HttpAnswer HttpApi::answer(const HttpCall& call, std::string_view body) const {
  try {
    return within_limit(made(call, body));
  } catch (...) {
    return answer_of_current_exception();
  }
}

HttpAnswer HttpApi::made(const HttpCall& call, std::string_view body) const {
  switch (call.route->action) {
    case HttpAction::kLive: {
      const bool live = service_.live();
      HttpAnswer answer = json_answer(json({{"live", live}}));
      answer.status = live ? 200 : 503;
      return answer;
    }
    case HttpAction::kReady:
      return ready_answer(ready_ && service_.ready());
    case HttpAction::kOpenapi:
      return json_answer(openapi_);
    case HttpAction::kMetrics:
      return {200, "text/plain; version=0.0.4; charset=utf-8", metrics_.text(), {}, false};
    case HttpAction::kServerMetadata:
      return json_answer(service_.server_metadata());
    case HttpAction::kModelMetadata:
      return json_answer(service_.model_metadata(call.model, call.version));
    case HttpAction::kModelReady:
      return model_ready_answer(call);
    case HttpAction::kStatistics:
    case HttpAction::kModelStatistics:
      return statistics_answer(call);
    case HttpAction::kIndex:
      return index_answer(call, body);
    case HttpAction::kLoad:
    case HttpAction::kUnload:
      return manage(call, body);
    case HttpAction::kInfer:
      fail(Code::kInternal, "[http] an inference has no answer of its own");
    default:
      return page_.answer(call, body);
  }
}

HttpAnswer HttpApi::ready_answer(bool ready) const {
  HttpAnswer answer = json_answer(json({{"ready", ready}}));
  answer.status = ready ? 200 : 503;
  if (!ready) answer.fields.emplace_back("Retry-After", "1");
  return answer;
}

HttpAnswer HttpApi::model_ready_answer(const HttpCall& call) const {
  const bool ready = service_.model_ready(call.model, call.version);
  HttpAnswer answer = ready_answer(ready);
  answer.body = json_answer(json({{"name", call.model}, {"ready", ready}})).body;
  return answer;
}

HttpAnswer HttpApi::statistics_answer(const HttpCall& call) const {
  json all = service_.statistics(call.model, call.version);
  if (const auto found = all.find("model_stats"); found != all.end()) keep_allowed(*found, call.caller);
  return json_answer(all);
}

HttpAnswer HttpApi::index_answer(const HttpCall& call, std::string_view body) const {
  const json request = read_small_body(body);
  const auto ready = request.find("ready");
  if (ready != request.end() && !ready->is_boolean())
    fail(Code::kInvalidArgument, "[http] ready: expected true or false, got {}", ready->type_name());
  json index = service_.repository_index(ready != request.end() && ready->get<bool>());
  keep_allowed(index, call.caller);
  return json_answer(index);
}

HttpAnswer HttpApi::manage(const HttpCall& call, std::string_view body) const {
  const json parameters = small_body_parameters(read_small_body(body));
  if (call.route->action == HttpAction::kUnload) {
    service_.unload(call.model);
  } else {
    for (const auto& [key, value] : parameters.items()) check_load_parameter(key);
    service_.load(call.model);
  }
  log_event(LogLevel::kInfo, call.route->action == HttpAction::kLoad ? "http.model_loaded" : "http.model_unloaded",
            {{"model", std::string_view(call.model)}, {"identity", call.caller.name()}});
  return {};
}

HttpAnswer HttpApi::within_limit(HttpAnswer answer) const {
  if (answer.body.size() <= options_.response_bytes) return answer;
  fail(Code::kExhausted, "[http] the answer has {} bytes, more than {}: ask for less", answer.body.size(),
       options_.response_bytes);
}

// ---- inference -----------------------------------------------------------------------------------------------------

InferenceRequest HttpApi::inference(const HttpCall& call, std::string_view body) const {
  InferenceRequest request = parse_infer_body(body, call.json_bytes, options_.inference);
  name_model(request, call.model, call.version);
  return request;
}

HttpAnswer HttpApi::inference_answer(const InferenceResult& result, const BinaryOutputs& binary) const {
  try {
    if (const auto* error = std::get_if<std::exception_ptr>(&result)) std::rethrow_exception(*error);
    const auto& response = std::get<InferenceResponse>(result);
    const std::size_t bytes = output_bytes(response);
    if (bytes > options_.response_bytes)
      fail(Code::kExhausted, "[http] the outputs have {} bytes, more than {}: send fewer rows or ask for fewer outputs",
           bytes, options_.response_bytes);
    InferBody body = write_infer_body(response, binary);
    HttpAnswer answer = json_answer(std::move(body.bytes));
    if (body.json_bytes) {
      answer.content_type = "application/octet-stream";
      answer.fields.emplace_back("Inference-Header-Content-Length", std::to_string(*body.json_bytes));
    }
    return within_limit(std::move(answer));
  } catch (...) {
    return answer_of_current_exception();
  }
}

}  // namespace recast
