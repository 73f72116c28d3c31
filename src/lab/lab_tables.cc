// The results of a lab as CSV and as a table of Markdown.
#include <fmt/ranges.h>

#include <algorithm>

#include "lab_results.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/lab/run_lab.h"
#include "run/report_markup.h"

namespace recast {
namespace {
using nlohmann::json;

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string csv_value(const json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? csv_field(value.get<std::string>()) : value.dump();
}

/// Half of the 95 % interval, or nothing.
std::string half_text(const json& spread) {
  const json& interval = spread.at("interval95");
  if (interval.is_null()) return "";
  // An interval of shares ends at 0 and 1: the longer side is the half.
  const double mean = spread.at("mean").get<double>();
  return fmt::format(" ± {:.4f}", std::max(interval[1].get<double>() - mean, mean - interval[0].get<double>()));
}

/// A cell of a Markdown table.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? "\\|" : c == '<' ? "&lt;" : std::string(1, c);
  return out;
}

std::string line(const std::vector<std::string>& cells) { return fmt::format("| {} |\n", fmt::join(cells, " | ")); }

std::string p_text(const json& difference) {
  return difference.is_null() || difference.at("p").is_null() ? "-"
                                                              : fmt::format("{:.2g}", difference["p"].get<double>());
}

/// A table of Markdown.
class Rows {
 public:
  explicit Rows(const std::vector<std::string>& head) : text_(line(head) + "|") {
    for (std::size_t i = 0; i < head.size(); ++i) text_ += "---|";
    text_ += "\n";
  }
  void add(const std::vector<std::string>& cells) { text_ += line(cells); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string label_of(const json& row) { return plain(printable(row.at("label").get<std::string>(), 200)); }
std::string seconds_text(const json& costs) {
  return costs.at("seconds").is_null() ? "-" : fmt::format("{:.1f}", costs["seconds"]["mean"].get<double>());
}

std::string tasks_markdown(const json& results) {
  std::vector<std::string> head = {"what learns", "numbers", "stored"};
  for (const json& task : results.at("tasks"))
    if (task.at("scenario") == "task") head.push_back(task.at("task"));
  head.insert(head.end(), {"all tasks", "less", "difference", "p", "seconds"});
  Rows table(head);
  for (const json& row : results.at("rows")) {
    std::vector<std::string> cells = {label_of(row), range_text(row.at("coefficients"), false),
                                      range_text(row.at("stored_bytes"), true)};
    for (const json& task : results.at("tasks")) {
      if (task.at("scenario") != "task") continue;
      const auto own = row.at("tasks").find(task.at("task").get<std::string>());
      cells.push_back(own == row.at("tasks").end() ? "" : share_text(own->at("top1")));
    }
    const json& overall = row.at("overall");
    const bool compared = !row.at("baseline").is_null();
    cells.push_back(share_text(overall.at("top1")));
    cells.push_back(compared ? row["baseline"].get<std::string>() : "");
    cells.push_back(compared ? difference_text(overall.at("difference")) : "");
    cells.push_back(compared ? p_text(overall.at("difference")) : "");
    cells.push_back(seconds_text(row));
    table.add(cells);
  }
  return table.text() +
         fmt::format(
             "\nTop-1 on test images, mean over {} seeds, ± half of its 95 % interval (Student's t); all tasks: over "
             "seeds of the mean over tasks. Numbers: trained beside the head; stored: with the head. Difference: from "
             "the row named, paired over tasks and seeds, with its 95 % interval and p of the paired t test. Seconds: "
             "of learning a task, mean.\n",
             results.at("seeds").size());
}

std::string streams_markdown(const json& results) {
  std::vector<std::string> head = {"what learns", "stored"};
  for (const json& task : results.at("tasks")) {
    if (task.at("scenario") != "class-il") continue;
    for (const char* figure : {"average", "last"}) head.push_back(task.at("task").get<std::string>() + ", " + figure);
  }
  head.insert(head.end(), {"all streams, average", "all streams, last", "less", "difference of average", "p",
                           "difference of last", "p", "seconds"});
  Rows table(head);
  for (const json& row : results.at("rows")) {
    const json& all = row.at("streams");
    if (all.is_null()) continue;
    std::vector<std::string> cells = {label_of(row), range_text(all.at("stored_bytes"), true)};
    for (const json& task : results.at("tasks")) {
      if (task.at("scenario") != "class-il") continue;
      const auto own = row.at("tasks").find(task.at("task").get<std::string>());
      const bool there = own != row.at("tasks").end();
      cells.push_back(there ? share_text(own->at("stream").at("average")) : "");
      cells.push_back(there ? share_text(own->at("top1")) : "");
    }
    cells.push_back(share_text(all.at("average")));
    cells.push_back(share_text(all.at("top1")));
    const bool compared = !row.at("baseline").is_null();
    cells.push_back(compared ? row["baseline"].get<std::string>() : "");
    for (const char* gap : {"average_difference", "difference"}) {
      cells.push_back(compared ? difference_text(all.at(gap)) : "");
      cells.push_back(compared ? p_text(all.at(gap)) : "");
    }
    cells.push_back(seconds_text(all));
    table.add(cells);
  }
  return table.text() +
         fmt::format(
             "\nClasses that come step by step, one head, no task id. Average: of top-1 over the steps; last: "
             "after the last step, on all classes; mean over {} seeds, ± half of its 95 % interval (Student's "
             "t). Differences: from the row named, paired over streams and seeds (not over images), with 95 % "
             "interval and p of the paired t test. Stored: after the last step; seconds: of learning all steps, "
             "mean.\n",
             results.at("seeds").size());
}

}  // namespace

std::string share_text(const json& spread) {
  return spread.is_null() ? "-" : fmt::format("{:.4f}{}", spread.at("mean").get<double>(), half_text(spread));
}

std::string difference_text(const json& difference) {
  if (difference.is_null()) return "-";
  return fmt::format("{:+.4f}{}", difference.at("mean").get<double>(), half_text(difference));
}

std::string range_text(const json& range, bool bytes) {
  if (range.is_null()) return "-";
  const auto text = [&](const char* key) {
    const double value = range.at(key).get<double>();
    return bytes ? size_text(value) : count_text(value);
  };
  return range.at("least") == range.at("most") ? text("least") : text("least") + " to " + text("most");
}

std::string lab_csv(const json& results) {
  const std::vector<std::string> keys = {"task",
                                         "recipe",
                                         "seed",
                                         "state",
                                         "top1",
                                         "top5",
                                         "loss",
                                         "rows",
                                         "validation_top1",
                                         "kept",
                                         "coefficients",
                                         "head_numbers",
                                         "stored_bytes",
                                         "shared_bytes",
                                         "learn_seconds",
                                         "eval_seconds",
                                         "test_amp",
                                         "scenario",
                                         "average",
                                         "last",
                                         "forgetting",
                                         "backward_transfer",
                                         "forward_transfer",
                                         "error"};
  std::string out = fmt::format("{}\n", fmt::join(keys, ","));
  for (const json& cell : results.at("cells")) {
    std::vector<std::string> fields;
    for (const std::string& key : keys) fields.push_back(csv_value(cell.at(key)));
    out += fmt::format("{}\n", fmt::join(fields, ","));
  }
  return out;
}

std::string lab_markdown(const json& results) {
  std::string out;
  if (has_scenario(results, "task")) out += tasks_markdown(results);
  if (has_scenario(results, "class-il")) out += (out.empty() ? "" : "\n") + streams_markdown(results);
  const json& counts = results.at("counts");
  out += fmt::format("\n{} of {} cells done, {} failed.\n", counts.at("done").dump(), counts.at("cells").dump(),
                     counts.at("failed").dump());
  for (const json& note : results.at("notes")) out += "\nNote: " + printable(note.get<std::string>(), 2000) + "\n";
  return out;
}

}  // namespace recast
