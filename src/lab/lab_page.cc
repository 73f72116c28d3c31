// The results of a lab as plots and as a page.
#include <algorithm>

#include "lab_results.h"
#include "recast/format/printable.h"
#include "run/report_markup.h"
#include "run/report_page.h"
#include "run/report_plots.h"

namespace recast {
namespace {
using nlohmann::json;

/// Rows that have figures, over a range of theirs.
ScatterPlot plot_of(const json& results, const PlotText& text, const std::string& x_axis, const char* range) {
  ScatterPlot plot{text, x_axis, "top-1, mean over all tasks", {}};
  for (const json& row : results.at("rows")) {
    const json& top1 = row.at("overall").at("top1");
    if (top1.is_null() || row.at(range).is_null()) continue;
    ScatterPlot::Point point{
        row.at("label"), row.at("group"), row[range].at("mean").get<double>(), top1.at("mean").get<double>(), {}, {}};
    if (const json& interval = top1.at("interval95"); !interval.is_null())
      point.low = interval[0].get<double>(), point.high = interval[1].get<double>();
    plot.points.push_back(std::move(point));
  }
  return plot;
}

std::string bytes_plot(const json& results) {
  return draw(plot_of(results, {"over-bytes", "Accuracy against stored bytes", "Values: the table"},
                      "bytes stored a task, with the head", "stored_bytes"));
}

std::string seconds_plot(const json& results) {
  return draw(plot_of(results, {"over-seconds", "Accuracy against time", "Values: the table"},
                      "seconds of learning a task", "seconds"));
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

std::string task_table(const json& results) {
  std::vector<HtmlTable::Column> columns = {{"what learns"}};
  for (const json& task : results.at("tasks")) columns.push_back({escape(task.at("task").get<std::string>()), true});
  const auto make = [&](const std::string& caption, const char* key, std::string (*cell)(const json&)) {
    HtmlTable table(caption, columns);
    for (const json& row : results.at("rows")) {
      std::vector<std::string> cells = {escape(row.at("label").get<std::string>())};
      for (const json& task : results.at("tasks")) {
        const auto own = row.at("tasks").find(task.at("task").get<std::string>());
        cells.push_back(own == row.at("tasks").end() ? "" : cell(own->at(key)));
      }
      table.add(std::move(cells));
    }
    return table.html();
  };
  return make("Top-1 of each task, mean and 95 % interval over seeds", "top1", share_cell) +
         make("Difference from the row's baseline, in points of accuracy, paired over seeds", "difference",
              difference_cell);
}

std::string cell_table(const json& results) {
  HtmlTable table("Every cell", {{"task"},
                                 {"recipe"},
                                 {"seed", true},
                                 {"state"},
                                 {"test top-1", true},
                                 {"validation", true},
                                 {"kept"},
                                 {"seconds", true}});
  const auto share = [](const json& value) { return value.is_null() ? "–" : percent_text(value.get<double>()); };
  for (const json& cell : results.at("cells"))
    table.add({escape(cell.at("task").get<std::string>()), escape(cell.at("recipe").get<std::string>()),
               cell.at("seed").dump(),
               with_small(escape(cell.at("state").get<std::string>()),
                          cell.at("error").is_null() ? "" : escape(cell["error"].get<std::string>())),
               share(cell.at("top1")), share(cell.at("validation_top1")),
               cell.at("kept").is_null() ? "–" : escape(cell["kept"].get<std::string>()),
               cell.at("learn_seconds").is_null() ? "–" : seconds_text(cell["learn_seconds"].get<double>())});
  return table.html();
}

std::string images_text(const json& task) {
  if (task.at("images").is_null()) return "not learned yet";
  const json& images = task["images"];
  return fmt::format("{} classes, {} / {} / {} images to learn from, validate and test, {} px", task["classes"].dump(),
                     count_text(images["train"].get<double>()), count_text(images["validation"].get<double>()),
                     count_text(images["test"].get<double>()), task["image_size"].dump());
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

}  // namespace

std::string plot_over_bytes(const json& results) { return svg_file(bytes_plot(results)); }
std::string plot_over_seconds(const json& results) { return svg_file(seconds_plot(results)); }

std::string lab_page(const json& results) {
  const std::string own = results.at("title").get<std::string>();
  const std::string title = own.empty() ? "recast lab" : "recast lab: " + own;
  std::string main = "<section id=\"all\"><h2>All tasks</h2>\n<div class=\"figures\">\n";
  main += figure(bytes_plot(results),
                 "Top-1 on test images over what a task stores, head included; bars: 95 % interval "
                 "over seeds.");
  main += figure(seconds_plot(results), "The same over the time that learning took.");
  main += "</div>\n" + overall_table(results);
  for (const json& note : results.at("notes"))
    main += "<p class=\"note\">" + escape(note.get<std::string>()) + "</p>\n";
  main += "</section>\n<section id=\"tasks\"><h2>Task by task</h2>\n" + task_table(results) + "</section>\n";
  main += "<section id=\"cells\"><h2>Cells</h2>\n" + folded("Every cell", cell_table(results)) + "</section>\n";
  return html_document(title, "<header><h1>" + escape(title) + "</h1></header>\n",
                       "<section id=\"what\"><h2>What was measured</h2>\n" + facts(results) + "</section>\n" + main,
                       results.at("finished_utc").get<std::string>());
}

}  // namespace recast
