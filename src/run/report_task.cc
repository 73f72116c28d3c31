#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "recast/run/figures.h"
#include "report_markup.h"
#include "report_page.h"
#include "report_plots.h"

namespace recast {
namespace {

constexpr std::size_t kMostConfused = 20, kMostRows = 40;

std::string plot_id(std::size_t index, const char* name) { return fmt::format("{}-{}", task_id(index), name); }

std::string number_or_dash(const std::optional<double>& value, const char* format = "{:.4f}") {
  return value && std::isfinite(*value) ? fmt::format(fmt::runtime(format), *value) : "–";
}

// ---- how it was learned
// ------------------------------------------------------------------------------------------------

/// history as stages side by side; epochs whose training loss was not taken (no step was made) have none.
struct History {
  std::vector<CurvePlot::Stage> stages;
  std::vector<std::optional<double>> train_loss, validation_loss, validation_top1, rate, seconds;
  std::optional<std::size_t> kept;
};

History read_history(const nlohmann::json& metrics) {
  History history;
  for (const auto& epoch : metrics.value("history", nlohmann::json::array())) {
    if (!epoch.is_object()) continue;
    const std::string stage = text_at(epoch, "stage");
    const std::size_t at = history.rate.size();
    if (history.stages.empty() || history.stages.back().name != stage) history.stages.push_back({stage, at, 0});
    ++history.stages.back().count;
    const auto rate = number_at(epoch, {"lr"}), train = number_at(epoch, {"train_loss"});
    history.rate.push_back(rate);
    history.seconds.push_back(number_at(epoch, {"seconds"}));
    history.train_loss.push_back(train && (*train != 0 || rate.value_or(0) != 0) ? train : std::nullopt);
    history.validation_loss.push_back(number_at(epoch, {"eval_loss"}));
    history.validation_top1.push_back(number_at(epoch, {"eval_top1"}));
    // The kept numbers are those whose figures on the validation images the record holds.
    if (!history.kept && stage == text_at(metrics, "kept") && history.validation_loss[at] &&
        history.validation_loss[at] == number_at(metrics, {"validation", "loss"}) &&
        history.validation_top1[at] == number_at(metrics, {"validation", "top1"}))
      history.kept = at;
  }
  return history;
}

std::string history_table(const History& history) {
  HtmlTable table("Every epoch", {{"stage"},
                                  {"epoch", true},
                                  {"training loss", true},
                                  {"validation loss", true},
                                  {"validation top-1", true},
                                  {"learning rate", true},
                                  {"seconds", true}});
  for (const auto& stage : history.stages)
    for (std::size_t i = stage.first; i < stage.first + stage.count; ++i)
      table.add({escape(stage.name) + (history.kept == i ? " (kept)" : ""), std::to_string(i - stage.first + 1),
                 number_or_dash(history.train_loss[i]), number_or_dash(history.validation_loss[i]),
                 number_or_dash(history.validation_top1[i]), number_or_dash(history.rate[i], "{:.3g}"),
                 number_or_dash(history.seconds[i], "{:.1f}")});
  return folded("Every epoch as a table", table.html());
}

std::string curves(const TaskFacts& task, std::size_t index) {
  const History history = read_history(task.metrics);
  if (history.rate.empty()) return "";
  const std::string table = history_table(history);
  if (history.rate.size() == 1) return "<h3>Learning</h3>\n" + table;  // one point is no curve
  const std::string name = task.record.name;
  std::string stages;
  for (const auto& stage : history.stages)
    stages += fmt::format("{}{} ({} {})", stages.empty() ? "" : ", ", stage.name, stage.count,
                          stage.count == 1 ? "measurement" : "epochs");
  CurvePlot loss{{plot_id(index, "loss"), "Loss of " + name + " while it was learned", "Stages: " + stages + "."},
                 "loss",
                 false,
                 {},
                 history.stages,
                 history.kept};
  const bool trained = std::any_of(history.train_loss.begin(), history.train_loss.end(), [](auto& v) { return !!v; });
  if (trained) loss.lines.push_back({"training", history.train_loss});
  loss.lines.push_back({"validation", history.validation_loss});
  CurvePlot top1{
      {plot_id(index, "top1"), "Validation accuracy of " + name + " while it was learned", "Stages: " + stages + "."},
      "top-1 accuracy",
      true,
      {{"validation", history.validation_top1}},
      history.stages,
      history.kept};
  return "<h3>Learning curves</h3>\n<div class=\"figures\">" +
         figure(draw(loss), "Loss. The ring marks what was kept, chosen on the validation images.") +
         figure(draw(top1), "Accuracy on the validation images, which were held out of training.") + "</div>\n" + table;
}

// ---- what it confuses
// --------------------------------------------------------------------------------------------------

using Counts = std::vector<std::vector<std::int64_t>>;

Counts read_confusion(const TaskFacts& task) {
  const std::size_t classes = task.record.labels.size();
  try {
    Counts counts = task.metrics.value("confusion", nlohmann::json::array()).get<Counts>();
    const auto fits = [&](const auto& row) { return row.size() == classes; };
    if (counts.size() == classes && std::all_of(counts.begin(), counts.end(), fits)) return counts;
  } catch (const nlohmann::json::exception&) {
    // null, or not as recast writes it: then there is none to show
  }
  return {};
}

/// The classes with most mistakes in their row and column, in the order of the labels.
std::vector<std::size_t> most_confused(const Counts& counts) {
  std::vector<std::int64_t> mistakes(counts.size());
  for (std::size_t r = 0; r < counts.size(); ++r)
    for (std::size_t c = 0; c < counts.size(); ++c)
      if (r != c) mistakes[r] += counts[r][c], mistakes[c] += counts[r][c];
  std::vector<std::size_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return mistakes[a] > mistakes[b]; });
  order.resize(std::min(order.size(), kMostConfused));
  std::sort(order.begin(), order.end());
  return order;
}

struct Mistake {
  std::size_t truth, answer;
  std::int64_t count;
};
std::vector<Mistake> worst_mistakes(const Counts& counts, std::size_t most) {
  std::vector<Mistake> all;
  for (std::size_t r = 0; r < counts.size(); ++r)
    for (std::size_t c = 0; c < counts.size(); ++c)
      if (r != c && counts[r][c] > 0) all.push_back({r, c, counts[r][c]});
  std::stable_sort(all.begin(), all.end(), [](const Mistake& a, const Mistake& b) { return a.count > b.count; });
  all.resize(std::min(all.size(), most));
  return all;
}

std::string confusion_table(const HeatMap& map) {
  std::vector<HtmlTable::Column> columns = {{"true class"}};
  for (const auto& label : map.labels) columns.push_back({escape(label), true});
  HtmlTable table("Test images by true class (row) and predicted class (column)", std::move(columns));
  for (std::size_t r = 0; r < map.labels.size(); ++r) {
    std::vector<std::string> cells = {escape(map.labels[r])};
    for (const std::int64_t count : map.counts[r]) cells.push_back(std::to_string(count));
    table.add(std::move(cells));
  }
  return folded("Confusion as a table", table.html());
}

std::string confusion(const TaskFacts& task, std::size_t index) {
  const Counts counts = read_confusion(task);
  if (counts.empty()) return "";
  const std::vector<std::string>& labels = task.record.labels;
  HeatMap map{{plot_id(index, "confusion"), "Confusion matrix of " + task.record.name, ""}, {}, {}};
  const std::vector<std::size_t> chosen = most_confused(counts);
  for (const std::size_t r : chosen) {
    map.labels.push_back(labels[r]);
    map.counts.emplace_back();
    for (const std::size_t c : chosen) map.counts.back().push_back(counts[r][c]);
  }
  std::string worst;
  for (const Mistake& m : worst_mistakes(counts, 3))
    worst +=
        fmt::format("{}{} taken for {} ({})", worst.empty() ? "" : ", ", labels[m.truth], labels[m.answer], m.count);
  map.text.description = worst.empty() ? "No test image was confused." : "Most common mistakes: " + worst + ".";
  std::string caption = "Test images; each row is shaded by its shares. " + escape(map.text.description);
  if (chosen.size() < labels.size())
    caption += fmt::format(" Shown are the {} of {} classes with most mistakes.", chosen.size(), labels.size());
  return "<figure class=\"wide\">" + scroll_box(map.text.title, draw(map)) + "<figcaption>" + caption +
         "</figcaption></figure>\n" + confusion_table(map);
}

// ---- per class
// ---------------------------------------------------------------------------------------------------------

std::string per_class(const TaskFacts& task, std::size_t index) {
  const nlohmann::json test = task.metrics.value("test", nlohmann::json());
  if (!test.is_object() || !test.contains("per_class") || !test["per_class"].is_object()) return "";
  RowPlot plot{{plot_id(index, "classes"), "Test accuracy of each class of " + task.record.name, ""},
               "accuracy on the test images",
               true,
               true,
               1.0,
               "",
               {}};
  HtmlTable table("Test accuracy of each class", {{"class"}, {"accuracy", true}});
  for (const auto& label : task.record.labels) {
    const auto it = test["per_class"].find(label);
    if (it == test["per_class"].end()) continue;
    const bool measured = it->is_number();
    table.add({escape(label), measured ? percent_text(it->get<double>()) : "no image"});
    if (measured) plot.rows.push_back({label, it->get<double>(), percent_text(it->get<double>()), {}, {}, {}});
  }
  if (plot.rows.empty()) return "";
  const std::size_t all = plot.rows.size();
  auto lower = [](const RowPlot::Row& a, const RowPlot::Row& b) { return a.value < b.value; };
  const auto worst = *std::min_element(plot.rows.begin(), plot.rows.end(), lower);
  const auto best = *std::max_element(plot.rows.begin(), plot.rows.end(), lower);
  plot.text.description = fmt::format("From {} ({}) to {} ({}).", worst.shown, worst.name, best.shown, best.name);
  std::string caption = "Accuracy of each class on the test images.";
  if (all > kMostRows) {
    std::stable_sort(plot.rows.begin(), plot.rows.end(), lower);
    plot.rows.resize(kMostRows);
    caption += fmt::format(" Shown are the {} lowest of {}.", kMostRows, all);
  }
  return figure(draw(plot), caption) + folded("Accuracy of each class as a table", table.html());
}

// ---- examples
// ----------------------------------------------------------------------------------------------------------

std::string examples(const TaskFacts& task) {
  if (task.examples.empty()) return "";
  std::string out;
  std::size_t right = 0;
  for (const ExampleImage& example : task.examples) {
    right += example.right();
    const std::string sure = percent_text(example.probability);
    const std::string alt = example.right() ? fmt::format("{}, recognised", example.truth)
                                            : fmt::format("{}, wrongly taken for {}", example.truth, example.answer);
    out += fmt::format(
        "<li class=\"{}\"><img src=\"{}\" alt=\"{}\" title=\"{}\" width=\"112\" height=\"112\">"
        "<span class=\"verdict\">{} {}</span><span class=\"sure\">{}</span>{}</li>\n",
        example.right() ? "right" : "wrong", png_uri(example.png), escape(alt), escape(example.id),
        example.right() ? "✓" : "✗", escape(example.answer), sure,
        example.right() ? "" : "<span class=\"truth\">is " + escape(example.truth) + "</span>");
  }
  return fmt::format(
      "<h3>Example images</h3>\n<p>{} test images, taken from the classes in turn before anything was predicted: {} "
      "right, {} wrong. Under each: the prediction and its probability.</p>\n<ul class=\"examples\">{}</ul>\n",
      task.examples.size(), right, task.examples.size() - right, out);
}

// ---- similarity
// --------------------------------------------------------------------------------------------------------

bool weights_unmoved(const TaskFacts& task) {
  return std::all_of(task.weights.begin(), task.weights.end(), [](const WeightChange& w) { return w.relative == 0; });
}

std::string weight_figure(const TaskFacts& task, std::size_t index) {
  if (weights_unmoved(task)) return "";
  RowPlot plot{{plot_id(index, "weights"), "How far " + task.record.name + " moved the weights", ""},
               "change of the weight, relative to its size",
               true,
               true,
               {},
               "",
               {}};
  HtmlTable table("Effective weight of the task beside the backbone's own",
                  {{"slot"}, {"relative change", true}, {"cosine", true}});
  for (const WeightChange& w : task.weights) {
    table.add({escape(w.slot), fmt::format("{:.6f}", w.relative), fmt::format("{:.6f}", w.cosine)});
    plot.rows.push_back({w.slot, w.relative, fmt::format("{:.2f} %", 100 * w.relative), {}, {}, {}});
  }
  auto less = [](const RowPlot::Row& a, const RowPlot::Row& b) { return a.value < b.value; };
  const auto most = *std::max_element(plot.rows.begin(), plot.rows.end(), less);
  plot.text.description = fmt::format("Largest change: {} at {}.", most.shown, most.name);
  plot.share = most.value <= 1;
  std::string caption = "Relative change |W′ − W| / |W| of each weight, from input to output.";
  if (plot.rows.size() > kMostRows) {
    std::stable_sort(plot.rows.begin(), plot.rows.end(), [&](auto& a, auto& b) { return less(b, a); });
    caption += fmt::format(" Shown are the {} largest of {}.", kMostRows, plot.rows.size());
    plot.rows.resize(kMostRows);
  }
  return figure(draw(plot), caption, folded("Change and cosine as a table", table.html()));
}

std::string feature_figure(const TaskFacts& task, std::size_t index) {
  if (task.features.empty()) return "";
  RowPlot plot{
      {plot_id(index, "features"), "Likeness of features of " + task.record.name + " and the bare backbone", ""},
      "mean cosine",
      false,
      false,
      1.0,
      "",
      {}};
  for (const FeatureLikeness& f : task.features)
    plot.rows.push_back({f.layer, f.cosine, fmt::format("{:.4f}", f.cosine), {}, {}, {}});
  plot.text.description = fmt::format("From {} at {} to {} at {}.", plot.rows.front().shown, plot.rows.front().name,
                                      plot.rows.back().shown, plot.rows.back().name);
  return figure(draw(plot), fmt::format("Cosine between what a layer gives in the task’s model and in the bare "
                                        "backbone, mean over {} example images and their tokens. 1 is the same "
                                        "direction.",
                                        task.examples.size()));
}

std::string similarity(const TaskFacts& task, std::size_t index) {
  if (task.weights.empty() && task.features.empty()) return "";
  const std::string title = "<h3>Similarity to the backbone, layer by layer</h3>\n";
  const auto same = [](const FeatureLikeness& f) { return f.cosine > 1 - 1e-6; };
  if (weights_unmoved(task) && std::all_of(task.features.begin(), task.features.end(), same))
    return title + "<p>The numbers that were kept leave the backbone as it is: no weight and no feature differs.</p>\n";
  return title + "<div class=\"figures\">" + weight_figure(task, index) + feature_figure(task, index) + "</div>\n";
}

// ---- the section
// -------------------------------------------------------------------------------------------------------

std::string candidates_text(const nlohmann::json& metrics) {
  std::string out;
  const nlohmann::json candidates = metrics.value("candidates", nlohmann::json::object());
  if (!candidates.is_object()) return out;
  for (const auto& [stage, top1] : candidates.items())
    if (top1.is_number())
      out += fmt::format("{}{} {}{}", out.empty() ? "" : ", ", escape(stage), percent_text(top1.get<double>()),
                         stage == text_at(metrics, "kept") ? " <strong>(kept)</strong>" : "");
  return out;
}

std::string joined_list(const std::vector<std::string>& texts) {
  std::string out;
  for (const auto& text : texts) out += (out.empty() ? "<code>" : " <code>") + escape(text) + "</code>";
  return out;
}

std::string split_text(const TaskFacts& task, const char* split) {
  const auto top1 = number_at(task.metrics, {split, "top1"});
  if (!top1) return "";
  std::string out = "top-1 <strong>" + percent_text(*top1) + "</strong>";
  if (const auto top5 = number_at(task.metrics, {split, "top5"}); top5 && task.record.labels.size() > 5)
    out += ", top-5 " + percent_text(*top5);
  if (const auto loss = number_at(task.metrics, {split, "loss"})) out += fmt::format(", loss {:.4f}", *loss);
  if (const auto rows = number_at(task.metrics, {split, "rows"})) out += " on " + count_text(*rows) + " images";
  return out;
}

std::string facts_list(const TaskFacts& task) {
  const auto classes = task.record.labels.size();
  std::string labels = shortened(fmt::format("{}", fmt::join(task.record.labels, ", ")), 300);
  std::string out = "<dl>";
  out += definition("Test", split_text(task, "test"));
  out += definition("Validation", split_text(task, "validation"));
  out += definition("Candidates on validation", candidates_text(task.metrics));
  out += definition(fmt::format("{} classes", classes), escape(labels));
  out += definition("Plug-ins", joined_list(plug_texts(task.record)));
  return out + "</dl>\n";
}

}  // namespace

std::string task_id(std::size_t index) { return fmt::format("task-{}", index + 1); }

std::string task_section(const TaskFacts& task, const ReportFacts&, std::size_t index) {
  std::string out = fmt::format("<section id=\"{0}\" aria-labelledby=\"{0}-h\"><h2 id=\"{0}-h\">Task {1}</h2>\n",
                                task_id(index), escape(task.record.name));
  out += facts_list(task);
  for (const std::string& note : task.notes) out += "<p class=\"note\">" + escape(note) + "</p>\n";
  out += examples(task) + curves(task, index);
  const std::string matrix = confusion(task, index), classes = per_class(task, index);
  if (!matrix.empty() || !classes.empty())
    out += "<h3>Right and wrong, class by class</h3>\n<div class=\"figures\"><div>" + matrix + "</div><div>" + classes +
           "</div></div>\n";
  return out + similarity(task, index) + "</section>\n";
}

}  // namespace recast
