#include "report_plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report_markup.h"

namespace recast {
namespace {

constexpr double kWidth = 420, kCharacter = 6.7;  // of 12-unit text on average

/// A linear axis with round ticks.
struct Axis {
  double low, high, from, to;  ///< values, and where they lie in the picture
  double step;

  double at(double value) const { return from + (value - low) / (high - low) * (to - from); }
  std::vector<double> ticks() const {
    std::vector<double> out;
    for (double k = std::ceil(low / step - 1e-9); k * step <= high + step * 1e-9; ++k) out.push_back(k * step);
    return out;
  }
  std::string label(double tick, bool share) const {
    const double shown = share ? 100 * tick : tick, unit = share ? 100 * step : step;
    const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(unit) - 1e-9)), 0, 9);
    return fmt::format("{:.{}f}{}", std::abs(shown) < unit / 2 ? 0.0 : shown, decimals, share ? " %" : "");
  }
};

/// 1, 2 or 5 times a power of ten, so that about `count` steps make up `range`.
double round_step(double range, double count) {
  const double raw = range / count, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= raw * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

/// An axis around values, widened to round numbers within [floor, ceiling].
Axis make_axis(double low, double high, double from, double to, double floor, double ceiling, double count = 4) {
  if (high - low < 1e-12 * std::max(1.0, std::abs(high))) {
    const double margin = std::max(std::abs(high) * 0.05, 1e-6);
    low -= margin, high += margin;
  }
  const double step = round_step(high - low, count);
  low = std::max(floor, std::floor(low / step + 1e-9) * step);
  high = std::min(ceiling, std::ceil(high / step - 1e-9) * step);
  return {low, high, from, to, step};
}

std::string plot_text(double x, double y, const std::string& text, const char* css = "", const char* anchor = "start") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"{}\">{}</text>", x, y, css, anchor,
                     escape(text));
}

std::string line_from(double x1, double y1, double x2, double y2, const char* css) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"></line>", x1, y1, x2,
                     y2, css);
}

std::string circle_at(double x, double y, double radius, const std::string& css) {
  return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" class=\"{}\"></circle>", x, y, radius, css);
}

std::string diamond_at(double x, double y, const char* css) {
  return fmt::format("<path d=\"M{:.1f} {:.1f}l5 5l-5 5l-5 -5z\" class=\"{}\"></path>", x, y - 5, css);
}

std::string svg(const PlotText& text, double width, double height, const std::string& body) {
  return fmt::format(
      "<svg viewBox=\"0 0 {0:.0f} {1:.0f}\" style=\"max-width:{0:.0f}px\" role=\"img\" aria-labelledby=\"{2}-t {2}-d\">"
      "<title id=\"{2}-t\">{3}</title><desc id=\"{2}-d\">{4}</desc>\n{5}</svg>\n",
      width, height, escape(text.id), escape(text.title), escape(text.description), body);
}

// ---- curves
// ----------------------------------------------------------------------------------------------------------

/// Where each epoch lies: stages of one epoch get a column of their own, the others share the rest.
struct Columns {
  std::vector<double> x;
  double left, right;

  Columns(const std::vector<CurvePlot::Stage>& stages, double left, double right) : left(left), right(right) {
    constexpr double kAlone = 52;
    const auto single = std::count_if(stages.begin(), stages.end(), [](const auto& s) { return s.count == 1; });
    const auto several = static_cast<double>(stages.size()) - static_cast<double>(single);
    const double alone = several > 0 ? kAlone : (right - left) / std::max<double>(1, static_cast<double>(single));
    const double shared = several > 0 ? (right - left - alone * static_cast<double>(single)) / several : 0;
    double at = left;
    for (const auto& stage : stages) {
      const double width = stage.count == 1 ? alone : shared;
      for (std::size_t i = 0; i < stage.count; ++i)
        x.push_back(stage.count == 1
                        ? at + width / 2
                        : at + 12 + (width - 24) * static_cast<double>(i) / static_cast<double>(stage.count - 1));
      at += width;
    }
  }
};

std::string stage_ticks(const CurvePlot& plot, const Columns& columns, double base) {
  std::string out;
  for (const auto& stage : plot.stages) {
    if (stage.count == 1) {
      out += plot_text(columns.x[stage.first], base + 16, shortened(stage.name, 9), "tick", "middle");
      continue;
    }
    const auto step = static_cast<std::size_t>(std::max(1.0, round_step(static_cast<double>(stage.count), 6)));
    for (std::size_t i = 0; i < stage.count; ++i) {
      if ((i + 1) % step != 0 && !(i == 0 && step > 2)) continue;
      out += line_from(columns.x[stage.first + i], base, columns.x[stage.first + i], base + 4, "axis");
      out += plot_text(columns.x[stage.first + i], base + 16, std::to_string(i + 1), "tick", "middle");
    }
    const double middle = (columns.x[stage.first] + columns.x[stage.first + stage.count - 1]) / 2;
    out += plot_text(middle, base + 32, "epoch of " + shortened(stage.name, 16), "tick", "middle");
  }
  return out;
}

std::string curve(const CurvePlot& plot, const CurvePlot::Line& line, const Columns& columns, const Axis& y, char css) {
  std::string out;
  for (const auto& stage : plot.stages) {
    std::string path;
    for (std::size_t i = stage.first; i < stage.first + stage.count; ++i) {
      if (!line.values[i]) continue;
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", columns.x[i], y.at(*line.values[i]));
      if (stage.count <= 40) out += circle_at(columns.x[i], y.at(*line.values[i]), 3, fmt::format("point {}", css));
    }
    if (stage.count > 1 && !path.empty()) out += fmt::format("<path d=\"{}\" class=\"line {}\"></path>", path, css);
  }
  return out;
}

// ---- rows
// ------------------------------------------------------------------------------------------------------------

struct Extent {
  double low, high;
};
Extent extent_of(const RowPlot& plot) {
  Extent e{plot.bars ? 0 : plot.rows.front().value, plot.rows.front().value};
  for (const auto& row : plot.rows)
    for (const auto& value : {std::optional(row.value), row.low, row.high, row.mark})
      if (value) e.low = std::min(e.low, *value), e.high = std::max(e.high, *value);
  return e;
}

std::string draw_row(const RowPlot& plot, const RowPlot::Row& row, const Axis& x, double y) {
  std::string out;
  const double end = x.at(row.value), start = x.at(x.low);
  if (plot.bars) {
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"12\" class=\"bar\"></rect>", start,
                       y - 6, std::max(0.0, end - start));
  } else {
    out += line_from(start, y, x.at(x.high), y, "grid") + circle_at(end, y, 4, "point b");
  }
  if (row.low && row.high)
    for (const char* css : {"range halo", "range"}) out += line_from(x.at(*row.low), y, x.at(*row.high), y, css);
  if (row.mark) out += diamond_at(x.at(*row.mark), y, "mark");
  return out;
}

// ---- lines ---------------------------------------------------------------------------------------------------------

/// Of line `i`: three colours, and a second shape for the lines after them.
std::string mark_at(double x, double y, std::size_t i) {
  const char colour = "bac"[i % 3];
  if (i < 3) return circle_at(x, y, 3, fmt::format("point {}", colour));
  return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"6\" height=\"6\" class=\"point {}\"></rect>", x - 3,
                     y - 3, colour);
}

std::string line_key(const LinePlot& plot, double& y) {
  std::string out;
  double x = 8;
  for (std::size_t i = 0; i < plot.lines.size(); ++i) {
    const std::string& name = plot.lines[i].name;
    const double width = 34 + kCharacter * static_cast<double>(count_characters(name));
    if (x + width > kWidth && x > 8) x = 8, y += 18;
    out += line_from(x, y - 4, x + 20, y - 4, fmt::format("line {}", "bac"[i % 3]).c_str());
    out += mark_at(x + 10, y - 4, i) + plot_text(x + 24, y, name, "tick");
    x += width;
  }
  return out;
}

// ---- scatter
// ---------------------------------------------------------------------------------------------------------

/// A logarithmic axis over whole decades or, where there are few, over 1, 2 and 5 of each.
struct LogAxis {
  double low, high, from, to;

  double at(double value) const {
    return from +
           (std::log10(std::max(value, low)) - std::log10(low)) / (std::log10(high) - std::log10(low)) * (to - from);
  }
  std::vector<double> ticks() const {
    const bool few = high / low < 1000;
    std::vector<double> out;
    for (double power = std::pow(10, std::floor(std::log10(low) + 1e-9)); power <= high * (1 + 1e-9); power *= 10)
      for (const double factor : {1.0, 2.0, 5.0})
        if ((few || factor == 1) && factor * power >= low * (1 - 1e-9) && factor * power <= high * (1 + 1e-9))
          out.push_back(factor * power);
    return out;
  }
};

/// Around positive values, to the next 1, 2 or 5 on both sides.
LogAxis make_log_axis(double least, double most, double from, double to) {
  const auto power = [](double value) { return std::pow(10, std::floor(std::log10(value) + 1e-9)); };
  double low = power(least), high = power(most);
  for (const double factor : {5.0, 2.0})
    if (factor * power(least) <= least * (1 + 1e-9)) {
      low = factor * power(least);
      break;
    }
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    high = factor * power(most);
    if (high >= most * (1 - 1e-9)) break;
  }
  if (high <= low * (1 + 1e-9)) low /= 2, high *= 2;
  return {low, high, from, to};
}

/// 1000 as "1k", 5e6 as "5M".
std::string short_count(double value) {
  for (const auto& [size, unit] : {std::pair{1e9, "G"}, std::pair{1e6, "M"}, std::pair{1e3, "k"}})
    if (value >= size) return fmt::format("{:g}{}", value / size, unit);
  return fmt::format("{:g}", value);
}

/// Which group each point is of, in the order of their first points.
std::vector<std::size_t> groups_of(const ScatterPlot& plot, std::vector<std::string>& names) {
  std::vector<std::size_t> out;
  for (const auto& point : plot.points) {
    const auto found = std::find(names.begin(), names.end(), point.group);
    out.push_back(static_cast<std::size_t>(found - names.begin()));
    if (found == names.end()) names.push_back(point.group);
  }
  return out;
}

/// The names of points by number in two columns, from `y` on; ends below them.
std::string point_key(const ScatterPlot& plot, const std::vector<std::size_t>& groups, double& y) {
  constexpr std::size_t kMostCharacters = 26;
  const std::size_t rows = (plot.points.size() + 1) / 2;
  std::string out;
  for (std::size_t i = 0; i < plot.points.size(); ++i) {
    const double x = i < rows ? 8 : kWidth / 2 + 4, at = y + 18 * static_cast<double>(i % rows);
    out += mark_at(x + 6, at - 4, groups[i]) +
           plot_text(x + 16, at, fmt::format("{}  {}", i + 1, shortened(plot.points[i].name, kMostCharacters)), "tick");
  }
  y += 18 * static_cast<double>(rows);
  return out;
}

// ---- heat map
// --------------------------------------------------------------------------------------------------------

std::string draw_cell(double x, double y, double size, std::int64_t count, double share, const std::string& what) {
  std::string out = fmt::format(
      "<g><title>{}</title><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{}\" class=\"heat\" "
      "fill-opacity=\"{:.2f}\"></rect>",
      escape(what), x, y, size - 1, size - 1, count == 0 ? 0 : 0.08 + 0.92 * share);
  if (count > 0)
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"middle\">{}</text>",
                       x + (size - 1) / 2, y + size / 2 + 3.5, share > 0.6 ? "cell hot" : "cell", count);
  return out + "</g>\n";
}

}  // namespace

std::string draw(const CurvePlot& plot) {
  constexpr double kTop = 34, kBase = 214, kHeight = 256;
  double low = INFINITY, high = -INFINITY;
  for (const auto& line : plot.lines)
    for (const auto& value : line.values)
      if (value && std::isfinite(*value)) low = std::min(low, *value), high = std::max(high, *value);
  if (low > high) return "";
  const Axis y = plot.share ? make_axis(std::min(low, high - 0.05), high, kBase, kTop, 0, 1)
                            : make_axis(low, high, kBase, kTop, std::min(0.0, low), INFINITY);
  const Columns columns(plot.stages, 54, kWidth - 8);
  std::string body;
  for (const double tick : y.ticks()) {
    body += line_from(columns.left, y.at(tick), columns.right, y.at(tick), "grid");
    body += plot_text(columns.left - 6, y.at(tick) + 4, y.label(tick, plot.share), "tick", "end");
  }
  body += line_from(columns.left, kBase, columns.right, kBase, "axis") + stage_ticks(plot, columns, kBase);
  double at = kWidth - 8;
  for (std::size_t i = plot.lines.size(); i-- > 0;) {
    const auto& line = plot.lines[i];
    const char css = plot.lines.size() == 1 || i == 1 ? 'b' : 'a';
    body += curve(plot, line, columns, y, css);
    body += plot_text(at, 16, line.name, css == 'a' ? "key a" : "key b", "end");
    at -= kCharacter * static_cast<double>(line.name.size()) + 4;
    const char* sample = css == 'a' ? "line a" : "line b";
    body += line_from(at - 20, 12, at, 12, sample) + circle_at(at - 10, 12, 3, css == 'a' ? "point a" : "point b");
    at -= 36;
  }
  body += plot_text(8, 16, plot.axis, "label");
  const auto& last = plot.lines.back().values;
  if (plot.kept && last[*plot.kept]) {
    const double x = columns.x[*plot.kept], where = y.at(*last[*plot.kept]);
    body += circle_at(x, where, 7, "ring");
    body += plot_text(x, where < kTop + 24 ? where + 20 : where - 12, "kept", "tick strong", "middle");
  }
  return svg(plot.text, kWidth, kHeight, body);
}

std::string draw(const RowPlot& plot) {
  if (plot.rows.empty()) return "";
  constexpr double kRow = 20;
  std::size_t name_characters = 1, shown_characters = 1;
  for (const auto& row : plot.rows) {
    name_characters = std::max(name_characters, count_characters(row.name));
    shown_characters = std::max(shown_characters, count_characters(row.shown));
  }
  name_characters = std::min<std::size_t>(name_characters, 21);
  const double left = 14 + kCharacter * static_cast<double>(name_characters);
  const double right = kWidth - 12 - kCharacter * static_cast<double>(shown_characters);
  const double top = plot.mark_name.empty() ? 8 : 28, base = top + kRow * static_cast<double>(plot.rows.size());
  const Extent extent = extent_of(plot);
  const double ceiling = plot.share ? 1 : INFINITY;
  const Axis x = make_axis(extent.low, plot.maximum.value_or(extent.high), left, right, plot.bars ? 0 : -INFINITY,
                           plot.bars ? ceiling : 1, right - left > 200 ? 5 : 3);
  std::string body;
  for (const double tick : x.ticks()) {
    body += line_from(x.at(tick), top, x.at(tick), base, "grid");
    body += plot_text(x.at(tick), base + 16, x.label(tick, plot.share), "tick", "middle");
  }
  for (std::size_t i = 0; i < plot.rows.size(); ++i) {
    const auto& row = plot.rows[i];
    const double y = top + kRow * (static_cast<double>(i) + 0.5);
    body += fmt::format("<g><title>{}: {}</title>", escape(row.name), escape(row.shown));
    body += plot_text(left - 6, y + 4, shortened(row.name, name_characters), "name", "end");
    body += draw_row(plot, row, x, y) + plot_text(right + 8, y + 4, row.shown, "value") + "</g>\n";
  }
  body += line_from(left, top, left, base, "axis") + line_from(left, base, right, base, "axis");
  body += plot_text((left + right) / 2, base + 34, plot.axis, "label", "middle");
  if (!plot.mark_name.empty()) {
    body += diamond_at(left + 6, 12, "mark") + plot_text(left + 16, 16, plot.mark_name, "tick");
  }
  return svg(plot.text, kWidth, base + 42, body);
}

std::string draw(const LinePlot& plot) {
  double low = INFINITY, high = -INFINITY, first = INFINITY, last = -INFINITY;
  for (const auto& line : plot.lines)
    for (const auto& [x, y] : line.points) {
      first = std::min(first, x), last = std::max(last, x);
      low = std::min(low, y), high = std::max(high, y);
    }
  if (low > high) return "";
  double top = 34;
  std::string body = plot_text(8, 16, plot.y_axis, "label") + line_key(plot, top);
  top += 12;
  const double base = top + 180, left = 62;
  const Axis y = make_axis(low, high, base, top, std::min(0.0, low), high <= 1 ? 1 : INFINITY);
  const Axis x = make_axis(first, last, left, kWidth - 12, -INFINITY, INFINITY, 6);
  for (const double tick : y.ticks()) {
    body += line_from(left, y.at(tick), kWidth - 12, y.at(tick), "grid");
    body += plot_text(left - 6, y.at(tick) + 4, y.label(tick, false), "tick", "end");
  }
  body += line_from(left, base, kWidth - 12, base, "axis");
  for (const double tick : x.ticks()) {
    body += line_from(x.at(tick), base, x.at(tick), base + 4, "axis");
    body += plot_text(x.at(tick), base + 16, x.label(tick, false), "tick", "middle");
  }
  for (std::size_t i = 0; i < plot.lines.size(); ++i) {
    std::string path, marks;
    for (const auto& [px, py] : plot.lines[i].points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x.at(px), y.at(py));
      marks += mark_at(x.at(px), y.at(py), i);
    }
    body += fmt::format("<path d=\"{}\" class=\"line {}\"></path>", path, "bac"[i % 3]) + marks;
  }
  body += plot_text((left + kWidth - 12) / 2, base + 34, plot.x_axis, "label", "middle");
  return svg(plot.text, kWidth, base + 42, body);
}

std::string draw(const ScatterPlot& plot) {
  if (plot.points.empty()) return "";
  constexpr double kTop = 28, kBase = 268, kLeft = 62;
  double low = INFINITY, high = -INFINITY, least = INFINITY, most = 0;
  for (const auto& point : plot.points) {
    for (const auto& y : {std::optional(point.y), point.low, point.high})
      if (y) low = std::min(low, *y), high = std::max(high, *y);
    if (point.x > 0) least = std::min(least, point.x), most = std::max(most, point.x);
  }
  if (!(most > 0)) least = most = 1;
  const Axis y = make_axis(low, high, kBase, kTop, std::min(0.0, low), high <= 1 ? 1 : INFINITY);
  const LogAxis x = make_log_axis(least, most, kLeft + 8, kWidth - 20);
  std::vector<std::string> names;
  const std::vector<std::size_t> groups = groups_of(plot, names);
  std::string body = plot_text(8, 16, plot.y_axis, "label"), marks;
  for (const double tick : y.ticks()) {
    body += line_from(kLeft, y.at(tick), kWidth - 12, y.at(tick), "grid");
    body += plot_text(kLeft - 6, y.at(tick) + 4, y.label(tick, false), "tick", "end");
  }
  body += line_from(kLeft, kBase, kWidth - 12, kBase, "axis");
  for (const double tick : x.ticks()) {
    body += line_from(x.at(tick), kBase, x.at(tick), kBase + 4, "axis");
    body += plot_text(x.at(tick), kBase + 16, short_count(tick), "tick", "middle");
  }
  for (std::size_t i = 0; i < plot.points.size(); ++i) {
    const auto& point = plot.points[i];
    const double at = x.at(point.x);
    if (point.low && point.high)
      for (const char* css : {"range halo", "range"})
        body += line_from(at, y.at(*point.low), at, y.at(*point.high), css);
    marks += fmt::format("<g><title>{}: {:.4f} at {}</title>", escape(point.name), point.y, short_count(point.x));
    marks += mark_at(at, y.at(point.y), groups[i]) +
             plot_text(at + 6, y.at(point.y) - 5, std::to_string(i + 1), "tick strong") + "</g>\n";
  }
  double end = kBase + 62;
  body += marks + plot_text((kLeft + kWidth - 12) / 2, kBase + 34, plot.x_axis, "label", "middle");
  body += point_key(plot, groups, end);
  return svg(plot.text, kWidth, end, body);
}

std::string svg_file(const std::string& plot) {
  constexpr std::string_view kBegin = "<svg ";
  const std::size_t open = plot.find('>');
  if (!plot.starts_with(kBegin) || open == plot.npos) return "";
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" " + plot.substr(kBegin.size(), open + 1 - kBegin.size()) +
         "<style>svg{background:#fff;font:12px sans-serif;fill:#1b1f24}.tick,.label{fill:#57606a}"
         ".strong{fill:#1b1f24;font-weight:600}.grid{stroke:#d8dee4}.axis{stroke:#57606a}"
         ".line{fill:none;stroke-width:2}.line.a{stroke:#b35900}.line.b{stroke:#0b62a8}.line.c{stroke:#57606a}"
         ".point.a{fill:#fff;stroke:#b35900;stroke-width:2}.point.b{fill:#0b62a8}.point.c{fill:#57606a}"
         ".range{stroke:#1b1f24;stroke-width:1}.halo{stroke:#fff;stroke-width:3}</style>" +
         plot.substr(open + 1);
}

std::string draw(const HeatMap& plot) {
  constexpr double kCell = 30, kTop = 8;
  constexpr std::size_t kMostCharacters = 16;
  std::size_t characters = 1;
  for (const auto& label : plot.labels) characters = std::max(characters, count_characters(label));
  const double gutter = kCharacter * static_cast<double>(std::min(characters, kMostCharacters)) + 8;
  const double left = 22 + gutter, size = kCell * static_cast<double>(plot.labels.size());
  const bool slanted = characters > 4;
  const double base = kTop + size, foot = slanted ? gutter * 0.75 + 12 : 18;
  std::string body;
  for (std::size_t r = 0; r < plot.labels.size(); ++r) {
    std::int64_t total = 0;
    for (const std::int64_t count : plot.counts[r]) total += count;
    const double y = kTop + kCell * static_cast<double>(r), middle = left + kCell * (static_cast<double>(r) + 0.5);
    const std::string label = shortened(plot.labels[r], kMostCharacters);
    body += plot_text(left - 6, y + kCell / 2 + 4, label, "name", "end");
    body += slanted ? fmt::format(
                          "<text transform=\"translate({:.1f} {:.1f}) rotate(-45)\" class=\"name\" "
                          "text-anchor=\"end\">{}</text>",
                          middle + 4, base + 12, escape(label))
                    : plot_text(middle, base + 16, label, "name", "middle");
    for (std::size_t c = 0; c < plot.labels.size(); ++c) {
      const std::int64_t count = plot.counts[r][c];
      const double share = total == 0 ? 0 : static_cast<double>(count) / static_cast<double>(total);
      body += draw_cell(left + kCell * static_cast<double>(c), y, kCell, count, share,
                        fmt::format("{} taken for {}: {} of {}", plot.labels[r], plot.labels[c], count, total));
    }
  }
  body += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"frame\"></rect>",
                      left - 1, kTop - 1, size + 1, size + 1);
  body += plot_text(left + size / 2, base + foot + 18, "predicted class", "label", "middle");
  body += fmt::format(
      "<text transform=\"translate(14 {:.1f}) rotate(-90)\" class=\"label\" "
      "text-anchor=\"middle\">true class</text>",
      kTop + size / 2);
  return svg(plot.text, left + size + 12, base + foot + 28, body);
}

}  // namespace recast
