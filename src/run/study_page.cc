#include "study_page.h"

#include <fmt/format.h>

#include <functional>
#include <vector>

#include "report_markup.h"
#include "report_page.h"
#include "report_plots.h"

namespace recast {
namespace {

using nlohmann::json;

std::string error_text(double error) { return error == 0 ? "0" : fmt::format("{:.2e}", error); }
std::string cosine_text(double cosine) { return fmt::format("{:.6f}", cosine); }

std::string facts(const json& document) {
  std::string out = "<dl>";
  out += definition("Directory", "<code>" + escape(document["directory"].get<std::string>()) + "</code>");
  out += definition("Architecture", escape(document["architecture"].get<std::string>()));
  out += definition("Target", escape(document["target"].get<std::string>()));
  if (document.contains("templates"))
    out += definition("Banks",
                      fmt::format("{} groups of each kind of weight, {} templates each", document["groups"].dump(),
                                  document["templates"] == 0 ? "as many as layers" : document["templates"].dump()));
  if (document.contains("solver")) out += definition("Solver", escape(document["solver"].get<std::string>()));
  if (const json& images = document["images"]; !images.is_null())
    out += definition("Images", fmt::format("{} of the {} split of <code>{}</code>, {} px", images["images"].dump(),
                                            escape(images["split"].get<std::string>()),
                                            escape(images["path"].get<std::string>()), images["image_size"].dump()));
  out += definition("Command", "<code>" + escape(document["command"].get<std::string>()) + "</code>");
  const json& machine = document["machine"];
  out += definition("Machine", fmt::format("{}, {} threads, {}", escape(machine["cpu"].get<std::string>()),
                                           machine["threads"].dump(), escape(machine["isa"].get<std::string>())));
  return out + "</dl>\n";
}

std::string notes(const json& document) {
  std::string out;
  if (document["images"].is_null())
    out += "<p class=\"note\">Weights only: with --data PATH the outputs of the layers are compared, too.</p>\n";
  else
    for (const json& note : document["images"]["notes"])
      out += "<p class=\"note\">" + escape(note.get<std::string>()) + "</p>\n";
  return out;
}

/// Columns of what is left of features, where images were given, and of answers, where there is a classifier.
struct LikenessCells {
  explicit LikenessCells(const json& document)
      : features(!document["images"].is_null()), answers(features && document["images"]["classifies"].get<bool>()) {}
  void head(std::vector<HtmlTable::Column>& columns) const {
    if (features)
      for (const char* name : {"features, cosine", "all layers, mean cosine"}) columns.push_back({name, true});
    if (answers)
      for (const char* name : {"answers kept", "top-1, original", "top-1"}) columns.push_back({name, true});
  }
  void add(std::vector<std::string>& cells, const json& likeness) const {
    if (features) {
      cells.push_back(cosine_text(likeness["features"].back()["cosine"]));
      cells.push_back(cosine_text(likeness["mean_feature_cosine"]));
    }
    if (!answers) return;
    for (const char* key : {"same_answers", "top1_original", "top1"}) {
      const json& share = likeness["task"][key];
      cells.push_back(share.is_null() ? "–" : percent_text(share.get<double>()));
    }
  }
  bool features, answers;
};

// ---- compare -------------------------------------------------------------------------------------------------------

std::vector<const json*> solved(const json& document) {
  std::vector<const json*> rows;
  for (const json& row : document["solvers"])
    if (!row.contains("failed")) rows.push_back(&row);
  return rows;
}

std::string solver_table(const json& document) {
  std::vector<HtmlTable::Column> columns = {{"solver"},
                                            {"time", true},
                                            {"times of closed", true},
                                            {"relative error", true},
                                            {"worst slot", true},
                                            {"weights, mean cosine", true}};
  const LikenessCells likeness(document);
  likeness.head(columns);
  HtmlTable table("Solvers on the same banks. Relative error: of all slots together, Frobenius", columns);
  std::string failures;
  for (const json& row : document["solvers"]) {
    if (row.contains("failed")) {
      failures += "<p class=\"note\">" + escape(row["failed"].get<std::string>()) + "</p>\n";
      continue;
    }
    std::vector<std::string> cells = {
        escape(row["solver"].get<std::string>()),         fmt::format("{:.4g} s", row["seconds"].get<double>()),
        count_text(row["times_of_closed"].get<double>()), error_text(row["relative_error"]),
        error_text(row["worst_relative_error"]),          cosine_text(row["mean_cosine"])};
    likeness.add(cells, row["likeness"]);
    table.add(std::move(cells));
  }
  return table.html() + failures;
}

/// One line a solver over the entries of a list in each row: their place against `value`.
LinePlot lines_over(const json& document, const PlotText& text, const std::string& x_axis, const std::string& y_axis,
                    const std::function<json(const json&)>& list, const char* value) {
  LinePlot plot{text, x_axis, y_axis, {}};
  for (const json* row : solved(document)) {
    LinePlot::Line line{(*row)["solver"].get<std::string>(), {}};
    double x = 0;
    for (const json& entry : list(*row)) line.points.emplace_back(++x, entry[value].get<double>());
    plot.lines.push_back(std::move(line));
  }
  return plot;
}

std::string slot_table(const json& document) {
  const std::vector<const json*> rows = solved(document);
  std::vector<HtmlTable::Column> columns = {{"slot"}};
  for (const json* row : rows) {
    columns.push_back({escape((*row)["solver"].get<std::string>()) + "<br>relative error", true});
    columns.push_back({"cosine", true});
  }
  HtmlTable table("Every slot", columns);
  for (std::size_t s = 0; s < (*rows[0])["slots"].size(); ++s) {
    std::vector<std::string> cells = {escape((*rows[0])["slots"][s]["slot"].get<std::string>())};
    for (const json* row : rows) {
      cells.push_back(error_text((*row)["slots"][s]["relative_error"]));
      cells.push_back(cosine_text((*row)["slots"][s]["cosine"]));
    }
    table.add(std::move(cells));
  }
  return table.html();
}

std::string layer_table(const json& document) {
  const std::vector<const json*> rows = solved(document);
  std::vector<HtmlTable::Column> columns = {{"layer"}};
  for (const json* row : rows) columns.push_back({escape((*row)["solver"].get<std::string>()), true});
  HtmlTable table("Cosine of each layer's output with the original's, mean over images and tokens", columns);
  const json& first = (*rows[0])["likeness"]["features"];
  for (std::size_t i = 0; i < first.size(); ++i) {
    std::vector<std::string> cells = {escape(first[i]["layer"].get<std::string>())};
    for (const json* row : rows) cells.push_back(cosine_text((*row)["likeness"]["features"][i]["cosine"]));
    table.add(std::move(cells));
  }
  return table.html();
}

std::string compare_body(const json& document) {
  std::string out = "<section id=\"solvers\"><h2>Solvers</h2>\n" + solver_table(document) + notes(document);
  const std::string verdict = document["closed_has_least_error"].get<bool>()
                                  ? "No solver leaves a smaller error than the closed form."
                                  : "<strong>A solver leaves a smaller error than the closed form.</strong>";
  const std::string speed = document["least_speed_ratio"].is_null()
                                ? ""
                                : fmt::format(" The fastest of the others takes {} times as long.",
                                              count_text(document["least_speed_ratio"].get<double>()));
  out += "<p>" + verdict + speed + "</p>\n<div class=\"figures\">\n";
  out +=
      figure(draw(lines_over(
                 document, {"slots", "Cosine of rebuilt and given weight, per slot", "Values: table below"},
                 "slot in depth order", "cosine of weights", [](const json& row) { return row["slots"]; }, "cosine")),
             "Cosine of each rebuilt weight with the given one.", folded("As a table", slot_table(document)));
  if (!document["images"].is_null())
    out += figure(draw(lines_over(
                      document, {"layers", "Cosine of layer outputs with the original's", "Values: table below"},
                      "layer; at last the features", "cosine of outputs",
                      [](const json& row) { return row["likeness"]["features"]; }, "cosine")),
                  "What is left of each layer’s output on real images.", folded("As a table", layer_table(document)));
  return out + "</div></section>\n";
}

// ---- sweep ---------------------------------------------------------------------------------------------------------

std::string sweep_table(const json& document) {
  std::vector<HtmlTable::Column> columns = {{"groups"},
                                            {"templates", true},
                                            {"model", true},
                                            {"of the original", true},
                                            {"relative error", true},
                                            {"weights, mean cosine", true}};
  const LikenessCells likeness(document);
  likeness.head(columns);
  HtmlTable table("Model size against fidelity", columns);
  for (const json& point : document["points"]) {
    std::vector<std::string> cells = {
        point["groups"].dump(),
        point["templates"].dump(),
        size_text(point["bytes"].get<double>()),
        percent_text(point["bytes"].get<double>() / document["original_bytes"].get<double>()),
        error_text(point["relative_error"]),
        cosine_text(point["mean_cosine"])};
    likeness.add(cells, point["likeness"]);
    table.add(std::move(cells));
  }
  return table.html();
}

/// A line for each number of groups, over the model's size.
template <class Value>
LinePlot over_size(const json& document, const PlotText& text, const std::string& y_axis, const Value& value) {
  LinePlot plot{text, "size of the model, MB", y_axis, {}};
  for (const json& point : document["points"]) {
    const std::string name = point["groups"].dump() + (point["groups"] == 1 ? " group" : " groups");
    if (plot.lines.empty() || plot.lines.back().name != name) plot.lines.push_back({name, {}});
    plot.lines.back().points.emplace_back(point["bytes"].get<double>() / 1e6, value(point));
  }
  return plot;
}

std::string sweep_body(const json& document) {
  std::string out = "<section id=\"sweep\"><h2>Size against fidelity</h2>\n<div class=\"figures\">\n";
  out += figure(draw(over_size(document, {"errors", "Relative error over model size", "Values: table below"},
                               "relative error of the weights",
                               [](const json& point) { return point["relative_error"].get<double>(); })),
                "Each line is a number of groups, its points 1 to 4 templates a bank.");
  if (!document["images"].is_null())
    out += figure(
        draw(over_size(document, {"cosines", "Cosine of features over model size", "Values: table below"},
                       "cosine of features",
                       [](const json& point) { return point["likeness"]["features"].back()["cosine"].get<double>(); })),
        "The features on real images, the original’s being 1.");
  out += "</div>\n" + sweep_table(document) + notes(document);
  for (const json& skipped : document["skipped"])
    out += fmt::format("<p class=\"note\">{} groups: {}</p>\n", skipped["groups"].dump(),
                       escape(skipped["reason"].get<std::string>()));
  return out + "</section>\n";
}

}  // namespace

std::string study_page(const json& document) {
  const bool compares = document["study"] == "compare";
  const std::string title = compares ? "recast: solvers compared" : "recast: model size against fidelity";
  return html_document(title, "<header><h1>" + escape(title) + "</h1></header>\n",
                       "<section id=\"model\"><h2>What was measured</h2>\n" + facts(document) + "</section>\n" +
                           (compares ? compare_body(document) : sweep_body(document)),
                       document["finished_utc"].get<std::string>());
}

}  // namespace recast
