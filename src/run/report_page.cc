#include "report_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "recast/base/statistics.h"
#include "recast/data/dataset.h"
#include "recast/format/printable.h"
#include "recast/run/machine.h"
#include "report_markup.h"
#include "report_plots.h"

namespace recast {
namespace {

// Two hues that colour-blind readers tell apart; every mark differs in shape or text as well.
constexpr const char* kStyle = R"css(
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#57606a;--rule:#d8dee4;--panel:#f6f8fa;--a:#b35900;--b:#0b62a8;
--wrong:#b3261e;--hot:#fff;--link:#0b62a8}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e9ed;--soft:#a3acb8;--rule:#333a43;--panel:#1c2127;--a:#f0a34a;
--b:#62b2f0;--wrong:#ff8a80;--hot:#0d1117;--link:#8ac6ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:1.5rem 1rem 4rem;background:var(--bg);color:var(--fg);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.8rem;line-height:1.2;margin:.5rem 0}h2{font-size:1.35rem;margin:2.5rem 0 .75rem;padding-top:1rem;
border-top:1px solid var(--rule)}h3{font-size:1.05rem;margin:1.75rem 0 .5rem}
a{color:var(--link)}a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:3px solid var(--b);outline-offset:2px}
.skip{position:absolute;left:-99rem}.skip:focus{position:static}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;padding:0;margin:.75rem 0}
.lead{font-size:1.1rem;max-width:46rem}.note{border-left:4px solid var(--a);background:var(--panel);padding:.5rem .75rem;max-width:46rem}
dl{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.3rem 1.25rem;margin:.75rem 0}
dt{color:var(--soft)}dd{margin:0}code{font:.875em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--panel);
padding:.1em .3em;border-radius:3px}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9375rem;overflow-wrap:normal}
caption{text-align:left;color:var(--soft);padding:.25rem 0;font-size:.875rem}
th,td{padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}
thead th{font-weight:600;color:var(--soft);font-size:.8125rem;vertical-align:bottom}tbody th{font-weight:600}.n{text-align:right;white-space:nowrap}tbody th{min-width:7rem}
td small,tbody th small{display:block;color:var(--soft);font-weight:400}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));gap:1rem 2rem;align-items:start}
figure{margin:.5rem 0}figcaption{font-size:.875rem;color:var(--soft);max-width:34rem}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--link);font-size:.9rem}
.examples{display:grid;grid-template-columns:repeat(auto-fill,minmax(7.5rem,1fr));gap:1rem;list-style:none;padding:0;margin:.75rem 0}
.examples li{display:flex;flex-direction:column;font-size:.875rem;line-height:1.35}
.examples img{width:112px;height:112px;border:1px solid var(--rule);border-radius:4px;margin-bottom:.25rem;image-rendering:auto}
.wrong img{border:3px solid var(--wrong)}.verdict{font-weight:600}.wrong .verdict{color:var(--wrong)}.sure,.truth{color:var(--soft)}
svg{display:block;width:100%;height:auto;font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;fill:var(--fg)}
.scroll>svg{width:auto;min-width:22rem}
.tick,.label{fill:var(--soft)}.value{font-variant-numeric:tabular-nums}.strong{fill:var(--fg);font-weight:600}
.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}.frame{fill:none;stroke:var(--rule)}
.line{fill:none;stroke-width:2}.line.a{stroke:var(--a);stroke-dasharray:5 3}.line.b{stroke:var(--b)}
.line.c{stroke:var(--soft);stroke-dasharray:2 3}.point.c{fill:var(--soft)}
.point.a{fill:var(--bg);stroke:var(--a);stroke-width:2}.point.b{fill:var(--b)}.key.a{fill:var(--a)}.key.b{fill:var(--b)}
.ring{fill:none;stroke:var(--fg);stroke-width:2}.bar,.heat{fill:var(--b)}.range{stroke:var(--fg);stroke-width:1.5}.halo{stroke:var(--bg);stroke-width:4}
.mark{fill:var(--bg);stroke:var(--a);stroke-width:2}.cell{font-size:11px;fill:var(--fg)}.cell.hot{fill:var(--hot)}
footer{margin-top:3rem;color:var(--soft);font-size:.875rem}
@media (max-width:34rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}h1{font-size:1.5rem}}
@media print{body{max-width:none}details{display:none}}
)css";

std::optional<double> coefficients_of(const TaskFacts& task) {
  const auto recorded = number_at(task.metrics, {"coefficients"});
  return recorded ? recorded : number_at(task.counts, {"coefficients"});
}
std::optional<double> bytes_of(const TaskFacts& task) {
  const auto recorded = number_at(task.metrics, {"stored_bytes"});
  return recorded ? recorded : number_at(task.counts, {"stored_bytes"});
}

const TaskFacts* find_task(const ReportFacts& facts, const std::string& name) {
  for (const TaskFacts& task : facts.tasks)
    if (task.record.name == name) return &task;
  return nullptr;
}

/// Test accuracy of the head alone on the same images, where a task measured it.
std::optional<double> head_alone_test(const TaskFacts& task, const ReportFacts& facts) {
  const TaskFacts* other = task.head_alone.empty() ? nullptr : find_task(facts, task.head_alone);
  return other ? number_at(other->metrics, {"test", "top1"}) : std::nullopt;
}

/// Nothing where a record, which may hold anything, gives no share of a number of images.
std::optional<Interval> interval(const std::optional<double>& share, const std::optional<double>& rows) {
  if (!share || !rows || !(*rows >= 1 && *share >= 0 && *share <= 1)) return {};
  return share_interval(*share, *rows);
}

// ---- the model -----------------------------------------------------------------------------------------------------

std::string model_summary(const ReportFacts& facts) {
  const nlohmann::json& model = facts.model;
  const nlohmann::json config = model.value("config", nlohmann::json::object());
  std::string out = "<section id=\"model\" aria-labelledby=\"model-h\"><h2 id=\"model-h\">The model</h2>\n<dl>";
  out += definition("Directory", "<code>" + escape(text_at(model, "directory")) + "</code>");
  out += definition("Architecture", escape(text_at(config, "architecture")));
  if (const auto parameters = number_at(model, {"parameters"}))
    out += definition("Parameters", count_text(*parameters) + ", frozen");
  if (const auto width = number_at(model, {"feature_width"}))
    out += definition("Features", count_text(*width) + " an image");
  const auto& groups = model["groups"];
  if (groups.empty()) {
    out += definition("Templates", "none: no weight was turned into templates");
  } else {
    std::size_t slots = 0;
    for (const auto& group : groups) slots += group["slots"].size();
    out += definition("Templates", fmt::format("{} weights in {} banks of {} templates each", slots, groups.size(),
                                               groups[0]["templates"].get<std::int64_t>()));
    if (const auto count = number_at(model, {"coefficients"}))
      out += definition("Coefficients", count_text(*count) + " a task, at one vector a weight and set");
  }
  const nlohmann::json& bytes = model["bytes"];
  out += definition("Size", fmt::format("backbone {}, banks {}, all tasks together {}",
                                        size_text(number_at(bytes, {"backbone"}).value_or(0)),
                                        size_text(number_at(bytes, {"bank"}).value_or(0)),
                                        size_text(number_at(bytes, {"tasks"}).value_or(0))));
  out += definition("Fingerprint", "<code>" + escape(text_at(model, "fingerprint")) + "</code>");
  out += "</dl>\n";
  if (!groups.empty()) {
    HtmlTable table("Banks", {{"bank"}, {"weights"}, {"shape"}, {"templates", true}, {"size", true}});
    for (const auto& group : groups) {
      std::string slots;
      for (const auto& slot : group["slots"]) slots += (slots.empty() ? "" : ", ") + escape(slot.get<std::string>());
      table.add({escape(group["name"].get<std::string>()), slots, escape(group["shape"].dump()),
                 std::to_string(group["templates"].get<std::int64_t>()), size_text(group["bytes"].get<double>())});
    }
    out += folded("Every bank", table.html());
  }
  return out + "</section>\n";
}

// ---- all tasks -----------------------------------------------------------------------------------------------------

std::string images_text(const TaskFacts& task) {
  std::string out;
  for (const char* split : {"train", "validation", "test"})
    if (const auto count = number_at(task.metrics, {"images", split}))
      out += (out.empty() ? "" : " / ") + count_text(*count);
  return out.empty() ? "–" : out;
}

std::string test_text(const TaskFacts& task) {
  const auto top1 = number_at(task.metrics, {"test", "top1"});
  if (!top1) return "–";
  std::string out = percent_text(*top1);
  if (const auto range = interval(top1, number_at(task.metrics, {"test", "rows"})))
    out += fmt::format("<small>{:.1f} to {:.1f}</small>", 100 * range->low, 100 * range->high);
  return out;
}

std::string head_text(const TaskFacts& task, const ReportFacts& facts) {
  if (task.head_only()) return "itself";
  if (const auto test = head_alone_test(task, facts))
    return percent_text(*test) + "<small>task " + escape(task.head_alone) + "</small>";
  if (const auto validation = number_at(task.metrics, {"candidates", "head"}))
    return percent_text(*validation) + "<small>on validation</small>";
  return "–";
}

std::string tasks_table(const ReportFacts& facts) {
  HtmlTable table("Every task, oldest first. Small under the test accuracy: 95 % interval (Wilson)",
                  {{"task"},
                   {"classes", true},
                   {"images<br>train / val / test", true},
                   {"head alone", true},
                   {"validation", true},
                   {"test", true},
                   {"kept"},
                   {"coefficients", true},
                   {"stored", true},
                   {"learned in", true}});
  for (std::size_t i = 0; i < facts.tasks.size(); ++i) {
    const TaskFacts& task = facts.tasks[i];
    const auto validation = number_at(task.metrics, {"validation", "top1"}),
               seconds = number_at(task.metrics, {"seconds"});
    const auto coefficients = coefficients_of(task), bytes = bytes_of(task);
    const std::string kept = text_at(task.metrics, "kept");
    table.add({fmt::format("<a href=\"#{}\">{}</a>", task_id(i), escape(task.record.name)),
               count_text(static_cast<double>(task.record.labels.size())), images_text(task), head_text(task, facts),
               validation ? percent_text(*validation) : "–", test_text(task), kept.empty() ? "–" : escape(kept),
               coefficients ? count_text(*coefficients) : "–", bytes ? count_text(*bytes) + " bytes" : "–",
               seconds ? seconds_text(*seconds) : "–"});
  }
  return table.html();
}

std::string overview(const ReportFacts& facts) {
  RowPlot plot{{"overview", "Test accuracy of every task", ""}, "accuracy on the test images", true, true, 1.0, "", {}};
  for (const TaskFacts& task : facts.tasks) {
    const auto top1 = number_at(task.metrics, {"test", "top1"});
    if (!top1) continue;
    RowPlot::Row row{task.record.name, *top1, percent_text(*top1), {}, {}, head_alone_test(task, facts)};
    if (const auto range = interval(top1, number_at(task.metrics, {"test", "rows"})))
      row.low = range->low, row.high = range->high;
    if (row.mark) plot.mark_name = "head alone";
    plot.text.description += (plot.rows.empty() ? "" : ", ") + row.name + " " + row.shown;
    plot.rows.push_back(std::move(row));
  }
  if (plot.rows.empty()) return "";
  return figure(draw(plot),
                "Top-1 accuracy on each task’s own test images, measured once, after everything was "
                "decided. The thin line is the 95 % interval (Wilson).");
}

/// What was measured again just now; nothing is said where nothing was measured.
std::string forgetting(const ReportFacts& facts) {
  HtmlTable table("Test accuracy when the task was learned and now, with all the others learned since",
                  {{"task"}, {"when learned", true}, {"now", true}, {"change", true}});
  double worst = 0;
  for (const TaskFacts& task : facts.tasks) {
    const auto before = number_at(task.metrics, {"test", "top1"});
    const auto now = task.measured ? number_at(*task.measured, {"top1"}) : std::nullopt;
    if (!before || !now) continue;
    worst = std::max(worst, *before - *now);
    table.add({escape(task.record.name), percent_text(*before), percent_text(*now),
               *now == *before ? "none" : fmt::format("{:+.1f} points", 100 * (*now - *before))});
  }
  if (table.empty()) return "";
  return fmt::format("<h3>Forgetting</h3>\n<p>{}</p>\n{}",
                     worst == 0
                         ? "Measured again for this page: no task’s test accuracy fell."
                         : fmt::format("Measured again for this page: the largest loss is {:.1f} points.", 100 * worst),
                     table.html());
}

std::string tasks_overview(const ReportFacts& facts) {
  std::string out = "<section id=\"tasks\" aria-labelledby=\"tasks-h\"><h2 id=\"tasks-h\">Tasks</h2>\n";
  if (facts.tasks.empty()) return out + "<p>No task has been learned yet.</p></section>\n";
  return out + overview(facts) + tasks_table(facts) + forgetting(facts) + "</section>\n";
}

// ---- where and when ------------------------------------------------------------------------------------------------

std::string origin(const TaskFacts& task) {
  const nlohmann::json& m = task.metrics;
  const nlohmann::json machine = m.value("machine", nlohmann::json::object());
  const nlohmann::json versions = m.value("versions", nlohmann::json::object());
  std::string out = "<h3>" + escape(task.record.name) + "</h3>\n<dl>";
  out += definition("Version", fmt::format("{} of {}, stored {}", task.record.version, task.versions,
                                           escape(task.record.created_utc)));
  if (task.record.follows)
    out += definition("Follows",
                      fmt::format("{} version {}", escape(task.record.follows->name), task.record.follows->version));
  const std::string command = text_at(m, "command");
  if (!command.empty()) out += definition("Command", "<code>" + escape(command) + "</code>");
  const std::string recipe = text_at(m, "recipe");
  out += definition("Recipe", escape(recipe.empty() ? text_at(task.record.recipe, "name") : recipe));
  std::string seeds;
  for (const auto& [key, label] :
       {std::pair{"seed", "seed"}, {"split_seed", "split seed"}, {"image_size", "image side in px"}})
    if (const auto value = number_at(m, {key}))
      seeds += fmt::format("{}{} {:.0f}", seeds.empty() ? "" : ", ", label, *value);
  out += definition("Settings", seeds);
  const std::string path = text_at(task.record.data, "path");
  if (!path.empty())
    out += definition("Data", "<code>" + escape(path) + "</code> (" + escape(text_at(task.record.data, "kind")) + ")");
  if (const auto seconds = number_at(m, {"seconds"})) out += definition("Learned in", seconds_text(*seconds));
  for (const Split split : kSplits) {
    const std::string which(name(split));
    const auto count = number_at(m, {"bad_images", which.c_str(), "count"});
    if (count && *count > 0)
      out += definition("Left out", fmt::format("{} {} images that cannot be decoded", count_text(*count), which));
  }
  const auto twice = number_at(m, {"duplicates", "test_in_train"});
  if (twice && *twice > 0)
    out += definition("Doubtful", fmt::format("<strong>{} test images are training images, too</strong>: the test "
                                              "figures say too much",
                                              count_text(*twice)));
  const std::string run = text_at(m, "run");
  if (!run.empty()) out += definition("Run folder", "<code>" + escape(run) + "</code>");
  if (!text_at(machine, "cpu").empty())
    out += definition("Machine", fmt::format("{}, {} cores, {} threads, {}", escape(text_at(machine, "cpu")),
                                             escape(text_at(machine, "cores")), escape(text_at(machine, "threads")),
                                             escape(text_at(machine, "isa"))));
  std::string software;
  if (versions.is_object())
    for (const auto& [name, version] : versions.items())
      software += (software.empty() ? "" : ", ") + escape(name) + " " + escape(text_at(versions, name.c_str()));
  out += definition("Software", software);
  if (task.file_bytes > 0) out += definition("In the store", size_text(static_cast<double>(task.file_bytes)));
  return out + "</dl>\n";
}

std::string origins(const ReportFacts& facts) {
  if (facts.tasks.empty()) return "";
  std::string out = "<section id=\"origin\" aria-labelledby=\"origin-h\"><h2 id=\"origin-h\">Where and when</h2>\n";
  for (const TaskFacts& task : facts.tasks) out += origin(task);
  return out + "</section>\n";
}

std::string navigation(const ReportFacts& facts) {
  std::string out =
      "<nav aria-label=\"On this page\"><ul><li><a href=\"#tasks\">Tasks</a></li>"
      "<li><a href=\"#model\">The model</a></li>";
  for (std::size_t i = 0; i < facts.tasks.size(); ++i)
    out += fmt::format("<li><a href=\"#{}\">{}</a></li>", task_id(i), escape(facts.tasks[i].record.name));
  if (!facts.tasks.empty()) out += "<li><a href=\"#origin\">Where and when</a></li>";
  return out + "</ul></nav>\n";
}

std::string lead(const ReportFacts& facts) {
  const std::string backbone = fmt::format("{} ({} parameters)", escape(text_at(facts.model["config"], "architecture")),
                                           count_text(number_at(facts.model, {"parameters"}).value_or(0)));
  if (facts.tasks.empty()) return "One frozen backbone, " + backbone + ", and no task yet.";
  double bytes = 0;
  for (const TaskFacts& task : facts.tasks) bytes += bytes_of(task).value_or(0);
  return fmt::format("One frozen backbone, {}, and {} {} that {} {} beside it.", backbone, facts.tasks.size(),
                     facts.tasks.size() == 1 ? "task" : "tasks", facts.tasks.size() == 1 ? "takes" : "take together",
                     size_text(bytes));
}

}  // namespace

std::vector<std::string> plug_texts(const TaskRecord& record) {
  std::vector<std::string> texts;
  for (const PlugSpec& plug : record.plugs) texts.push_back(plug_text(plug));
  return texts;
}

std::string definition(const std::string& term, const std::string& html) {
  return html.empty() ? "" : "<dt>" + escape(term) + "</dt><dd>" + html + "</dd>\n";
}

std::string figure(const std::string& svg, const std::string& caption_html, const std::string& below) {
  return svg.empty() ? "" : "<figure>" + svg + "<figcaption>" + caption_html + "</figcaption>" + below + "</figure>\n";
}

std::string folded(const std::string& summary, const std::string& html) {
  return "<details><summary>" + escape(summary) + "</summary>" + html + "</details>\n";
}

std::string html_document(const std::string& title, const std::string& before, const std::string& main,
                          const std::string& written_utc) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "img-src data:\">\n";
  out += "<title>" + escape(title) + "</title>\n<style>" + kStyle + "</style></head>\n<body>\n" + before + "<main>\n" +
         main;
  return out + fmt::format(
                   "</main>\n<footer>Written {} by recast {}. This page is complete in itself: it loads nothing "
                   "and runs no script.</footer>\n</body></html>\n",
                   escape(written_utc), escape(kRecastVersion));
}

std::string page(const ReportFacts& facts) {
  const std::string title = "recast report: " + facts.name;
  std::string main = tasks_overview(facts) + model_summary(facts);
  for (std::size_t i = 0; i < facts.tasks.size(); ++i) main += task_section(facts.tasks[i], facts, i);
  return html_document(title,
                       "<a class=\"skip\" href=\"#tasks\">Skip to the tasks</a>\n<header><h1>" + escape(title) +
                           "</h1>\n<p class=\"lead\">" + lead(facts) + "</p>\n" + navigation(facts) + "</header>\n",
                       main + origins(facts), facts.written_utc);
}

}  // namespace recast
