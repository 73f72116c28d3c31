#include "http_page.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "http_api.h"
#include "http_content.h"
#include "http_query.h"
#include "page_files.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using nlohmann::json;

/// Nothing from elsewhere, nothing inline, no frame around it, and no text that becomes markup.
constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

HttpAnswer file_answer(std::string_view media_type, std::string_view content) {
  HttpAnswer answer{200, std::string(media_type), std::string(content), {}, false};
  answer.fields.emplace_back("Content-Security-Policy", kPolicy);
  answer.fields.emplace_back("Referrer-Policy", "no-referrer");
  return answer;
}

bool may(const Caller& caller, Right right) {
  return !caller.identity ||
         std::ranges::any_of(caller.identity->roles, [&](Role role) { return grants(role, right); });
}

std::int64_t limit_of(const std::string& text) {
  std::int64_t limit = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error != std::errc() || end != text.data() + text.size())
    fail(Code::kInvalidArgument, "[http] limit: '{}'; expected a number from 1 to {}", printable(text),
         TaskQuery::kMostTasks);
  return limit;
}

/// A slip of the pen would make a class of its own, which nobody sees before the next version has learned it.
void check_known(const CorrectionBody& correction, const std::vector<std::string>& labels, const std::string& task) {
  if (correction.new_label || std::ranges::find(labels, correction.label) != labels.end()) return;
  const std::string near = nearest(correction.label, labels);
  fail(Code::kInvalidArgument, "[http] label: '{}' is none of {}{}; new_label: true makes it one",
       printable(correction.label), task, near.empty() ? "" : ", did you mean '" + near + "'?");
}

}  // namespace

HttpPage::HttpPage(Service& service, const HttpOptions& options, bool tokens)
    : service_(service),
      tokens_(tokens),
      examples_(options.examples.empty() ? std::vector<PageExample>() : read_examples(options.examples)),
      corrections_(options.corrections.empty()
                       ? nullptr
                       : std::make_unique<CorrectionFolder>(options.corrections, options.correction_limits)) {}

HttpAnswer HttpPage::answer(const HttpCall& call, std::string_view body) const {
  switch (call.route->action) {
    case HttpAction::kPage:
      return file_answer("text/html; charset=utf-8", kPageHtml);
    case HttpAction::kPageStyle:
      return file_answer("text/css; charset=utf-8", kPageStyle);
    case HttpAction::kPageScript:
      return file_answer("text/javascript; charset=utf-8", kPageScript);
    case HttpAction::kPageSettings:
      return settings(call);
    case HttpAction::kTasks:
      return tasks(call);
    case HttpAction::kTask:
      return json_answer(service_.task(call.model));
    case HttpAction::kExample:
      return example(call);
    case HttpAction::kCorrect:
      return correct(call, body);
    default:
      fail(Code::kInternal, "[http] {} is not of the page", call.route->path_template);
  }
}

HttpAnswer HttpPage::settings(const HttpCall& call) const {
  const bool infer = may(call.caller, Right::kInfer);
  json examples = json::array();
  if (infer)
    for (const PageExample& image : examples_) examples.push_back(image.name);
  return json_answer(json{{"version", service_.server_metadata().at("version")},
                          {"tokens", tokens_},
                          {"caller", tokens_ ? json(call.caller.name()) : json()},
                          {"may",
                           {{"infer", infer},
                            {"read", may(call.caller, Right::kRead)},
                            {"correct", takes_corrections() && may(call.caller, Right::kManage)}}},
                          {"image_bytes", kMostImageBytes},
                          {"examples", examples}});
}

HttpAnswer HttpPage::tasks(const HttpCall& call) const {
  TaskQuery query{.may_use = call.caller.rule()};
  for (auto& [name, value] : parse_query(call.query, {"after", "search", "limit"})) {
    if (name == "limit")
      query.limit = limit_of(value);
    else
      (name == "after" ? query.after : query.search) = std::move(value);
  }
  return json_answer(service_.tasks(query));
}

HttpAnswer HttpPage::example(const HttpCall& call) const {
  const auto found = std::ranges::find(examples_, call.example, &PageExample::name);
  if (found == examples_.end()) fail(Code::kNotFound, "[http] no example '{}'", printable(call.example));
  return {200, std::string(found->media_type), found->bytes, {}, false};
}

HttpAnswer HttpPage::correct(const HttpCall& call, std::string_view body) const {
  CorrectionBody correction = read_correction(body);
  const json task = service_.task(call.model, false);
  check_known(correction, task.at("labels").get<std::vector<std::string>>(), task.at("name"));
  const SavedCorrection saved = corrections_->save({.base = task.at("base"),
                                                    .task = task.at("task"),
                                                    .label = correction.label,
                                                    .image = std::move(correction.image)});
  log_event(LogLevel::kInfo, "http.corrected",
            {{"model", std::string_view(call.model)},
             {"label", std::string_view(correction.label)},
             {"file", std::string_view(saved.file)},
             {"identity", call.caller.name()}});
  return json_answer(json{{"file", saved.file},
                          {"label", correction.label},
                          {"images", saved.images},
                          {"moved_from", saved.moved_from.empty() ? json() : json(saved.moved_from)}});
}

}  // namespace recast
