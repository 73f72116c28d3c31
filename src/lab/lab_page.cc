// The results of a lab as plots and as a page.
#include <algorithm>
#include <array>

#include "lab_results.h"
#include "recast/format/printable.h"
#include "recast/lab/run_lab.h"
#include "run/report_markup.h"
#include "run/report_page.h"
#include "run/report_plots.h"

namespace recast {
namespace {
using nlohmann::json;

/// Rows that have figures, over a range of theirs: those of streams, or of tasks that are there at once.
ScatterPlot plot_of(const json& results, const PlotText& text, const std::array<std::string, 2>& axes,
                    const char* range, bool streams) {
  ScatterPlot plot{text, axes[0], axes[1], {}};
  for (const json& row : results.at("rows")) {
    const json& costs = streams ? row.at("streams") : row;
    if (costs.is_null()) continue;
    const json& figure = streams ? costs.at("average") : row.at("overall").at("top1");
    if (figure.is_null() || costs.at(range).is_null()) continue;
    ScatterPlot::Point point{row.at("label"),
                             row.at("group"),
                             costs[range].at("mean").get<double>(),
                             figure.at("mean").get<double>(),
                             {},
                             {}};
    if (const json& interval = figure.at("interval95"); !interval.is_null())
      point.low = interval[0].get<double>(), point.high = interval[1].get<double>();
    plot.points.push_back(std::move(point));
  }
  return plot;
}

constexpr const char* kTop1 = "top-1, mean over all tasks";
constexpr const char* kAverage = "average of top-1 over steps, mean over streams";

std::string bytes_plot(const json& results) {
  return draw(plot_of(results, {"over-bytes", "Accuracy against stored bytes", "Values: the table"},
                      {"bytes stored a task, with the head", kTop1}, "stored_bytes", false));
}

std::string seconds_plot(const json& results) {
  return draw(plot_of(results, {"over-seconds", "Accuracy against time", "Values: the table"},
                      {"seconds of learning a task", kTop1}, "seconds", false));
}

std::string stream_bytes_plot(const json& results) {
  return draw(plot_of(results, {"streams-over-bytes", "Streams: accuracy against stored bytes", "Values: the table"},
                      {"bytes stored after the last step", kAverage}, "stored_bytes", true));
}

std::string stream_seconds_plot(const json& results) {
  return draw(plot_of(results, {"streams-over-seconds", "Streams: accuracy against time", "Values: the table"},
                      {"seconds of learning all steps", kAverage}, "seconds", true));
}

/// Top-1 after each step of a stream, six rows a plot.
std::vector<std::string> curve_plots(const json& results, const std::string& task) {
  constexpr std::size_t kMostLines = 6;
  std::vector<LinePlot::Line> lines;
  for (const json& row : results.at("rows")) {
    const auto own = row.at("tasks").find(task);
    if (own == row.at("tasks").end()) continue;
    const json& curve = own->at("stream").at("curve");
    if (curve.is_null() || curve.size() < 2) continue;
    LinePlot::Line line{row.at("label"), {}};
    for (const json& step : curve)
      line.points.emplace_back(step.at("classes").get<double>(), step.at("top1").get<double>());
    lines.push_back(std::move(line));
  }
  std::vector<std::string> plots;
  for (std::size_t first = 0; first < lines.size(); first += kMostLines) {
    const auto begin = lines.begin() + static_cast<std::ptrdiff_t>(first);
    const auto count = static_cast<std::ptrdiff_t>(std::min(kMostLines, lines.size() - first));
    plots.push_back(draw(
        LinePlot{{fmt::format("curve-{}-{}", task, first), task + ": top-1 after each step", "Values: results.json"},
                 "classes seen",
                 "top-1 on all of them",
                 {begin, begin + count}}));
  }
  return plots;
}

/// With what lies beneath it in small.
std::string with_small(const std::string& text, const std::string& small) {
  return small.empty() ? text : text + "<small>" + small + "</small>";
}

std::string share_cell(const json& spread) {
  if (spread.is_null()) return "–";
  const json& interval = spread.at("interval95");
  return with_small(percent_text(spread.at("mean").get<double>()),
                    interval.is_null() ? ""
                                       : fmt::format("{:.1f} to {:.1f}", 100 * interval[0].get<double>(),
                                                     100 * interval[1].get<double>()));
}

std::string difference_cell(const json& difference) {
  if (difference.is_null()) return "–";
  const json &interval = difference.at("interval95"), &p = difference.at("p");
  std::string small = fmt::format("{} pairs", difference.at("values").size());
  if (!interval.is_null())
    small += fmt::format(", {:+.1f} to {:+.1f}", 100 * interval[0].get<double>(), 100 * interval[1].get<double>());
  if (!p.is_null()) small += fmt::format(", p = {:.2g}", p.get<double>());
  return with_small(fmt::format("{:+.1f}", 100 * difference.at("mean").get<double>()), small);
}

std::string label_cell(const json& row) {
  std::string plugs;
  for (const json& plug : row.at("plugs")) plugs += (plugs.empty() ? "" : " + ") + plug.get<std::string>();
  return with_small(escape(row.at("label").get<std::string>()),
                    escape(plugs + " on " + row.at("model").get<std::string>()));
}

std::string overall_table(const json& results) {
  HtmlTable table(
      "All tasks. Mean of top-1 over tasks; 95 % interval over seeds (Student's t). Difference in points of "
      "accuracy, paired over tasks and seeds; p of the paired t test",
      {{"what learns"},
       {"numbers", true},
       {"stored", true},
       {"seconds", true},
       {"top-1", true},
       {"less"},
       {"difference", true}});
  for (const json& row : results.at("rows"))
    table.add({label_cell(row), range_text(row.at("coefficients"), false), range_text(row.at("stored_bytes"), true),
               row.at("seconds").is_null() ? "–" : seconds_text(row["seconds"]["mean"].get<double>()),
               share_cell(row.at("overall").at("top1")),
               row.at("baseline").is_null() ? "" : escape(row["baseline"].get<std::string>()),
               row.at("baseline").is_null() ? "" : difference_cell(row.at("overall").at("difference"))});
  return table.html();
}

/// A row for each way to learn, a column for each task of a scenario. `key`: of the task's entry, or of its stream's.
std::string figure_table(const json& results, const char* scenario, const std::string& caption, const char* key,
                         std::string (*cell)(const json&)) {
  std::vector<std::string> tasks;
  for (const json& task : results.at("tasks"))
    if (task.at("scenario") == scenario) tasks.push_back(task.at("task"));
  std::vector<HtmlTable::Column> columns = {{"what learns"}};
  for (const std::string& task : tasks) columns.push_back({escape(task), true});
  HtmlTable table(caption, columns);
  for (const json& row : results.at("rows")) {
    std::vector<std::string> cells = {escape(row.at("label").get<std::string>())};
    for (const std::string& task : tasks) {
      const auto own = row.at("tasks").find(task);
      const bool there = own != row.at("tasks").end();
      cells.push_back(!there ? "" : cell(own->contains(key) ? own->at(key) : own->at("stream").at(key)));
    }
    table.add(std::move(cells));
  }
  return table.html();
}

std::string task_table(const json& results) {
  return figure_table(results, "task", "Top-1 of each task, mean and 95 % interval over seeds", "top1", share_cell) +
         figure_table(results, "task", "Difference from the row's baseline, in points of accuracy, paired over seeds",
                      "difference", difference_cell);
}

std::string stream_table(const json& results) {
  const auto table = [&](const std::string& caption, const char* key, std::string (*cell)(const json&)) {
    return figure_table(results, "class-il", caption, key, cell);
  };
  const std::string gap = ": difference from the row's baseline, in points of accuracy, paired over seeds";
  return table("Average of top-1 over the steps, mean and 95 % interval over seeds", "average", share_cell) +
         table("Average" + gap, "average_difference", difference_cell) +
         table("Last: top-1 after the last step, on all classes", "top1", share_cell) +
         table("Last" + gap, "difference", difference_cell) + table("Forgetting", "forgetting", share_cell) +
         table("Backward transfer", "backward_transfer", share_cell) +
         table("Forward transfer", "forward_transfer", share_cell);
}

std::string streams_table(const json& results) {
  HtmlTable table(
      "All streams. Means over streams; 95 % interval over seeds (Student's t). Differences in points of accuracy, "
      "paired over streams and seeds, not over images; p of the paired t test",
      {{"what learns"},
       {"stored", true},
       {"seconds", true},
       {"average", true},
       {"last", true},
       {"less"},
       {"difference of average", true},
       {"difference of last", true}});
  for (const json& row : results.at("rows")) {
    const json& all = row.at("streams");
    if (all.is_null()) continue;
    const bool compared = !row.at("baseline").is_null();
    table.add({label_cell(row), range_text(all.at("stored_bytes"), true),
               all.at("seconds").is_null() ? "–" : seconds_text(all["seconds"]["mean"].get<double>()),
               share_cell(all.at("average")), share_cell(all.at("top1")),
               compared ? escape(row["baseline"].get<std::string>()) : "",
               compared ? difference_cell(all.at("average_difference")) : "",
               compared ? difference_cell(all.at("difference")) : ""});
  }
  return table.html();
}

std::string cell_table(const json& results) {
  HtmlTable table("Every cell", {{"task"},
                                 {"recipe"},
                                 {"seed", true},
                                 {"state"},
                                 {"test top-1", true},
                                 {"average", true},
                                 {"validation", true},
                                 {"kept"},
                                 {"seconds", true}});
  const auto share = [](const json& value) { return value.is_null() ? "–" : percent_text(value.get<double>()); };
  for (const json& cell : results.at("cells"))
    table.add({escape(cell.at("task").get<std::string>()), escape(cell.at("recipe").get<std::string>()),
               cell.at("seed").dump(),
               with_small(escape(cell.at("state").get<std::string>()),
                          cell.at("error").is_null() ? "" : escape(cell["error"].get<std::string>())),
               share(cell.at("top1")), share(cell.at("average")), share(cell.at("validation_top1")),
               cell.at("kept").is_null() ? "–" : escape(cell["kept"].get<std::string>()),
               cell.at("learn_seconds").is_null() ? "–" : seconds_text(cell["learn_seconds"].get<double>())});
  return table.html();
}

std::string stream_text(const json& stream) {
  const json& seed = stream.at("class_seed");
  return fmt::format("; {} stream of {} classes, then {} a step, in the order of {}",
                     stream.at("kind").get<std::string>(), stream.at("base").dump(), stream.at("increment").dump(),
                     seed.is_string() ? "the seed" : "seed " + seed.dump());
}

std::string images_text(const json& task) {
  if (task.at("images").is_null()) return "not learned yet";
  const json& images = task["images"];
  return fmt::format("{} classes, {} / {} / {} images to learn from, validate and test, {} px{}",
                     task["classes"].dump(), count_text(images["train"].get<double>()),
                     count_text(images["validation"].get<double>()), count_text(images["test"].get<double>()),
                     task["image_size"].dump(), task.at("stream").is_null() ? "" : stream_text(task["stream"]));
}

std::string facts(const json& results) {
  std::string out = "<dl>";
  for (const json& task : results.at("tasks"))
    out += definition(task.at("task").get<std::string>(), escape(images_text(task)));
  std::string seeds;
  for (const json& seed : results.at("seeds")) seeds += (seeds.empty() ? "" : ", ") + seed.dump();
  const json& counts = results.at("counts");
  out += definition("Seeds", seeds);
  out +=
      definition("Cells", fmt::format("{}: {} done, {} failed, {} left", counts.at("cells").dump(),
                                      counts.at("done").dump(), counts.at("failed").dump(), counts.at("left").dump()));
  out += definition("Lab file", "<code>" + escape(results.at("file").get<std::string>()) + "</code>");
  out += definition("Command", "<code>" + escape(results.at("command").get<std::string>()) + "</code>");
  return out + "</dl>\n";
}

std::string tasks_part(const json& results) {
  std::string part = "<section id=\"all\"><h2>All tasks</h2>\n<div class=\"figures\">\n";
  part += figure(bytes_plot(results),
                 "Top-1 on test images over what a task stores, head included; bars: 95 % interval "
                 "over seeds.");
  part += figure(seconds_plot(results), "The same over the time that learning took.");
  part += "</div>\n" + overall_table(results) + "</section>\n";
  return part + "<section id=\"tasks\"><h2>Task by task</h2>\n" + task_table(results) + "</section>\n";
}

std::string streams_part(const json& results) {
  std::string part = "<section id=\"streams\"><h2>Streams of classes</h2>\n<div class=\"figures\">\n";
  part += figure(stream_bytes_plot(results),
                 "Average of top-1 over the steps, over what is stored after the last one; bars: 95 % interval over "
                 "seeds.");
  part += figure(stream_seconds_plot(results), "The same over the time that learning all steps took.");
  for (const json& task : results.at("tasks"))
    if (task.at("scenario") == "class-il")
      for (const std::string& plot : curve_plots(results, task.at("task")))
        part += figure(plot, escape(task["task"].get<std::string>()) +
                                 ": top-1 on the test images of all classes seen so far, mean over seeds.");
  part += "</div>\n" + streams_table(results) + "</section>\n";
  return part + "<section id=\"each-stream\"><h2>Stream by stream</h2>\n" + stream_table(results) + "</section>\n";
}

}  // namespace

std::string plot_over_bytes(const json& results) { return svg_file(bytes_plot(results)); }
std::string plot_over_seconds(const json& results) { return svg_file(seconds_plot(results)); }
std::string plot_streams_over_bytes(const json& results) { return svg_file(stream_bytes_plot(results)); }
std::string plot_streams_over_seconds(const json& results) { return svg_file(stream_seconds_plot(results)); }

std::string lab_page(const json& results) {
  const std::string own = results.at("title").get<std::string>();
  const std::string title = own.empty() ? "recast lab" : "recast lab: " + own;
  std::string main;
  for (const json& note : results.at("notes"))
    main += "<p class=\"note\">" + escape(note.get<std::string>()) + "</p>\n";
  if (has_scenario(results, "task")) main += tasks_part(results);
  if (has_scenario(results, "class-il")) main += streams_part(results);
  main += "<section id=\"cells\"><h2>Cells</h2>\n" + folded("Every cell", cell_table(results)) + "</section>\n";
  return html_document(title, "<header><h1>" + escape(title) + "</h1></header>\n",
                       "<section id=\"what\"><h2>What was measured</h2>\n" + facts(results) + "</section>\n" + main,
                       results.at("finished_utc").get<std::string>());
}

}  // namespace recast
