#include "recast/run/stream_figures.h"

#include <fmt/format.h>

#include <algorithm>

#include "recast/base/error.h"
#include "recast/run/figures.h"

namespace recast {
namespace {

std::optional<double> or_nothing(const nlohmann::json& value) {
  return value.is_number() ? std::optional<double>(value.get<double>()) : std::nullopt;
}

void check(const std::vector<StepFigures>& steps) {
  if (steps.empty()) fail(Code::kInvalidArgument, "[stream] no step was measured");
  for (std::size_t s = 0; s < steps.size(); ++s)
    if (steps[s].groups.size() != s + 1)
      fail(Code::kInvalidArgument, "[stream] step {} has accuracies of {} groups, expected {}", s,
           steps[s].groups.size(), s + 1);
}

}  // namespace

StreamFigures stream_figures(const std::vector<StepFigures>& steps) {
  check(steps);
  StreamFigures figures;
  for (const StepFigures& step : steps) figures.average += step.top1 / static_cast<double>(steps.size());
  figures.last = steps.back().top1;
  if (steps.size() < 2) return figures;
  const std::vector<double>& end = steps.back().groups;
  double forgetting = 0, backward = 0, forward = 0;
  std::int64_t compared = 0;
  for (std::size_t g = 0; g + 1 < steps.size(); ++g) {
    double best = 0;
    for (std::size_t s = g; s + 1 < steps.size(); ++s) best = std::max(best, steps[s].groups[g]);
    forgetting += best - end[g];
    backward += end[g] - steps[g].groups[g];
  }
  for (std::size_t g = 1; g < steps.size(); ++g) {
    if (!steps[g].within || !steps[g].alone) continue;
    forward += *steps[g].within - *steps[g].alone;
    ++compared;
  }
  const auto earlier = static_cast<double>(steps.size() - 1);
  figures.forgetting = forgetting / earlier;
  figures.backward_transfer = backward / earlier;
  if (compared > 0) figures.forward_transfer = forward / static_cast<double>(compared);
  return figures;
}

const std::vector<std::pair<std::string, std::string>>& stream_formulas() {
  static const std::vector<std::pair<std::string, std::string>> kFormulas = {
      {"matrix",
       "A[s][g]: share of right answers, after step s, on the test rows of the classes new in step g, all "
       "classes seen by then competing"},
      {"top1", "a_s: the same on the test rows of all classes seen after step s"},
      {"average", "(1/T) sum_s a_s"},
      {"last", "a_T"},
      {"forgetting", "(1/(T-1)) sum_{g<T} (max_{g<=s<T} A[s][g] - A[T][g]), Chaudhry et al. 2018"},
      {"backward_transfer", "(1/(T-1)) sum_{g<T} (A[T][g] - A[g][g]), Lopez-Paz and Ranzato 2017"},
      {"forward_transfer",
       "mean over g>1 of w_g - b_g: accuracy on group g after step g, only its own classes competing, less that of a "
       "head that learned these rows alone; a growing head has no answer for classes to come, so that Lopez-Paz and "
       "Ranzato's A[g-1][g] is 0 by construction"}};
  return kFormulas;
}

nlohmann::json step_json(const StepFigures& step) {
  return {{"classes", step.classes}, {"test_rows", step.test_rows},    {"top1", step.top1},
          {"groups", step.groups},   {"within", or_null(step.within)}, {"alone", or_null(step.alone)}};
}

StepFigures step_of_json(const nlohmann::json& step) {
  try {
    return {step.at("classes"), step.at("test_rows"),          step.at("top1"),
            step.at("groups"),  or_nothing(step.at("within")), or_nothing(step.at("alone"))};
  } catch (const nlohmann::json::exception&) {
    fail(Code::kDataCorruption, "[stream] the figures of a stored step cannot be read");
  }
}

std::string accuracy_matrix_csv(const std::vector<StepFigures>& steps) {
  check(steps);
  std::string text = "step,classes,test_rows,top1";
  for (std::size_t g = 0; g < steps.size(); ++g) text += fmt::format(",group_{}", g);
  text += "\n";
  for (std::size_t s = 0; s < steps.size(); ++s) {
    text += fmt::format("{},{},{},{}", s, steps[s].classes, steps[s].test_rows, steps[s].top1);
    for (std::size_t g = 0; g < steps.size(); ++g)
      text += g < steps[s].groups.size() ? fmt::format(",{}", steps[s].groups[g]) : ",";
    text += "\n";
  }
  return text;
}

namespace {

/// Places of the picture: cells on the left, the curve of top-1 on the right.
struct Layout {
  double cell, left = 52, top = 46, gap = 64, curve = 320;
  double matrix;

  explicit Layout(std::size_t steps)
      : cell(std::clamp(420.0 / static_cast<double>(steps), 14.0, 46.0)), matrix(cell * static_cast<double>(steps)) {}
  double curve_left() const { return left + matrix + gap; }
  double width() const { return curve_left() + curve + 24; }
  double height() const { return top + std::max(matrix, 180.0) + 44; }
  double bottom() const { return height() - 44; }
};

std::string label_at(double x, double y, const char* anchor, std::string_view text, int size = 12) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\">{}</text>\n", x, y, anchor,
                     size, text);
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  return out;
}

/// White at 0, blue at 1; the figure in it where there is room.
std::string cell_at(const Layout& layout, std::size_t s, std::size_t g, double share) {
  const double x = layout.left + layout.cell * static_cast<double>(g),
               y = layout.top + layout.cell * static_cast<double>(s);
  const auto mixed = [&](int full) { return static_cast<int>(255 - share * (255 - full) + 0.5); };
  std::string out = fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"rgb({},{},{})\" stroke=\"#fff\"/>\n",
      x, y, layout.cell, layout.cell, mixed(20), mixed(80), mixed(160));
  if (layout.cell < 22) return out;
  return out +
         fmt::format(
             "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"{}\" fill=\"{}\">{:.0f}</text>\n",
             x + layout.cell / 2, y + layout.cell / 2 + 4, layout.cell < 30 ? 9 : 11, share > 0.55 ? "#fff" : "#222",
             100 * share);
}

std::string curve_of(const Layout& layout, const std::vector<StepFigures>& steps) {
  const double bottom = layout.bottom(), left = layout.curve_left(), right = left + layout.curve;
  const double most = static_cast<double>(steps.back().classes);
  const auto y_of = [&](double share) { return bottom - share * (bottom - layout.top); };
  std::string out, points;
  for (int tick = 0; tick <= 100; tick += 20) {
    const double y = y_of(tick / 100.0);
    out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", left, y,
                       right, y);
    out += label_at(left - 6, y + 4, "end", fmt::format("{} %", tick), 11);
  }
  for (const StepFigures& step : steps) {
    const double x = left + static_cast<double>(step.classes) / most * layout.curve, y = y_of(step.top1);
    points += fmt::format("{}{:.1f},{:.1f}", points.empty() ? "" : " ", x, y);
    out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"#1450a0\"/>\n", x, y);
  }
  out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"#1450a0\" stroke-width=\"1.5\"/>\n", points);
  out += label_at(left, bottom + 18, "middle", "0", 11) +
         label_at(right, bottom + 18, "middle", fmt::format("{}", most), 11);
  return out + label_at((left + right) / 2, bottom + 34, "middle", "classes seen") +
         label_at(left, layout.top - 12, "start", "top-1 of all classes seen");
}

}  // namespace

std::string accuracy_matrix_svg(const std::vector<StepFigures>& steps, const std::string& title) {
  check(steps);
  const Layout layout(steps.size());
  std::string body;
  const std::size_t every = layout.cell < 22 ? 5 : 1;  // numbers that would run into each other
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const double middle = layout.cell * (static_cast<double>(s) + 0.5);
    if (s % every == 0) {
      body += label_at(layout.left - 6, layout.top + middle + 4, "end", std::to_string(s), 11);
      body += label_at(layout.left + middle, layout.top + layout.matrix + 16, "middle", std::to_string(s), 11);
    }
    for (std::size_t g = 0; g < steps[s].groups.size(); ++g) body += cell_at(layout, s, g, steps[s].groups[g]);
  }
  body += label_at(layout.left, layout.top - 12, "start",
                   "accuracy in % after a step (down), by group of classes (across)", 11);
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "font-family=\"sans-serif\" role=\"img\">\n<title>{2}</title>\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"#fff\"/>\n{3}{4}</svg>\n",
      layout.width(), layout.height(), escaped(title), label_at(layout.left, 18, "start", escaped(title), 13),
      body + curve_of(layout, steps));
}

}  // namespace recast
