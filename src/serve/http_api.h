#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "caller.h"
#include "http_answer.h"
#include "http_metrics.h"
#include "http_page.h"
#include "http_parser.h"
#include "http_route.h"
#include "rationed_event.h"
#include "recast/serve/http_server.h"
#include "recast/serve/infer_body.h"
#include "recast/serve/token_table.h"

namespace recast {

/// Of the tensors of an answer.
std::size_t output_bytes(const InferenceResponse& response);

/// One request that was let in, without its body.
struct HttpCall {
  std::string method;
  std::optional<HttpRoute> route;  ///< its views are gone: model and version are these, decoded
  std::string model, version, example;
  std::string query;                      ///< the target, of the paths that have one
  std::optional<std::size_t> json_bytes;  ///< Inference-Header-Content-Length
  Caller caller;

  std::string_view path_template() const { return route ? route->path_template : "other"; }
  bool infers() const { return route && route->action == HttpAction::kInfer; }
  /// Whether answering needs neither the store nor much time.
  bool immediate() const;
  bool corrects() const { return route && route->action == HttpAction::kCorrect; }
  /// Whether answering may take long: the answer grows with the number of tasks, or an image is decoded.
  bool takes_long() const;
};

/// What the paths mean: bytes in, answers out; no sockets. Threads: all calls in parallel.
class HttpApi {
 public:
  HttpApi(Service& service, const HttpOptions& options, HttpMetrics& metrics, TokenTable* tokens);

  /// From a header alone: fills `call`, or says why the body need not be read. `peer`: for the log. Never throws.
  std::optional<HttpAnswer> admit(const HttpHead& head, std::string_view peer, HttpCall& call) const;
  /// The most that the body of such a call may have.
  std::size_t body_limit(const HttpCall& call) const;

  /// All but inference. Never throws.
  HttpAnswer answer(const HttpCall& call, std::string_view body) const;

  /// Throws   as parse_infer_body() and name_model().
  InferenceRequest inference(const HttpCall& call, std::string_view body) const;
  /// Never throws.
  HttpAnswer inference_answer(const InferenceResult& result, const BinaryOutputs& binary) const;

  void not_ready() { ready_ = false; }

 private:
  std::optional<HttpAnswer> refuse_host(const HttpHead& head) const;
  std::optional<HttpAnswer> refuse_open_change(const HttpHead& head, const HttpCall& call) const;
  std::optional<HttpAnswer> authorise(const HttpHead& head, std::string_view peer, HttpCall& call) const;
  std::optional<HttpAnswer> check_content(const HttpHead& head, HttpCall& call) const;
  HttpAnswer made(const HttpCall& call, std::string_view body) const;
  HttpAnswer ready_answer(bool ready) const;
  HttpAnswer model_ready_answer(const HttpCall& call) const;
  HttpAnswer index_answer(const HttpCall& call, std::string_view body) const;
  HttpAnswer statistics_answer(const HttpCall& call) const;
  HttpAnswer manage(const HttpCall& call, std::string_view body) const;
  HttpAnswer within_limit(HttpAnswer answer) const;

  Service& service_;
  const HttpOptions& options_;
  HttpMetrics& metrics_;
  TokenTable* const tokens_;
  const std::vector<std::string> allowed_hosts_;
  const std::string openapi_;
  const HttpPage page_;
  mutable RationedEvent token_refused_{LogLevel::kWarn, "http.token_refused"};
  std::atomic<bool> ready_{true};
};

}  // namespace recast
