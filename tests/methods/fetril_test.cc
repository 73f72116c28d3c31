// FeTrIL: the translation, the solver, what it refuses, and what it gains over the means alone.
#include <atomic>

#include "base/log_capture.h"
#include "methods/cifar_case.h"

namespace recast {
namespace {

constexpr std::int64_t kWidth = 16;

at::Tensor unit_rows(const at::Tensor& x) { return x / x.norm(2, {1}, true).clamp_min(1e-12); }

/// Classes 0..2 first, then 3 and 4.
struct TwoSteps {
  explicit TwoSteps(const std::string& plug, std::uint64_t seed = 1) : model(head_model(plug, kWidth)) {
    const Table all = random_table(200, kWidth, 5, seed);
    base = all.rows(all.y.lt(3).nonzero().flatten());
    fresh = all.rows(all.y.ge(3).nonzero().flatten());
  }
  Learned first() const { return learn_table(model, base, 3); }
  Learned second() const { return learn_table(model, fresh, 5, first().model.numbers()); }

  Model model;
  Table base, fresh;
};

at::Tensor mean_of(const Table& table, std::int64_t c) {
  return table.x.index_select(0, table.y.eq(c).nonzero().flatten()).to(at::kDouble).mean(0);
}

/// The pseudo-features of a known class, as the paper makes them.
Table pseudo(const TwoSteps& run, std::int64_t p) {
  const at::Tensor mu = mean_of(run.base, p), three = mean_of(run.fresh, 3), four = mean_of(run.fresh, 4);
  const std::int64_t j = (mu - three).norm().item<double>() <= (mu - four).norm().item<double>() ? 3 : 4;
  const at::Tensor rows = run.fresh.x.index_select(0, run.fresh.y.eq(j).nonzero().flatten()).to(at::kDouble);
  return {rows - mean_of(run.fresh, j) + mu, at::full({rows.size(0)}, p, at::kLong)};
}

TEST(Fetril, KeepsTheMeansOfTheClassesAndNeverMovesThem) {
  const TwoSteps run("fetril");
  const Learned first = run.first(), second = run.second();
  const at::Tensor before = shared_of(first).tensor("centroid"), after = shared_of(second).tensor("centroid");
  for (std::int64_t c = 0; c < 5; ++c)
    EXPECT_LT((after[c] - mean_of(c < 3 ? run.base : run.fresh, c)).abs().max().item<double>(), 1e-6) << c;
  EXPECT_TRUE(at::equal(after.narrow(0, 0, 3), before));
}

TEST(Fetril, BorrowedRowsHaveTheMeanOfTheOldClassAndTheSpreadOfTheNew) {
  const TwoSteps run("fetril");
  const auto spread = [](const at::Tensor& x) {
    const at::Tensor centred = x - x.mean(0);
    return at::matmul(centred.t(), centred) / static_cast<double>(x.size(0));
  };
  for (std::int64_t p = 0; p < 3; ++p) {
    const Table rows = pseudo(run, p);
    EXPECT_LT((rows.x.mean(0) - mean_of(run.base, p)).abs().max().item<double>(), 1e-6);
    double nearest = 1e9;
    for (const std::int64_t j : {3, 4}) {
      const at::Tensor own = run.fresh.x.index_select(0, run.fresh.y.eq(j).nonzero().flatten()).to(at::kDouble);
      nearest = std::min(nearest, (spread(own) - spread(rows.x)).abs().max().item<double>());
    }
    EXPECT_LT(nearest, 1e-6);
  }
}

TEST(Fetril, TheHeadIsThatOfTheRowsAndTheBorrowedOnesTogether) {
  RECAST_NEED_PYTHON("sklearn, safetensors");
  const TwoSteps run("fetril");
  Table rows{run.fresh.x.to(at::kDouble), run.fresh.y};
  for (std::int64_t p = 0; p < 3; ++p) rows = joined(rows, pseudo(run, p));
  TensorFile question;
  question.tensors = {{"x", unit_rows(rows.x)}, {"label", rows.y}};
  question.metadata["svm"] = "1";
  const NamedTensors expected = python_reference("digits.py", question);
  const Learned second = run.second();
  EXPECT_LT((shared_of(second).tensor("weight") - expected.at("weight")).abs().max().item<double>(), 1e-3);
  EXPECT_LT((shared_of(second).tensor("bias") - expected.at("bias")).abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(at::equal(logits_of(second.model, rows.x.to(at::kFloat)).argmax(1), expected.at("answers")));
}

TEST(Fetril, WithoutKnownClassesItIsTheSvmOfScikitLearn) {
  RECAST_NEED_PYTHON("sklearn, safetensors");
  const TwoSteps run("fetril", 2);
  TensorFile question;
  question.tensors = {{"x", unit_rows(run.base.x.to(at::kDouble))}, {"label", run.base.y}};
  question.metadata["svm"] = "1";
  const NamedTensors expected = python_reference("digits.py", question);
  const Learned first = run.first();
  EXPECT_LT((shared_of(first).tensor("weight") - expected.at("weight")).abs().max().item<double>(), 1e-3);
  EXPECT_LT((shared_of(first).tensor("bias") - expected.at("bias")).abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(at::equal(logits_of(first.model, run.base.x).argmax(1), expected.at("answers")));
}

TEST(Fetril, OfAClassThatIsATranslatedCopyTheHeadIsThatOfItsOwnRows) {
  // Class 0 has the very rows of class 1, elsewhere; 1 comes later.
  const Table cloud = random_table(80, kWidth, 1, 4);
  const at::Tensor shift = Key(5).normal({kWidth}) * 3;
  const Table old{cloud.x + shift, at::zeros({80}, at::kLong)}, fresh{cloud.x, at::ones({80}, at::kLong)};
  const Model model = head_model("fetril", kWidth);
  const Learned stream = learn_table(model, fresh, 2, learn_table(model, old, 1).model.numbers());
  const Learned joint = learn_table(model, joined(old, fresh), 2);
  EXPECT_LT((shared_of(stream).tensor("weight") - shared_of(joint).tensor("weight")).abs().max().item<double>(), 1e-3);
}

TEST(Fetril, TheOrderOfKnownClassesDoesNotMatter) {
  const TwoSteps run("fetril", 6);
  const at::Tensor turned = at::tensor({2, 0, 1}, at::kLong);  // old column of each class
  const Table other{run.base.x, turned.index_select(0, run.base.y)};
  const Learned one = run.second();
  const Learned two = learn_table(run.model, run.fresh, 5, learn_table(run.model, other, 3).model.numbers());
  const at::Tensor a = shared_of(one).tensor("weight"), b = shared_of(two).tensor("weight");
  EXPECT_LT((b.index_select(0, turned) - a.narrow(0, 0, 3)).abs().max().item<double>(), 1e-3);
  EXPECT_LT((b.narrow(0, 3, 2) - a.narrow(0, 3, 2)).abs().max().item<double>(), 1e-3);
}

TEST(Fetril, LearnsASoftmaxHeadOnTheRowsAsTheyAre) {
  const TwoSteps run("fetril:head=fc", 7);
  const Learned second = run.second();
  const Table all = joined(run.base, run.fresh);
  EXPECT_GT(accuracy_of(second.model, all), 0.9);
  const at::Tensor logits = logits_of(second.model, all.x);
  const State& own = shared_of(second);
  EXPECT_LT((logits - at::linear(all.x, own.tensor("weight"), own.tensor("bias"))).abs().max().item<double>(), 1e-5);
}

/// W0 and b0, where a softmax head starts from: what a rate of nothing leaves.
Learned where_it_starts(const Table& table, std::int64_t classes, const Numbers& before = {}) {
  return learn_table(head_model("fetril:head=fc,epochs=1,rate=1e-30", kWidth), table, classes, before);
}

TEST(Fetril, TheSoftmaxHeadMovesAsSgdWithMomentumAlongACosine) {
  // Two epochs of one batch each: at rate and at half of it, from where the head of the first step stood.
  const std::string plug = "fetril:head=fc,epochs=2,batch=1000,rate=0.05,momentum=0.9,decay=0.01";
  const TwoSteps run(plug, 12);
  const Learned first = run.first(), second = run.second();
  Table rows{run.fresh.x.to(at::kDouble), run.fresh.y};
  for (std::int64_t p = 0; p < 3; ++p) rows = joined(rows, pseudo(run, p));
  const Learned there = where_it_starts(run.fresh, 5, first.model.numbers());
  const State& start = shared_of(there);
  for (const char* family : {"weight", "bias"})
    EXPECT_TRUE(at::equal(start.tensor(family).narrow(0, 0, 3), shared_of(first).tensor(family))) << family;
  at::Tensor w = start.tensor("weight").to(at::kDouble), b = start.tensor("bias").to(at::kDouble);
  at::Tensor w_speed = at::zeros_like(w), b_speed = at::zeros_like(b);
  for (const double rate : {0.05, 0.025}) {
    const at::Tensor error =
        (at::softmax(at::linear(rows.x, w, b), 1) - at::one_hot(rows.y, 5)) / static_cast<double>(rows.y.size(0));
    w_speed = 0.9 * w_speed + at::matmul(error.t(), rows.x) + 0.01 * w;
    b_speed = 0.9 * b_speed + error.sum(0) + 0.01 * b;
    w = w - rate * w_speed, b = b - rate * b_speed;
  }
  EXPECT_LT((shared_of(second).tensor("weight") - w).abs().max().item<double>(), 1e-5);
  EXPECT_LT((shared_of(second).tensor("bias") - b).abs().max().item<double>(), 1e-5);
  EXPECT_GT((start.tensor("weight") - w).abs().max().item<double>(), 1e-3);
}

TEST(Fetril, ByCosineItBorrowsOfTheClassInTheSameDirection) {
  // Class 0 is nearer to class 1, and points where class 2 does.
  const Table cloud = random_table(90, kWidth, 1, 13);
  const at::Tensor to = at::zeros({3, kWidth});
  to[0][0] = 4, to[1][1] = 4, to[2][0] = 20;
  const auto of_class = [&](std::int64_t c) {
    const Table rows = cloud.rows(30 * c, 30 * c + 30);
    return Table{rows.x - rows.x.mean(0) + to[c], at::full({30}, c, at::kLong)};
  };
  const Table old = of_class(0), fresh = joined(of_class(1), of_class(2));
  for (const auto& [similarity, lender] : {std::pair{"euclidean", 1}, std::pair{"cosine", 2}}) {
    const Model model = head_model(std::string("fetril:similarity=") + similarity, kWidth);
    const Learned stream = learn_table(model, fresh, 3, learn_table(model, old, 1).model.numbers());
    const Table borrowed{of_class(lender).x - to[lender] + to[0], at::zeros({30}, at::kLong)};
    const Learned expected = learn_table(model, joined(borrowed, fresh), 3);
    EXPECT_LT((shared_of(stream).tensor("weight") - shared_of(expected).tensor("weight")).abs().max().item<double>(),
              1e-3)
        << similarity;
  }
}

TEST(Fetril, BorrowsNoMoreRowsThanItMay) {
  const TwoSteps few("fetril:max_pseudo_per_class=5", 8);
  Table rows = few.fresh;
  for (std::int64_t p = 0; p < 3; ++p) {  // evenly spaced over the rows of the lender
    const Table all = pseudo(few, p);
    const at::Tensor chosen = at::arange(5).mul(all.y.size(0)).floor_divide(5);
    rows = joined(rows, {all.x.index_select(0, chosen).to(at::kFloat), all.y.index_select(0, chosen)});
  }
  const Learned joint = learn_table(head_model("fetril", kWidth), rows, 5);
  const at::Tensor expected = shared_of(joint).tensor("weight");
  EXPECT_LT((shared_of(few.second()).tensor("weight") - expected).abs().max().item<double>(), 1e-3);
  const TwoSteps all("fetril", 8);
  EXPECT_GT((shared_of(all.second()).tensor("weight") - expected).abs().max().item<double>(), 1e-2);
  EXPECT_TRUE(at::equal(shared_of(all.first()).tensor("weight"), shared_of(few.first()).tensor("weight")))
      << "nothing is borrowed in the first step";
}

TEST(Fetril, RefusesAClassThatWasLearnedOneWithoutRowsAndOtherCentroids) {
  const TwoSteps run("fetril", 9);
  const Learned first = run.first();
  const std::string known =
      error_of(Code::kInvalidArgument, [&] { learn_table(run.model, run.base, 5, first.model.numbers()); });
  EXPECT_NE(known.find("'class 0' was learned before"), known.npos) << known;
  const std::string empty =
      error_of(Code::kUnsupported, [&] { learn_table(run.model, run.fresh, 6, first.model.numbers()); });
  EXPECT_NE(empty.find("'class 5' has no training row"), empty.npos) << empty;
  const std::string width = error_of(Code::kShapeMismatch, [&] {
    const Table wide = random_table(20, 32, 5, 1);
    learn_table(head_model("fetril", 32), wide, 5, first.model.numbers());
  });
  EXPECT_NE(width.find("16 wide"), width.npos) << width;
  Table bad = run.base;
  bad.x = bad.x.clone();
  bad.x[4][0] = NAN;
  const std::string nan = error_of(Code::kDataCorruption, [&] { learn_table(run.model, bad, 3); });
  EXPECT_NE(nan.find("sample 4"), nan.npos) << nan;
  ClassIncremental mixed = stream_of(run.model, {joined(run.base, run.fresh), run.fresh}, 5, {.increment = 2});
  error_of(Code::kUnsupported, [&] { check_stream(mixed.start.recipe(), StreamKind::kMixed); });
}

TEST(Fetril, TellsOfRowsOfZerosAndOfClassesOfOneRow) {
  const LogCapture log(LogLevel::kWarn);
  Table table = random_table(20, kWidth, 2, 10);
  table.x[0].zero_();
  table = joined(table, {random_table(1, kWidth, 1, 11).x, at::full({1}, 2, at::kLong)});
  const Learned learned = learn_table(head_model("fetril", kWidth), table, 3);
  EXPECT_TRUE(logits_of(learned.model, table.x).isfinite().all().item<bool>());
  EXPECT_EQ(log.names(), (std::vector<std::string>{"fetril.single_row", "fetril.zero_rows"}));
}

TEST(FetrilEffect, LearnsDigitsBetterThanTheirMeans) {
  RECAST_NEED_PYTHON("sklearn, safetensors");
  StreamOptions options;
  options.base = 4;
  options.increment = 2;
  double gain = 0;
  for (const int seed : {0, 1, 2}) {
    const Digits data = digits(seed);
    const StreamFigures ours = learn_digits("fetril", data, options), means = learn_digits("ncm", data, options);
    std::printf("digits, seed %d: fetril average %.4f last %.4f, nearest class mean average %.4f\n", seed, ours.average,
                ours.last, means.average);
    EXPECT_GE(ours.last, 0.88);
    gain += (ours.average - means.average) / 3;
  }
  EXPECT_GE(gain, 0.01);
}

/// Average incremental accuracy of a head whose old rows stand still while those of the new classes learn alone.
double rows_one_by_one(const ClassIncremental& setting) {
  at::Tensor weight, bias;
  std::vector<StepFigures> steps;
  const at::Tensor columns = at::tensor(setting.train.columns, at::kLong);
  double average = 0;
  for (std::size_t s = 0; s < setting.stream.steps.size(); ++s) {
    const StreamStep& step = setting.stream.steps[s];
    const Batch rows =
        *setting.train.source->open(step.rows, static_cast<std::int64_t>(step.rows.size()), false, Key(0))->next();
    const Learned alone =
        learn_table(setting.start, {rows.column("features"), rows.column("label") - step.first}, step.classes);
    const State& own = shared_of(alone);
    weight = s == 0 ? own.tensor("weight") : at::cat({weight, own.tensor("weight")});
    bias = s == 0 ? own.tensor("bias") : at::cat({bias, own.tensor("bias")});
    std::vector<std::int64_t> seen;
    for (std::size_t i = 0; i < setting.test.columns.size(); ++i)
      if (setting.test.columns[i] < setting.stream.seen(s)) seen.push_back(static_cast<std::int64_t>(i));
    const auto count = static_cast<std::int64_t>(seen.size());
    const Batch test = *setting.test.source->open(seen, count, false, Key(0))->next();
    const at::Tensor answers = at::linear(unit_rows(test.column("features")), weight, bias).argmax(1);
    average += answers.eq(test.column("label")).to(at::kDouble).mean().item<double>() /
               static_cast<double>(setting.stream.steps.size());
  }
  return average;
}

/// The method's description expects two points above class means and ten above rows that stand still. On the 64
/// features of this network, which knows its own training images too well, it gains less (docs/results.md), so what is
/// held here is the order alone.
TEST(FetrilEffect, LearnsCifarInFiveAndTenSteps) {
  RECAST_NEED_CIFAR_STREAM();
  const CifarCase cifar;
  for (const std::int64_t increment : {10, 5}) {
    const ClassIncremental setting = cifar.stream("fetril", increment);
    const StreamFigures ours = stream_figures(figures_of(learn_stream(setting)));
    const StreamFigures means = stream_figures(figures_of(learn_stream(cifar.stream("ncm", increment))));
    const double still = rows_one_by_one(setting);
    std::printf(
        "CIFAR-100, %d steps: fetril average %.4f last %.4f, nearest class mean average %.4f, old rows still %.4f\n",
        static_cast<int>(50 / increment), ours.average, ours.last, means.average, still);
    EXPECT_GT(ours.average, means.average);
    EXPECT_GT(ours.average, still);
  }
}

}  // namespace
}  // namespace recast
