#include "http_route.h"

#include <array>

namespace recast {
namespace {

struct Entry {
  std::string_view path;
  HttpAction action;
  std::optional<Right> right;
  bool post;
};

/// The first that fits counts, so that "stats" in place of a model means all models.
constexpr std::array kPaths = {
    Entry{"/v2/health/live", HttpAction::kLive, std::nullopt, false},
    Entry{"/v2/health/ready", HttpAction::kReady, std::nullopt, false},
    Entry{"/metrics", HttpAction::kMetrics, Right::kRead, false},
    Entry{"/v2/openapi.json", HttpAction::kOpenapi, std::nullopt, false},
    Entry{"/v2", HttpAction::kServerMetadata, Right::kDescribe, false},
    Entry{"/v2/models/stats", HttpAction::kStatistics, Right::kRead, false},
    Entry{"/v2/repository/index", HttpAction::kIndex, Right::kRead, true},
    Entry{"/v2/repository/models/{model}/load", HttpAction::kLoad, Right::kManage, true},
    Entry{"/v2/repository/models/{model}/unload", HttpAction::kUnload, Right::kManage, true},
    Entry{"/v2/models/{model}", HttpAction::kModelMetadata, Right::kDescribe, false},
    Entry{"/v2/models/{model}/ready", HttpAction::kModelReady, Right::kDescribe, false},
    Entry{"/v2/models/{model}/stats", HttpAction::kModelStatistics, Right::kRead, false},
    Entry{"/v2/models/{model}/infer", HttpAction::kInfer, Right::kInfer, true},
    Entry{"/v2/models/{model}/versions/{version}", HttpAction::kModelMetadata, Right::kDescribe, false},
    Entry{"/v2/models/{model}/versions/{version}/ready", HttpAction::kModelReady, Right::kDescribe, false},
    Entry{"/v2/models/{model}/versions/{version}/stats", HttpAction::kModelStatistics, Right::kRead, false},
    Entry{"/v2/models/{model}/versions/{version}/infer", HttpAction::kInfer, Right::kInfer, true},
    Entry{"/", HttpAction::kPage, std::nullopt, false},
    Entry{"/recast/page.css", HttpAction::kPageStyle, std::nullopt, false},
    Entry{"/recast/page.js", HttpAction::kPageScript, std::nullopt, false},
    Entry{"/recast/v1", HttpAction::kPageSettings, Right::kDescribe, false},
    Entry{"/recast/v1/tasks", HttpAction::kTasks, Right::kRead, false},
    Entry{"/recast/v1/tasks/{model}", HttpAction::kTask, Right::kRead, false},
    Entry{"/recast/v1/tasks/{model}/corrections", HttpAction::kCorrect, Right::kManage, true},
    Entry{"/recast/v1/examples/{example}", HttpAction::kExample, Right::kInfer, false},
};

/// Takes the first segment, with its slash, off `path`.
std::string_view take_segment(std::string_view& path) {
  const std::size_t end = path.find('/', 1);
  const std::string_view segment = path.substr(0, end);
  path = end == path.npos ? std::string_view() : path.substr(end);
  return segment;
}

/// Where the name that stands at this segment of a pattern goes; null: the segment is no name.
std::string_view* name_at(std::string_view pattern, HttpRoute& route) {
  if (pattern == "/{model}") return &route.model;
  if (pattern == "/{version}") return &route.version;
  return pattern == "/{example}" ? &route.example : nullptr;
}

std::optional<HttpRoute> match(const Entry& entry, std::string_view path) {
  HttpRoute route{entry.action, entry.right, entry.post, entry.path, {}, {}, {}};
  std::string_view pattern = entry.path;
  while (!pattern.empty() && !path.empty()) {
    const std::string_view wanted = take_segment(pattern), got = take_segment(path);
    if (std::string_view* const name = name_at(wanted, route)) {
      if (got.size() < 2) return std::nullopt;
      *name = got.substr(1);
    } else if (wanted != got) {
      return std::nullopt;
    }
  }
  if (!pattern.empty() || !path.empty()) return std::nullopt;
  return route;
}

}  // namespace

std::string_view path_of(std::string_view target) { return target.substr(0, target.find('?')); }

std::optional<HttpRoute> find_route(std::string_view path) {
  if (path.empty() || path.front() != '/') return std::nullopt;
  for (const Entry& entry : kPaths)
    if (auto route = match(entry, path)) return route;
  return std::nullopt;
}

}  // namespace recast
