// Streams of classes: their order, how rows are dealt out, what is reckoned from the matrix.
#include "recast/run/class_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "format/expect_error.h"
#include "format/python_tool.h"
#include "recast/run/stream_figures.h"

namespace recast {
namespace {

/// `per_class` rows of each class, interleaved.
std::vector<std::int64_t> labels(std::int64_t classes, std::int64_t per_class) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < classes * per_class; ++i) out.push_back(i % classes);
  return out;
}

StreamOptions options(std::int64_t base, std::int64_t increment, StreamKind kind = StreamKind::kDisjoint) {
  StreamOptions out;
  out.base = base;
  out.increment = increment;
  out.kind = kind;
  return out;
}

TEST(ClassOrder, OfSeed1993IsTheOneOfTheField) {
  const std::vector<std::int64_t> order = numpy_permutation(1993, 100);
  const std::vector<std::int64_t> first = {68, 56, 78, 8, 23, 84, 90, 65, 74, 76};
  EXPECT_TRUE(std::equal(first.begin(), first.end(), order.begin()));
  EXPECT_EQ(order.back(), 33);
  EXPECT_EQ(numpy_permutation(1993, 10), (std::vector<std::int64_t>{4, 2, 7, 6, 0, 3, 5, 8, 9, 1}));
  EXPECT_EQ(numpy_permutation(5, 1), (std::vector<std::int64_t>{0}));
}

TEST(ClassOrder, IsNumpysForAnySeedAndSize) {
  RECAST_NEED_PYTHON("numpy");
  std::string expected, ours;
  for (const std::uint32_t seed : {0u, 1u, 42u, 1993u, 4294967295u})
    for (const std::int64_t n : {2, 3, 17, 64, 65, 1000})
      for (const std::int64_t c : numpy_permutation(seed, n)) ours += std::to_string(c) + " ";
  const Outcome outcome =
      run_program({python_path(), "-c",
                   "import numpy as np\n"
                   "for s in (0, 1, 42, 1993, 4294967295):\n"
                   "    for n in (2, 3, 17, 64, 65, 1000): print(*np.random.RandomState(s).permutation(n), end=' ')"});
  ASSERT_EQ(outcome.status, 0) << outcome.text;
  EXPECT_EQ(ours, outcome.text);
}

TEST(ClassStream, DropsNoClassWhereTheStepsAreUneven) {
  const ClassStream stream = make_stream(labels(10, 4), 10, options(4, 4));
  ASSERT_EQ(stream.steps.size(), 3u);
  EXPECT_EQ(stream.steps[2].classes, 2);
  EXPECT_EQ(stream.seen(2), 10);
  EXPECT_EQ(make_stream(labels(10, 4), 10, options(0, 3)).steps.size(), 4u);
  EXPECT_EQ(make_stream(labels(10, 4), 10, options(10, 5)).steps.size(), 1u);
  for (std::int64_t c = 0; c < 10; ++c) EXPECT_EQ(stream.order[static_cast<std::size_t>(stream.column[c])], c);
}

TEST(ClassStream, DisjointStepsHoldAllRowsOfTheirClassesOnce) {
  const std::vector<std::int64_t> of = labels(10, 7);
  const ClassStream stream = make_stream(of, 10, options(4, 3));
  std::set<std::int64_t> seen;
  for (const StreamStep& step : stream.steps) {
    EXPECT_EQ(step.rows.size(), static_cast<std::size_t>(7 * step.classes));
    EXPECT_TRUE(std::is_sorted(step.rows.begin(), step.rows.end()));
    for (const std::int64_t row : step.rows) {
      EXPECT_TRUE(seen.insert(row).second);
      const std::int64_t column = stream.column[static_cast<std::size_t>(of[static_cast<std::size_t>(row)])];
      EXPECT_TRUE(column >= step.first && column < step.first + step.classes);
    }
  }
  EXPECT_EQ(seen.size(), of.size());
}

/// By class of the dataset: the steps that it comes in, with how many rows.
std::vector<std::map<std::size_t, std::size_t>> visits(const ClassStream& stream, const std::vector<std::int64_t>& of) {
  std::vector<std::map<std::size_t, std::size_t>> out(stream.order.size());
  for (std::size_t s = 0; s < stream.steps.size(); ++s)
    for (const std::int64_t row : stream.steps[s].rows)
      ++out[static_cast<std::size_t>(of[static_cast<std::size_t>(row)])][s];
  return out;
}

TEST(ClassStream, MixedSpreadsAShareOfTheClassesAndEveryRowComesOnce) {
  const std::vector<std::int64_t> of = labels(20, 50);
  const ClassStream stream = make_stream(of, 20, options(8, 2, StreamKind::kMixed));
  std::multiset<std::int64_t> rows;
  for (const StreamStep& step : stream.steps) rows.insert(step.rows.begin(), step.rows.end());
  EXPECT_EQ(rows.size(), of.size());
  EXPECT_EQ(std::set<std::int64_t>(rows.begin(), rows.end()).size(), of.size()) << "a row came twice";
  int recur = 0;
  std::set<std::size_t> sizes;
  const auto by_class = visits(stream, of);
  for (std::size_t c = 0; c < by_class.size(); ++c) {
    std::size_t own = 0;
    while (stream.column[c] >= stream.seen(own)) ++own;
    EXPECT_EQ(by_class[c].begin()->first, own) << "a class is new in its own step";
    recur += by_class[c].size() > 1;
    for (const auto& [step, count] : by_class[c]) sizes.insert(count);
  }
  EXPECT_GE(recur, 8);
  EXPECT_LE(recur, 10);  // half of them, of which those of the last step cannot come back
  EXPECT_GT(sizes.size(), 10u) << "sizes are not random";
}

TEST(ClassStream, RecurringBringsKnownClassesBackWithSomeOfTheirRows) {
  const std::vector<std::int64_t> of = labels(20, 50);
  const ClassStream stream = make_stream(of, 20, options(8, 2, StreamKind::kRecurring));
  const auto by_class = visits(stream, of);
  int comes = 0, could = 0;
  for (std::size_t c = 0; c < by_class.size(); ++c) {
    EXPECT_EQ(by_class[c].begin()->second, 50u) << "all rows of a class come in its own step";
    comes += static_cast<int>(by_class[c].size()) - 1;
    could += static_cast<int>(stream.steps.size() - 1 - by_class[c].begin()->first);
  }
  EXPECT_NEAR(static_cast<double>(comes) / could, 0.5, 0.15);
  for (const StreamStep& step : stream.steps)
    EXPECT_EQ(std::set<std::int64_t>(step.rows.begin(), step.rows.end()).size(), step.rows.size());
  StreamOptions never = options(8, 2, StreamKind::kRecurring);
  never.share = 0;
  EXPECT_EQ(make_stream(of, 20, never).steps[3].rows, make_stream(of, 20, options(8, 2)).steps[3].rows);
}

TEST(ClassStream, RefusesWhatCannotBeAStream) {
  const auto refused = [&](const StreamOptions& bad, std::vector<std::int64_t> of = labels(10, 4)) {
    return error_of(Code::kInvalidArgument, [&] { make_stream(of, 10, bad); });
  };
  EXPECT_NE(refused(options(4, 0)).find("--increment"), std::string::npos);
  EXPECT_NE(refused(options(11, 1)).find("the data has 10"), std::string::npos);
  EXPECT_NE(refused(options(-1, 1)).find("--base"), std::string::npos);
  StreamOptions bad = options(4, 2);
  bad.share = 1.5;
  EXPECT_NE(refused(bad).find("--share"), std::string::npos);
  bad = options(4, 2);
  bad.class_seed = -1;
  EXPECT_NE(refused(bad).find("--class-seed"), std::string::npos);
  EXPECT_NE(refused(options(4, 2), labels(9, 4)).find("class 9 has no training row"), std::string::npos);
  EXPECT_THROW(parse_stream_kind("blurry"), Error);
  EXPECT_EQ(parse_stream_kind("mixed"), StreamKind::kMixed);
}

std::vector<StepFigures> example() {
  return {{2, 20, 0.9, {0.9}, 0.9, 0.9}, {4, 40, 0.7, {0.6, 0.8}, 0.95, 0.85}, {6, 60, 0.6, {0.7, 0.5, 0.6}, 0.7, 0.8}};
}

TEST(StreamFigures, AreTheirFormulas) {
  const StreamFigures figures = stream_figures(example());
  EXPECT_DOUBLE_EQ(figures.average, (0.9 + 0.7 + 0.6) / 3);
  EXPECT_DOUBLE_EQ(figures.last, 0.6);
  EXPECT_NEAR(*figures.forgetting, ((0.9 - 0.7) + (0.8 - 0.5)) / 2, 1e-12);
  EXPECT_NEAR(*figures.backward_transfer, ((0.7 - 0.9) + (0.5 - 0.8)) / 2, 1e-12);
  EXPECT_NEAR(*figures.forward_transfer, ((0.95 - 0.85) + (0.7 - 0.8)) / 2, 1e-12);
  for (const auto& [name, formula] : stream_formulas()) EXPECT_FALSE(formula.empty()) << name;
}

TEST(StreamFigures, OfOneStepHasNothingToForget) {
  const StreamFigures figures = stream_figures({example().front()});
  EXPECT_EQ(figures.average, 0.9);
  EXPECT_FALSE(figures.forgetting || figures.backward_transfer || figures.forward_transfer);
  error_of(Code::kInvalidArgument, [] { stream_figures({}); });
  error_of(Code::kInvalidArgument, [] { stream_figures({{2, 20, 0.9, {0.9, 0.8}, {}, {}}}); });
}

TEST(StreamFigures, PassThroughJsonAndCsv) {
  for (StepFigures step : example()) {
    step.alone.reset();
    const StepFigures again = step_of_json(step_json(step));
    EXPECT_EQ(again.groups, step.groups);
    EXPECT_EQ(again.within, step.within);
    EXPECT_FALSE(again.alone);
  }
  EXPECT_EQ(accuracy_matrix_csv(example()),
            "step,classes,test_rows,top1,group_0,group_1,group_2\n0,2,20,0.9,0.9,,\n1,4,40,0.7,0.6,0.8,\n"
            "2,6,60,0.6,0.7,0.5,0.6\n");
  const std::string svg = accuracy_matrix_svg(example(), "a <b> & c");
  EXPECT_NE(svg.find("xmlns=\"http://www.w3.org/2000/svg\""), svg.npos);
  EXPECT_NE(svg.find("a &lt;b&gt; &amp; c"), svg.npos);
  EXPECT_EQ(std::count(svg.begin(), svg.end(), '<'), std::count(svg.begin(), svg.end(), '>'));
}

}  // namespace
}  // namespace recast
