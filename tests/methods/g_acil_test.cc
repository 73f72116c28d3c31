// G-ACIL: that a stream gives what all of it at once gives, what it refuses, and what it is worth.
#include <numeric>

#include "methods/cifar_case.h"

namespace recast {
namespace {

constexpr std::int64_t kWidth = 16, kClasses = 6;
const std::string kPlug = "g-acil:width=96", kRecursive = "g-acil:width=96,form=recursive";

/// X of the rows: relu(x V^T), V as the paper draws it.
at::Tensor expansion(const Learned& learned, const at::Tensor& x, std::int64_t width) {
  const auto seed = static_cast<std::uint64_t>(shared_of(learned).integer("seed"));
  const at::Tensor v = (Key(seed).uniform({width, x.size(1)}).to(at::kDouble) * 2 - 1) / std::sqrt(double(x.size(1)));
  return at::relu(at::matmul(x.to(at::kDouble), v.t()));
}

/// The ridge regression on all rows at once, [C, d].
at::Tensor joint(const at::Tensor& x, const at::Tensor& y, std::int64_t classes, double gamma = 0.1) {
  const at::Tensor a = at::matmul(x.t(), x) + gamma * at::eye(x.size(1), at::kDouble);
  return at::linalg_solve(a, at::matmul(x.t(), at::one_hot(y, classes).to(at::kDouble))).t();
}

/// A piece of a stream, and the classes known once it came.
struct Piece {
  Table rows;
  std::int64_t classes;
};

/// Cut after these rows; the columns are those seen so far.
std::vector<Piece> cut(const Table& table, const std::vector<std::int64_t>& ends) {
  std::vector<Piece> pieces;
  std::int64_t from = 0, classes = 0;
  for (const std::int64_t end : ends) {
    const Table rows = table.rows(from, end);
    classes = std::max(classes, rows.y.max().item<std::int64_t>() + 1);
    pieces.push_back({rows, classes});
    from = end;
  }
  return pieces;
}

/// Seven ways through the same 120 rows.
std::vector<std::vector<Piece>> seven_streams(const Table& table) {
  const at::Tensor shuffled = at::tensor(Key(3).permutation(120), at::kLong),
                   by_class = at::argsort(table.y, true, 0, false);
  std::vector<std::int64_t> one_by_one(120);
  std::iota(one_by_one.begin(), one_by_one.end(), 1);
  return {cut(table, {120}),
          cut(table, {1, 7, 60, 61, 120}),
          cut(table.rows(shuffled), {30, 31, 90, 120}),
          cut(table.rows(by_class), {40, 80, 120}),
          cut(table.rows(by_class), one_by_one),
          cut(joined(table.rows(by_class).rows(0, 70), table.rows(by_class).rows(70, 120)), {70, 75, 120}),
          cut(table, {119, 120})};
}

Learned learn_pieces(const std::string& plug, const std::vector<Piece>& pieces) {
  const Model model = head_model(plug, kWidth);
  std::optional<Learned> learned;
  for (const Piece& piece : pieces)
    learned.emplace(learn_table(model, piece.rows, piece.classes, learned ? learned->model.numbers() : Numbers()));
  return *learned;
}

TEST(Gacil, RecursionSumsAndOneJointSolveAgreeOnSevenStreams) {
  const Table table = random_table(120, kWidth, kClasses, 1);
  for (const std::vector<Piece>& pieces : seven_streams(table)) {
    SCOPED_TRACE(pieces.size());
    const Learned sums = learn_pieces(kPlug, pieces);
    const at::Tensor expected = joint(expansion(sums, table.x, 96), table.y, kClasses);
    EXPECT_LT(relative_difference(shared_of(sums).tensor("weight"), expected), 1e-6);
    const Learned recursive = learn_pieces(kRecursive, pieces);
    EXPECT_LT(relative_difference(shared_of(recursive).tensor("weight"), expected), 1e-6);
  }
}

TEST(Gacil, AConstantBesideTheExpansionIsPartOfTheRegression) {
  const Table table = random_table(90, kWidth, kClasses, 2);
  const Learned learned = learn_table(head_model("g-acil:width=64,bias=true", kWidth), table, kClasses);
  const at::Tensor x = at::cat({expansion(learned, table.x, 64), at::ones({90, 1}, at::kDouble)}, 1);
  EXPECT_LT(relative_difference(shared_of(learned).tensor("weight"), joint(x, table.y, kClasses)), 1e-9);
}

TEST(Gacil, RowsTakenOutAgainLeaveNoTrace) {
  const Table table = random_table(100, kWidth, kClasses, 3);
  const Model model = head_model(kPlug, kWidth);
  const Learned kept = learn_table(model, table.rows(0, 70), kClasses), all = learn_table(model, table, kClasses);
  Model without = all.model;
  State own = shared_of(all).clone();
  Batch out = batch_of(table.rows(70, 100));
  out.at["weight"] = at::full({30}, -1.0f);
  without.recipe().head().roles.head->observe(out.at, {}, out, own);
  without.numbers().at("g-acil", Scope::kShared) = own;
  const at::Tensor expected = logits_of(kept.model, table.x);
  EXPECT_LT(relative_difference(logits_of(without, table.x), expected), 1e-6);
  EXPECT_GT(relative_difference(logits_of(all.model, table.x), expected), 1e-2) << "the rows made no difference";
}

TEST(Gacil, SumsOfTwoHoldersOfDataAreThoseOfAll) {
  const Table table = random_table(100, kWidth, kClasses, 4);
  const Model model = head_model(kPlug, kWidth);
  const Learned all = learn_table(model, table, kClasses), first = learn_table(model, table.rows(0, 45), kClasses);
  const State other = shared_of(learn_table(model, table.rows(45, 100), kClasses)).clone();
  Model pooled = first.model;
  State& state = pooled.numbers().at("g-acil", Scope::kShared);
  for (const char* name : {"half", "moment"}) state.set(name, state.tensor(name) + other.tensor(name));
  state.erase("weight");
  EXPECT_LT(relative_difference(logits_of(pooled, table.x), logits_of(all.model, table.x)), 1e-6);
}

TEST(Gacil, IdentityIsTheRidgeOfScikitLearn) {
  RECAST_NEED_PYTHON("sklearn, safetensors");
  const Table table = random_table(150, kWidth, kClasses, 5);
  TensorFile question;
  question.tensors = {{"x", table.x}, {"y", at::one_hot(table.y, kClasses).to(at::kFloat)}};
  question.metadata["ridge"] = "0.1";
  const at::Tensor expected = python_reference("digits.py", question).at("weight");
  const Learned learned = learn_table(head_model("g-acil:expansion=identity", kWidth), table, kClasses);
  EXPECT_LT(relative_difference(shared_of(learned).tensor("weight"), expected), 1e-9);
}

TEST(Gacil, KeepsOneTriangleOfItsSquareMatrix) {
  const Table table = random_table(40, kWidth, kClasses, 6);
  for (const std::int64_t width : {std::int64_t{96}, std::int64_t{33}}) {
    const Learned learned = learn_table(head_model("g-acil:width=" + std::to_string(width), kWidth), table, kClasses);
    const State& own = shared_of(learned);
    EXPECT_FALSE(own.has("gram"));
    const std::int64_t h = (width + 1) / 2;
    EXPECT_EQ(own.tensor("half").sizes(), (at::IntArrayRef{h + 1, 2 * h}));
    const Learned again = learn_table(learned.model, table, kClasses, learned.model.numbers());
    const at::Tensor x = expansion(learned, table.x, width), twice = at::cat({x, x});
    EXPECT_LT(
        relative_difference(shared_of(again).tensor("weight"), joint(twice, at::cat({table.y, table.y}), kClasses)),
        1e-9);
  }
}

/// AIR as its formula stands: sum_c w_c A_c and B w_c, w_c ~ 1/n_c of mean 1 over the classes that came.
at::Tensor balanced(const at::Tensor& x, const at::Tensor& y, std::int64_t classes) {
  at::Tensor gram = 0.1 * at::eye(x.size(1), at::kDouble), moment = at::zeros({classes, x.size(1)}, at::kDouble);
  double inverse = 0, there = 0;
  for (std::int64_t c = 0; c < classes; ++c)
    if (const double n = y.eq(c).sum().item<double>(); n > 0) inverse += 1 / n, ++there;
  for (std::int64_t c = 0; c < classes; ++c) {
    const at::Tensor own = x.index_select(0, y.eq(c).nonzero().flatten());
    if (own.size(0) == 0) continue;
    const double weight = there / (inverse * static_cast<double>(own.size(0)));
    gram += weight * at::matmul(own.t(), own);
    moment[c] = weight * own.sum(0);
  }
  return at::linalg_solve(gram, moment.t()).t();
}

/// Class 0 brings most rows.
Table uneven_table(std::uint64_t seed) {
  const Table table = random_table(150, kWidth, kClasses, seed);
  const at::Tensor rank = at::cumsum(at::one_hot(table.y, kClasses), 0).gather(1, table.y.unsqueeze(1)).flatten();
  return table.rows(rank.le(2 + 3 * (kClasses - 1 - table.y)).nonzero().flatten());
}

TEST(Gacil, BalanceLetsEachClassCountAlikeInAnyStream) {
  const Table table = uneven_table(10);
  const std::int64_t n = table.y.size(0);
  ASSERT_GT(table.y.eq(0).sum().item<std::int64_t>(), 4 * table.y.eq(kClasses - 1).sum().item<std::int64_t>());
  for (const std::string plug : {"g-acil:width=96,balance=true", "g-acil:width=33,balance=true"}) {
    const std::vector<Piece> by_class = cut(table.rows(at::argsort(table.y, true, 0, false)), {9, 10, n / 2, n});
    for (const std::vector<Piece>& pieces : {cut(table, {n}), cut(table, {1, 7, 30, n}), by_class}) {
      SCOPED_TRACE(plug + " " + std::to_string(pieces.size()));
      const Learned learned = learn_pieces(plug, pieces);
      const at::Tensor x = expansion(learned, table.x, plug.find("96") != plug.npos ? 96 : 33);
      const at::Tensor weight = shared_of(learned).tensor("weight");
      EXPECT_LT(relative_difference(weight, balanced(x, table.y, kClasses)), 1e-9);
      EXPECT_GT(relative_difference(weight, joint(x, table.y, kClasses)), 1e-2) << "balance made no difference";
    }
  }
}

TEST(Gacil, BalanceOfClassesOfAsManyRowsIsThePlainRegression) {
  const Table table = random_table(120, kWidth, kClasses, 11);
  const at::Tensor rank = at::cumsum(at::one_hot(table.y, kClasses), 0).gather(1, table.y.unsqueeze(1)).flatten();
  const Table even = table.rows(rank.le(8).nonzero().flatten());
  ASSERT_EQ(even.y.size(0), 8 * kClasses);
  const Learned learned = learn_table(head_model("g-acil:width=96,balance=true", kWidth), even, kClasses);
  const at::Tensor x = expansion(learned, even.x, 96);
  EXPECT_LT(relative_difference(shared_of(learned).tensor("weight"), joint(x, even.y, kClasses)), 1e-9);
}

TEST(Gacil, BalancedRowsTakenOutAgainLeaveNoTrace) {
  const Table table = uneven_table(12);
  const std::int64_t n = table.y.size(0);
  const Model model = head_model("g-acil:width=96,balance=true", kWidth);
  const Learned kept = learn_table(model, table.rows(0, n - 20), kClasses), all = learn_table(model, table, kClasses);
  const Head& head = *all.model.recipe().head().roles.head;
  Model without = all.model;
  State own = shared_of(all).clone();
  Batch out = batch_of(table.rows(n - 20, n));
  out.at["weight"] = at::full({20}, -1.0f);
  head.observe(out.at, {}, out, own);
  without.numbers().at("g-acil", Scope::kShared) = own;
  EXPECT_LT(relative_difference(logits_of(without, table.x), logits_of(kept.model, table.x)), 1e-6);
  for (int again = 0; again < 8; ++again) head.observe(out.at, {}, out, own);
  without.numbers().at("g-acil", Scope::kShared) = own;
  const std::string message = error_of(Code::kInvalidArgument, [&] { logits_of(without, table.x); });
  EXPECT_NE(message.find("more rows of column"), message.npos) << message;
}

TEST(Gacil, BalanceNeedsSums) {
  const std::string message =
      error_of(Code::kInvalidArgument, [&] { head_model(kRecursive + ",balance=true", kWidth); });
  EXPECT_NE(message.find("form=sums"), message.npos) << message;
}

TEST(Gacil, RefusesFeaturesThatAreNotFinite) {
  const Table table = random_table(20, kWidth, kClasses, 13);
  const Learned learned = learn_table(head_model(kPlug, kWidth), table, kClasses);
  Table bad = table.rows(0, 5);
  bad.x = bad.x.clone();
  bad.x[3][2] = INFINITY;
  State own = shared_of(learned).clone();
  const Batch batch = batch_of(bad);
  const std::string message = error_of(
      Code::kDataCorruption, [&] { learned.model.recipe().head().roles.head->observe(batch.at, {}, batch, own); });
  EXPECT_NE(message.find("sample 3"), message.npos) << message;
}

TEST(Gacil, RefusesNumbersOfAnotherBackboneWidthOrForm) {
  const Table table = random_table(40, kWidth, kClasses, 7);
  const Learned learned = learn_table(head_model(kPlug, kWidth), table, kClasses);
  for (const char* other : {"g-acil:width=64", "g-acil:width=96,form=recursive", "g-acil:width=96,bias=true",
                            "g-acil:width=96,balance=true"}) {
    const std::string message = error_of(Code::kShapeMismatch, [&] {
      learn_table(head_model(other, kWidth), table, kClasses, learned.model.numbers());
    });
    EXPECT_NE(message.find("width 96"), message.npos) << message;
  }
  VitConfig vit = toy_vit_config(1);
  vit.width = kWidth;
  const Model elsewhere(make_backbone(toy_vit(2, vit)), learned.model.shared_recipe(), {});
  error_of(Code::kShapeMismatch, [&] { learn_table(elsewhere, table, kClasses, learned.model.numbers()); });
}

TEST(Gacil, RefusesLabelsThatAreNoColumnsAndSumsThatCannotBe) {
  const Table table = random_table(40, kWidth, kClasses, 8);
  const Learned learned = learn_table(head_model(kPlug, kWidth), table, kClasses);
  const Head& head = *learned.model.recipe().head().roles.head;
  for (const std::int64_t label : {std::int64_t{-1}, kClasses, std::int64_t{1} << 40}) {
    Table bad = table.rows(0, 3);
    bad.y = at::tensor({std::int64_t{0}, label, std::int64_t{1}}, at::kLong);
    State own = shared_of(learned).clone();
    const Batch batch = batch_of(bad);
    const std::string message = error_of(Code::kInvalidArgument, [&] { head.observe(batch.at, {}, batch, own); });
    EXPECT_NE(message.find("sample 1 has label " + std::to_string(label)), message.npos) << message;
  }
  // Rows taken out that were never learned.
  Model wrong = learned.model;
  State& own = wrong.numbers().at("g-acil", Scope::kShared);
  own.set("half", own.tensor("half") * -1);
  own.erase("weight");
  const std::string message = error_of(Code::kInvalidArgument, [&] { logits_of(wrong, table.x); });
  EXPECT_NE(message.find("pivot"), message.npos) << message;
  EXPECT_NE(message.find("larger than 0.1"), message.npos) << message;
}

TEST(Gacil, TheRecursionTakesNoRowOut) {
  const Table table = random_table(40, kWidth, kClasses, 9);
  const Learned learned = learn_table(head_model(kRecursive, kWidth), table, kClasses);
  State own = shared_of(learned).clone();
  Batch out = batch_of(table.rows(0, 4));
  out.at["weight"] = at::full({4}, -1.0f);
  const std::string message =
      error_of(Code::kUnsupported, [&] { learned.model.recipe().head().roles.head->observe(out.at, {}, out, own); });
  EXPECT_NE(message.find("form=sums"), message.npos) << message;
}

StreamOptions five_by_two(StreamKind kind = StreamKind::kDisjoint) {
  StreamOptions options;
  options.increment = 2;
  options.kind = kind;
  return options;
}

TEST(GacilEffect, LearnsDigitsTwoByTwo) {
  RECAST_NEED_PYTHON("sklearn, safetensors");
  double worst = 1, sequential = 0;
  for (const int seed : {0, 1, 2}) {
    const Digits data = digits(seed);
    const double ours = learn_digits("g-acil:width=512", data, five_by_two(), static_cast<std::uint64_t>(seed)).last;
    const double means = learn_digits("ncm", data, five_by_two()).last;
    if (seed == 0) sequential = learn_digits("linear-probe", data, five_by_two()).last;
    std::printf("digits, seed %d: g-acil %.4f, nearest class mean %.4f\n", seed, ours, means);
    EXPECT_GE(ours, means + 0.05);
    worst = std::min(worst, ours);
  }
  std::printf("digits, sequential linear head %.4f\n", sequential);
  EXPECT_GE(worst, 0.965);
  EXPECT_LT(sequential, worst / 2);
}

TEST(GacilEffect, ClassesThatComeBackChangeNothing) {
  RECAST_NEED_PYTHON("sklearn, safetensors");
  const Digits data = digits(0);
  const Model model = head_model("g-acil:width=512", 64);
  const auto end = [&](StreamKind kind) { return learn_stream(stream_of(model, data, 10, five_by_two(kind))).back(); };
  const StepOutcome plain = end(StreamKind::kDisjoint), mixed = end(StreamKind::kMixed);
  EXPECT_GT(mixed.known_rows, 0);
  EXPECT_EQ(plain.figures.top1, mixed.figures.top1);
  EXPECT_LT(relative_difference(shared_of(mixed.learned).tensor("weight"), shared_of(plain.learned).tensor("weight")),
            1e-6);
}

TEST(GacilEffect, LearnsCifarInAnyStream) {
  RECAST_NEED_CIFAR_STREAM();
  const CifarCase cifar;
  const double means = learn_stream(cifar.stream("ncm", 10)).back().figures.top1;
  const double sequential = learn_stream(cifar.stream("linear-probe", 10)).back().figures.top1;
  std::vector<double> last;
  for (const std::uint64_t seed : {42, 1998, 3142592}) {
    std::optional<at::Tensor> weight;
    std::optional<double> top1;
    for (const auto& [increment, kind] :
         {std::pair{std::int64_t{5}, StreamKind::kDisjoint}, std::pair{std::int64_t{2}, StreamKind::kDisjoint},
          std::pair{std::int64_t{5}, StreamKind::kMixed}}) {
      const std::vector<StepOutcome> steps = learn_stream(cifar.stream("g-acil:width=2048", increment, kind, seed));
      const StreamFigures figures = stream_figures(figures_of(steps));
      std::printf("CIFAR-100, seed %llu, %zu %s steps: average %.4f, last %.4f\n",
                  static_cast<unsigned long long>(seed), steps.size(), std::string(name(kind)).c_str(), figures.average,
                  figures.last);
      if (!weight) weight = shared_of(steps.back().learned).tensor("weight"), top1 = figures.last;
      EXPECT_EQ(figures.last, *top1);
      EXPECT_LT(relative_difference(shared_of(steps.back().learned).tensor("weight"), *weight), 1e-6);
    }
    last.push_back(*top1);
  }
  std::printf("CIFAR-100: nearest class mean %.4f, sequential linear head %.4f\n", means, sequential);
  for (const double top1 : last) {
    EXPECT_GE(top1, means + 0.03);
    EXPECT_LT(sequential, top1 / 2);
  }
  EXPECT_LT(*std::max_element(last.begin(), last.end()) - *std::min_element(last.begin(), last.end()), 0.005);
}

}  // namespace
}  // namespace recast
