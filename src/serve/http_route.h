#pragma once
#include <optional>
#include <string_view>

#include "recast/serve/token_table.h"

namespace recast {

enum class HttpAction {
  kLive,
  kReady,
  kOpenapi,
  kMetrics,
  kServerMetadata,
  kStatistics,
  kIndex,
  kLoad,
  kUnload,
  kModelMetadata,
  kModelReady,
  kModelStatistics,
  kInfer,
  // For the page for people:
  kPage,
  kPageStyle,
  kPageScript,
  kPageSettings,
  kTasks,
  kTask,
  kExample,
  kCorrect
};

/// One path. Names are as they stand in the URL, still percent-encoded.
struct HttpRoute {
  HttpAction action;
  std::optional<Right> right;      ///< what a caller needs; nothing: open to all
  bool post;                       ///< else GET and HEAD
  std::string_view path_template;  ///< "/v2/models/{model}/infer", for logs and metrics: few, whatever is asked for
  std::string_view model, version, example;  ///< views into the path; empty where the path has none

  std::string_view allow() const { return post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS"; }
  bool allows(std::string_view method) const { return post ? method == "POST" : method == "GET" || method == "HEAD"; }
};

/// The part of a target before its query; few paths have a query (http_query.h), and tokens in it do not count.
std::string_view path_of(std::string_view target);
std::optional<HttpRoute> find_route(std::string_view path);

}  // namespace recast
