#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace recast {

// Plots as inline SVG, 420 units wide, coloured by the page's style sheet (report_page.cc). Texts are plain; they are
// escaped here. Every plot has a title and a description for those who do not see it.

struct PlotText {
  std::string id;  ///< unique on the page: letters, digits, . _ -
  std::string title, description;
};

/// A value per epoch. Epochs lie in stages side by side; a stage of one epoch is a point under its own name.
struct CurvePlot {
  struct Line {
    std::string name;
    std::vector<std::optional<double>> values;  ///< one per epoch, absent where it was not measured
  };
  struct Stage {
    std::string name;
    std::size_t first = 0, count = 0;  ///< epochs of `values`
  };
  PlotText text;
  std::string axis;
  bool share = false;               ///< values are shares, shown in percent
  std::vector<Line> lines;          ///< at most two
  std::vector<Stage> stages;        ///< in order, covering every epoch
  std::optional<std::size_t> kept;  ///< epoch that is ringed on the last line
};
std::string draw(const CurvePlot& plot);

/// A value per row, rows from top to bottom: bars from zero, or dots where zero would hide what differs.
struct RowPlot {
  struct Row {
    std::string name;
    double value = 0;
    std::string shown;                ///< the value as text beside it
    std::optional<double> low, high;  ///< interval around it
    std::optional<double> mark;       ///< a second value, as a diamond
  };
  PlotText text;
  std::string axis;
  bool bars = true, share = false;
  std::optional<double> maximum;  ///< end of the axis; absent: what the values need
  std::string mark_name;          ///< what diamonds are; empty: none
  std::vector<Row> rows;
};
std::string draw(const RowPlot& plot);

/// Values over a number, at most six lines: they differ in colour and mark, and a key names them.
struct LinePlot {
  struct Line {
    std::string name;
    std::vector<std::pair<double, double>> points;  ///< x ascending
  };
  PlotText text;
  std::string x_axis, y_axis;
  std::vector<Line> lines;
};
std::string draw(const LinePlot& plot);

/// Points over a number on a logarithmic axis, each called by its number: a key below the plot names them. Points of a
/// group share colour and mark, six groups at most tell apart.
struct ScatterPlot {
  struct Point {
    std::string name, group;
    double x = 0;  ///< above 0; others lie at the axis' beginning
    double y = 0;
    std::optional<double> low, high;  ///< interval around y
  };
  PlotText text;
  std::string x_axis, y_axis;
  std::vector<Point> points;
};
std::string draw(const ScatterPlot& plot);

/// A plot of draw() as an SVG file of its own, in the colours of a bright page; empty for an empty one.
std::string svg_file(const std::string& plot);

/// Counts [truth][answer], shaded by their share of the row.
struct HeatMap {
  PlotText text;
  std::vector<std::string> labels;
  std::vector<std::vector<std::int64_t>> counts;
};
std::string draw(const HeatMap& plot);

}  // namespace recast
