// DKVB: fetching, the closed form of its step, the fitting of keys, what it leaves alone, and what it is worth.
#include "methods/cifar_case.h"

namespace recast {
namespace {

constexpr std::int64_t kWidth = 16, kClasses = 4;
const std::string kSmall = "dkvb:codebooks=3,keys=8,width=4";

/// The plug-in's numbers as plain arrays, and the 20 lines that fetching and learning come down to.
struct Reference {
  explicit Reference(const State& own, std::int64_t nearest = 1)
      : keys(own.tensor("keys")), uses(own.tensor("uses")), codebooks(keys.size(0)), count(keys.size(1)), top(nearest) {
    project = Key(static_cast<std::uint64_t>(own.integer("seed"))).normal({codebooks, kWidth, keys.size(2)});
    project = project / project.norm(2, {1}, true);
    const at::Tensor used = uses.flatten().gt(0).nonzero().flatten();
    values = at::zeros({codebooks * count, own.tensor("cells").size(0)});
    values.index_copy_(0, used, own.tensor("cells").t());
  }
  /// [n, C top] of the nearest keys, among those in use or all.
  at::Tensor fetch(const at::Tensor& x, bool all) const {
    at::Tensor cells = at::empty({x.size(0), codebooks * top}, at::kLong);
    for (std::int64_t i = 0; i < x.size(0); ++i)
      for (std::int64_t c = 0; c < codebooks; ++c) {
        const at::Tensor query = at::matmul(x[i], project[c]);
        std::vector<std::pair<double, std::int64_t>> far;
        for (std::int64_t j = 0; j < count; ++j)
          if (all || uses[c][j].item<std::int64_t>() > 0)
            far.emplace_back((query - keys[c][j]).square().sum().item<double>(), c * count + j);
        std::sort(far.begin(), far.end());
        for (std::int64_t t = 0; t < top; ++t) cells[i][c * top + t] = far.at(static_cast<std::size_t>(t)).second;
      }
    return cells;
  }
  /// Mean over codebooks of the sum of what each fetches.
  at::Tensor logits(const at::Tensor& cells) const {
    return values.index_select(0, cells.flatten()).view({cells.size(0), codebooks, top, -1}).sum(2).mean(1);
  }
  /// V after one step of SGD on all rows.
  at::Tensor step(const Table& table, double rate, double smoothing) const {
    const at::Tensor cells = fetch(table.x, true);
    const at::Tensor target = at::one_hot(table.y, kClasses) * (1 - smoothing) + smoothing / kClasses;
    const at::Tensor error =
        (at::softmax(logits(cells), 1) - target) / static_cast<double>(codebooks * table.y.size(0));
    at::Tensor moved = values.clone();
    for (std::int64_t i = 0; i < table.y.size(0); ++i)
      for (std::int64_t c = 0; c < cells.size(1); ++c) moved[cells[i][c].item<std::int64_t>()] -= rate * error[i];
    return moved;
  }

  at::Tensor keys, uses, project, values;
  std::int64_t codebooks, count, top;
};

Learned learn_small(const std::string& more, const Table& table, const Numbers& before = {}) {
  return learn_table(head_model(kSmall + more, kWidth), table, kClasses, before);
}

TEST(Dkvb, OneFullStepFromZeroHasItsClosedForm) {
  const Table table = random_table(60, kWidth, kClasses, 1);
  const Learned learned = learn_small(",epochs=1,rate=0.5,clip=0", table);
  const Reference reference(shared_of(learned));
  const at::Tensor cells = reference.fetch(table.x, true);
  const at::Tensor wanted = at::one_hot(table.y, kClasses) * 0.9 + 0.1 / kClasses - 1.0 / kClasses;
  at::Tensor expected = at::zeros_like(reference.values);
  for (std::int64_t c = 0; c < 3; ++c) expected.index_add_(0, cells.select(1, c), wanted.to(at::kFloat));
  expected = expected * 0.5 / (3.0 * 60.0);
  EXPECT_LT((reference.values - expected).abs().max().item<double>(), 1e-7);
  EXPECT_LT((logits_of(learned.model, table.x) - reference.logits(reference.fetch(table.x, false)))
                .abs()
                .max()
                .item<double>(),
            1e-7);
}

TEST(Dkvb, FetchesAnswersAndMovesAsTheReferenceDoes) {
  const Table table = random_table(60, kWidth, kClasses, 2), more = random_table(40, kWidth, kClasses, 3);
  const Learned first = learn_small(",epochs=20", table);
  const Learned second = learn_small(",epochs=1,rate=3,clip=0", more, first.model.numbers());
  const Reference before(shared_of(first)), after(shared_of(second));
  EXPECT_TRUE(at::equal(before.keys, after.keys)) << "keys are frozen once fitted";
  EXPECT_LT((after.values - before.step(more, 3, 0.1)).abs().max().item<double>(), 1e-5);
  const at::Tensor probe = Key(4).normal({30, kWidth});
  EXPECT_LT((logits_of(second.model, probe) - after.logits(after.fetch(probe, false))).abs().max().item<double>(),
            1e-5);
}

TEST(Dkvb, FetchesSeveralKeysOfACodebookAndAddsTheirValues) {
  const Table table = random_table(60, kWidth, kClasses, 18), more = random_table(40, kWidth, kClasses, 19);
  const Learned first = learn_small(",top=3,epochs=20", table);
  const Learned second = learn_small(",top=3,epochs=1,rate=3,clip=0", more, first.model.numbers());
  const Reference before(shared_of(first), 3), after(shared_of(second), 3);
  EXPECT_EQ(after.uses.sum().item<std::int64_t>(), 3 * 3 * (60 + 40));
  EXPECT_LT((after.values - before.step(more, 3, 0.1)).abs().max().item<double>(), 1e-5);
  const at::Tensor probe = Key(20).normal({30, kWidth});
  EXPECT_LT((logits_of(second.model, probe) - after.logits(after.fetch(probe, false))).abs().max().item<double>(),
            1e-5);
}

/// Mean squared distance of rows to their nearest keys.
double energy(const State& own, const at::Tensor& x) {
  const Reference reference(own);
  const at::Tensor cells = reference.fetch(x, true), keys = reference.keys.flatten(0, 1);
  double sum = 0;
  for (std::int64_t c = 0; c < reference.codebooks; ++c) {
    const at::Tensor far = at::matmul(x, reference.project[c]) - keys.index_select(0, cells.select(1, c));
    sum += far.square().sum().item<double>();
  }
  return sum / static_cast<double>(x.size(0) * reference.codebooks);
}

TEST(Dkvb, KeysMayBeginAsTheMeansOfTheRows) {
  const Table table = random_table(60, kWidth, kClasses, 21);
  const auto keys_of = [&](const std::string& plug, const Table& rows) {
    return shared_of(learn_table(head_model(plug + ",width=4,key_start=kmeans,key_epochs=0", kWidth), rows, kClasses));
  };
  const State one = keys_of("dkvb:codebooks=3,keys=1", table);
  const at::Tensor means = at::matmul(table.x, Reference(one).project).mean(1, true);
  EXPECT_LT((one.tensor("keys") - means).abs().max().item<double>(), 1e-6);
  const Table eight = table.rows(at::arange(8));
  EXPECT_LT(energy(keys_of("dkvb:codebooks=3,keys=8", eight), eight.x), 1e-10) << "a key for each row is that row";
  const State drawn = shared_of(learn_small(",key_epochs=0", table));
  const double started = energy(keys_of("dkvb:codebooks=3,keys=8", table), table.x);
  EXPECT_LT(started, 0.8 * energy(drawn, table.x));
  // The averages go on from there: they do not throw the means away.
  EXPECT_LT(energy(shared_of(learn_small(",key_start=kmeans", table)), table.x), 1.5 * started);
}

TEST(Dkvb, ValuesThatNoRowFetchesKeepTheirBits) {
  const Table table = random_table(60, kWidth, kClasses, 5), few = random_table(2, kWidth, 2, 6);
  const Learned first = learn_small("", table), second = learn_small("", few, first.model.numbers());
  const Reference before(shared_of(first)), after(shared_of(second));
  const at::Tensor fetched = before.fetch(few.x, true).flatten();
  int untouched = 0;
  for (std::int64_t cell = 0; cell < before.values.size(0); ++cell)
    if (!fetched.eq(cell).any().item<bool>()) {
      EXPECT_TRUE(at::equal(before.values[cell], after.values[cell])) << cell;
      ++untouched;
    }
  EXPECT_GE(untouched, 3 * 8 - 6);
  EXPECT_FALSE(at::equal(before.values, after.values));
}

TEST(Dkvb, ClassesToComeLearnAsIfTheyHadBeenThere) {
  // All four columns from the start, of which the first rows are of two; or two columns, and two to come.
  const Table all = random_table(80, kWidth, kClasses, 16);
  const Table first = all.rows(all.y.lt(2).nonzero().flatten()), second = all.rows(all.y.ge(2).nonzero().flatten());
  const Model known = head_model(kSmall + ",epochs=15", kWidth),
              told = head_model(kSmall + ",epochs=15,classes=4", kWidth);
  const Learned there = learn_table(known, second, 4, learn_table(known, first, 4).model.numbers());
  const Learned came = learn_table(told, second, 4, learn_table(told, first, 2).model.numbers());
  const at::Tensor probe = Key(17).normal({20, kWidth});
  EXPECT_LT((logits_of(there.model, probe) - logits_of(came.model, probe)).abs().max().item<double>(), 1e-5);
}

TEST(Dkvb, ClipsTheGradientToItsLength) {
  const Table table = random_table(60, kWidth, kClasses, 7);
  const auto length = [&](const std::string& more) {
    return shared_of(learn_small(",epochs=1,rate=1" + more, table)).tensor("cells").norm().item<double>();
  };
  EXPECT_NEAR(length(",clip=0.001"), 0.001, 1e-6);
  EXPECT_GT(length(",clip=0"), 0.002);
}

/// A state by hand: one codebook whose keys are the projections of these rows, and whose values are their classes.
Model nearest_neighbour(const Learned& learned, const Table& table) {
  Model model = learned.model;
  State& own = model.numbers().at("dkvb", Scope::kShared);
  at::Tensor project = Key(static_cast<std::uint64_t>(own.integer("seed"))).normal({1, kWidth, 4});
  project = project / project.norm(2, {1}, true);
  own.set("keys", at::matmul(table.x, project));
  own.set("uses", at::ones({1, table.y.size(0)}, at::kLong));
  own.set("cells", at::one_hot(table.y, kClasses).to(at::kFloat).t().contiguous());
  return model;
}

TEST(Dkvb, WithEveryRowAsAKeyItIsTheNearestNeighbour) {
  const Table table = random_table(40, kWidth, kClasses, 8);
  const Learned learned = learn_table(head_model("dkvb:codebooks=1,keys=8,width=4", kWidth), table, kClasses);
  Model model = nearest_neighbour(learned, table);
  const at::Tensor keys = model.numbers().at("dkvb", Scope::kShared).tensor("keys")[0];
  EXPECT_TRUE(at::equal(logits_of(model, table.x).argmax(1), table.y));
  const at::Tensor others = random_table(30, kWidth, kClasses, 9).x;
  at::Tensor project = Key(static_cast<std::uint64_t>(shared_of(learned).integer("seed"))).normal({1, kWidth, 4});
  project = project / project.norm(2, {1}, true);
  const at::Tensor far = at::cdist(at::matmul(others, project[0]), keys, 2, 2);
  EXPECT_TRUE(at::equal(logits_of(model, others).argmax(1), table.y.index_select(0, far.argmin(1))));
  // A cell that was never written is never read: the next one answers.
  State& own = model.numbers().at("dkvb", Scope::kShared);
  at::Tensor uses = own.tensor("uses").clone();
  uses[0][0] = 0;
  own.set("uses", uses);
  own.set("cells", own.tensor("cells").narrow(1, 1, 39).contiguous());
  at::Tensor without = at::cdist(keys.narrow(0, 0, 1), keys, 2, 2)[0].clone();
  without[0] = INFINITY;
  EXPECT_EQ(logits_of(model, table.x.narrow(0, 0, 1)).argmax(1).item<std::int64_t>(),
            table.y[without.argmin()].item<std::int64_t>());
}

TEST(Dkvb, OfOneKeyTheAnswerIsThePrior) {
  Table table = random_table(60, kWidth, kClasses, 10);
  const Learned learned = learn_table(
      head_model("dkvb:codebooks=2,keys=1,width=4,epochs=3000,smoothing=0,rate=8", kWidth), table, kClasses);
  const at::Tensor prior = at::bincount(table.y, {}, kClasses).to(at::kFloat) / 60;
  const at::Tensor answer = at::softmax(logits_of(learned.model, table.x), 1);
  EXPECT_LT((answer - prior).abs().max().item<double>(), 1e-3);
}

TEST(Dkvb, WithoutMemoryAStepOfTheKeysIsOneOfLloyd) {
  const Table table = random_table(60, kWidth, kClasses, 11);
  const std::string options = "dkvb:codebooks=3,keys=8,width=4,ema=0,key_epochs=1,key_batch=60,epochs=0";
  const auto keys_of = [&](const std::string& threshold) {
    return learn_table(head_model(options + threshold, kWidth), table, kClasses);
  };
  const Learned plain = keys_of(",threshold=0"), expiring = keys_of(",threshold=1");
  const at::Tensor start = Key(42).fold("learn").fold("dkvb").fold("keys").fold("start").normal({3, 8, 4});
  at::Tensor project = Key(static_cast<std::uint64_t>(plain.model.numbers().at("dkvb", Scope::kShared).integer("seed")))
                           .normal({3, kWidth, 4});
  project = project / project.norm(2, {1}, true);
  int compared = 0, replaced = 0;
  for (std::int64_t c = 0; c < 3; ++c) {
    const at::Tensor queries = at::matmul(table.x, project[c]);
    const at::Tensor nearest = at::cdist(queries, start[c], 2, 2).argmin(1);
    for (std::int64_t j = 0; j < 8; ++j) {
      const at::Tensor rows = nearest.eq(j).nonzero().flatten();
      if (rows.size(0) > 0) {
        const at::Tensor mean = queries.index_select(0, rows).mean(0);
        EXPECT_LT((shared_of(plain).tensor("keys")[c][j] - mean).abs().max().item<double>(),
                  1e-3 * mean.abs().max().item<double>() + 1e-4);
        ++compared;
      }
      if (rows.size(0) < 8) {  // of 60 / 8 on average: replaced by a row's projection
        const at::Tensor key = shared_of(expiring).tensor("keys")[c][j];
        EXPECT_LT((queries - key).abs().amax(1).min().item<double>(), 1e-5);
        ++replaced;
      }
    }
  }
  EXPECT_GE(compared, 6);
  EXPECT_GE(replaced, 6);
}

TEST(Dkvb, KeepsOnlyCellsInUseAndWidensThemByZeros) {
  const Table table = random_table(60, kWidth, kClasses, 12);
  const Learned first = learn_small("", table);
  const State& own = shared_of(first);
  EXPECT_FALSE(own.has("values"));
  const std::int64_t used = own.tensor("uses").gt(0).sum().item<std::int64_t>();
  EXPECT_EQ(own.tensor("cells").sizes(), (at::IntArrayRef{kClasses, used}));
  const Learned wider =
      learn_table(head_model(kSmall + ",epochs=0", kWidth), table, kClasses + 2, first.model.numbers());
  const at::Tensor cells = shared_of(wider).tensor("cells");
  EXPECT_TRUE(at::equal(cells.narrow(0, 0, kClasses), own.tensor("cells")));
  EXPECT_EQ(cells.narrow(0, kClasses, 2).abs().sum().item<double>(), 0);
}

TEST(Dkvb, RefusesMoreKeysThanRowsOtherFeaturesAndCodebooksWithoutACell) {
  const Table table = random_table(60, kWidth, kClasses, 13);
  const std::string keys =
      error_of(Code::kInvalidArgument, [&] { learn_table(head_model("dkvb:keys=64", kWidth), table, kClasses); });
  EXPECT_NE(keys.find("64 keys and only 60 rows"), keys.npos) << keys;
  const Learned learned = learn_small("", table);
  const std::string width = error_of(Code::kShapeMismatch, [&] {
    learn_table(head_model(kSmall, 32), random_table(40, 32, kClasses, 1), kClasses, learned.model.numbers());
  });
  EXPECT_NE(width.find("width 16, these are 32"), width.npos) << width;
  Table bad = table;
  bad.x = table.x.clone();
  bad.x[7][0] = NAN;
  const std::string nan = error_of(Code::kDataCorruption, [&] { learn_small("", bad); });
  EXPECT_NE(nan.find("sample 7"), nan.npos) << nan;
  Model empty = learned.model;
  State& own = empty.numbers().at("dkvb", Scope::kShared);
  own.set("uses", at::zeros_like(own.tensor("uses")));
  own.set("cells", at::zeros({kClasses, 0}));
  const std::string cell = error_of(Code::kUnsupported, [&] { logits_of(empty, table.x); });
  EXPECT_NE(cell.find("codebook 0 has no cell in use"), cell.npos) << cell;
}

TEST(Dkvb, FitsItsKeysToRowsWhoseLabelsItDoesNotSee) {
  const Digits data{random_table(120, kWidth, kClasses, 14), random_table(40, kWidth, kClasses, 15)};
  ClassIncremental setting = stream_of(head_model(kSmall, kWidth), data, kClasses, {.increment = 2});
  class Counting final : public Source {
   public:
    explicit Counting(std::shared_ptr<const Source> rows) : rows_(std::move(rows)) {}
    std::int64_t rows() const override { return rows_->rows(); }
    std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t size, bool augmented,
                                      Key key) const override {
      ++opened;
      return rows_->open(std::move(order), size, augmented, key);
    }
    mutable int opened = 0;

   private:
    std::shared_ptr<const Source> rows_;
  };
  const auto counting = std::make_shared<Counting>(setting.train.source);
  setting.unlabelled = counting;
  const std::vector<StepOutcome> steps = learn_stream(setting);
  EXPECT_EQ(counting->opened, 1) << "keys are fitted once, before the first label";
  EXPECT_TRUE(at::equal(shared_of(steps[0].learned).tensor("keys"), shared_of(steps[1].learned).tensor("keys")));
}

TEST(DkvbEffect, LearnsDigitsTwoByTwo) {
  RECAST_NEED_PYTHON("sklearn, safetensors");
  StreamOptions options;
  options.increment = 2;
  for (const int seed : {0, 1, 2}) {
    const Digits data = digits(seed);
    const double ours = learn_digits("dkvb:codebooks=64,keys=64,width=8,epochs=60,rate=30,classes=10", data, options,
                                     static_cast<std::uint64_t>(seed), /*prepare_on_all=*/true)
                            .last;
    const double sequential = learn_digits("linear-probe", data, options).last;
    std::printf("digits, seed %d: dkvb %.4f, sequential linear head %.4f\n", seed, ours, sequential);
    EXPECT_GE(ours, 0.92);
    EXPECT_GE(ours, sequential + 0.5);
  }
}

TEST(DkvbEffect, ForgetsLessThanALinearHeadOnCifar) {
  RECAST_NEED_CIFAR_STREAM();
  const CifarCase cifar;
  // The 50 classes that the network has not seen; keys are fitted to the images of those that it has.
  const std::vector<std::int64_t> order = numpy_permutation(1993, 100);
  at::Tensor column = at::full({100}, -1, at::kLong);
  for (std::int64_t c = 50; c < 100; ++c) column[order[static_cast<std::size_t>(c)]] = c - 50;
  const auto unseen = [&](const Table& table) {
    const at::Tensor own = column.index_select(0, table.y), rows = own.ge(0).nonzero().flatten();
    return Table{table.x.index_select(0, rows), own.index_select(0, rows)};
  };
  const at::Tensor base = column.index_select(0, cifar.data.train.y).lt(0).nonzero().flatten();
  const Digits data{unseen(cifar.data.train), unseen(cifar.data.test)};
  const auto figures = [&](const std::string& plug) {
    ClassIncremental setting = stream_of(cifar.model(plug), data, 50, {.increment = 5});
    setting.unlabelled = source_of(cifar.data.train.rows(base));
    return stream_figures(figures_of(learn_stream(setting)));
  };
  const StreamFigures ours = figures("dkvb:classes=50"), sequential = figures("linear-probe");
  std::printf("CIFAR-100, 10 x 5 unseen classes: dkvb last %.4f, backward %.4f; linear head last %.4f, backward %.4f\n",
              ours.last, *ours.backward_transfer, sequential.last, *sequential.backward_transfer);
  EXPECT_GE(ours.last, 3 * sequential.last);
  EXPECT_LE(-*ours.backward_transfer, -*sequential.backward_transfer / 2);
}

}  // namespace
}  // namespace recast
