#include "journal.h"

#include <fmt/format.h>

#include <initializer_list>
#include <limits>

namespace recast {
namespace {

/// A stage's name is a plug-in's choice, and these names become paths.
std::string harmless(std::string text) {
  constexpr std::string_view kKept = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
  for (char& c : text)
    if (kKept.find(c) == kKept.npos) c = '_';
  return text.empty() || text[0] == '.' ? "stage" + text : text;
}

/// JSON has no NaN: a figure that is none is null there.
double number(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = object.at(key);
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

/// Those of these keys that are numbers.
void add_numbers(std::vector<Figure>& figures, const char* group, const nlohmann::json& object,
                 std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (const auto found = object.find(key); found != object.end() && found->is_number())
      figures.push_back({fmt::format("{}/{}", group, key), found->get<double>()});
}

std::vector<Figure> run_figures(const nlohmann::json& results) {
  std::vector<Figure> figures;
  add_numbers(figures, "run", results, {"coefficients", "head_numbers", "stored_bytes", "seconds"});
  return figures;
}

}  // namespace

std::vector<Figure> epoch_figures(const EpochMetrics& metrics) {
  const std::string stage = harmless(metrics.stage);
  return {{stage + "/train_loss", metrics.train_loss},
          {stage + "/eval_loss", metrics.validation_loss},
          {stage + "/eval_top1", metrics.validation_top1},
          {stage + "/lr", metrics.rate},
          {stage + "/skipped_steps", static_cast<double>(metrics.skipped_steps)}};
}

std::vector<Figure> final_figures(const nlohmann::json& results) {
  std::vector<Figure> figures = run_figures(results);
  for (const char* split : {"validation", "test"}) {
    const auto found = results.find(split);
    if (found == results.end() || !found->is_object()) continue;
    for (const char* figure : {"top1", "top5", "loss"})
      figures.push_back({fmt::format("{}/{}", split, figure), number(*found, figure)});
  }
  return figures;
}

RunEnd end_of(const nlohmann::json& results) {
  return {{results.at("best_epoch"), final_figures(results)}, results.at("version"), results.at("fingerprint")};
}

Point stream_point(const nlohmann::json& step) {
  Point point{step.at("step"), {}};
  add_numbers(point.figures, "stream", step, {"classes", "validation_top1", "test_rows", "top1", "within", "alone"});
  for (const char* rows : {"new", "known"})
    point.figures.push_back({fmt::format("stream/{}_rows", rows), number(step.at("rows"), rows)});
  return point;
}

RunEnd stream_end(const nlohmann::json& results) {
  const nlohmann::json& last = results.at("steps").back();
  RunEnd end{{last.at("step"), run_figures(results)}, 0, results.at("fingerprint")};
  add_numbers(end.figures.figures, "stream", results,
              {"average", "last", "forgetting", "backward_transfer", "forward_transfer"});
  if (last.at("version").is_number()) end.version = last.at("version");
  return end;
}

std::vector<EpochMetrics> history_of(const nlohmann::json& results) {
  std::vector<EpochMetrics> history;
  for (const nlohmann::json& line : results.at("history"))
    history.push_back({.stage = line.at("stage"),
                       .epoch = line.at("epoch"),
                       .train_loss = number(line, "train_loss"),
                       .validation_loss = number(line, "eval_loss"),
                       .validation_top1 = number(line, "eval_top1"),
                       .rate = number(line, "lr"),
                       .seconds = number(line, "seconds"),
                       .skipped_steps = line.at("skipped_steps")});
  return history;
}

}  // namespace recast
