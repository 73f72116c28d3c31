#include "journal.h"

#include <fmt/format.h>

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
  std::vector<Figure> figures;
  for (const char* split : {"validation", "test"}) {
    const auto found = results.find(split);
    if (found == results.end() || !found->is_object()) continue;
    for (const char* figure : {"top1", "top5", "loss"})
      figures.push_back({fmt::format("{}/{}", split, figure), number(*found, figure)});
  }
  for (const char* figure : {"coefficients", "head_numbers", "stored_bytes", "seconds"})
    if (const auto found = results.find(figure); found != results.end() && found->is_number())
      figures.push_back({fmt::format("run/{}", figure), found->get<double>()});
  return figures;
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
