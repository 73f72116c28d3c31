// DKVB, the discrete key-value bottleneck. Traeuble et al., ICML 2023, arXiv:2207.11240.
// Idea     C codebooks look at fixed random projections of the features; each fetches the value of its nearest key, and
//          the logits are the mean of what they fetch. Keys are fitted to rows without labels and frozen; learning
//          moves only the values that were fetched, so that later classes do not write over earlier ones.
// Keys     N(0, 1), or the means of k-means (Lloyd 1982, from rows drawn at random); then exponential moving averages
// over batches: N <- D N + (1-D) n, S <- D S + (1-D) s,
//          K = S / N^, N^ = (N + eps) / (sum N + J eps) sum N. A key that is fetched too seldom is replaced by a row's
//          projection, with the count and sum of an average key; in the authors' code its old sum comes back.
// Values   zero at the start; cross-entropy with smoothed labels, SGD without momentum, gradient clipped. In
//          closed form d/dV[c,j] = 1/(C n) sum of (softmax - target) over the rows that fetch j. The paper's softmax is
//          over all classes from the start: with classes=N those still to come share one row, which a new class begins
//          with.
// State    shared: keys [C, J, k], uses [C, J] (never read where 0), the values of cells in use [classes, cells], fp32;
//          projections are their seed. C = 64, J = 256, k = 8: 0.6 MB and at most 64 KiB a class.
// Departs  smaller than the paper's (256 codebooks of 4096 keys of width 14), and as many keys as there are rows for;
//          the rate is given per cell, since the mean over C codebooks divides its gradient by C.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "recast/method/registry.h"
#include "recast/method/truth.h"

namespace recast {
namespace {

struct DkvbOptions {
  std::int64_t codebooks = 64, keys = 0, width = 8, top = 1;
  std::string key_start = "normal";
  double ema = 0.95, threshold = 0.1;
  std::int64_t key_epochs = 10, key_batch = 256;
  std::int64_t epochs = 60, batch = 0, classes = 0;
  double rate_per_cell = 0.5, rate = 0, clip = 1, smoothing = 0.1;
};

constexpr double kEps = 1e-5;
constexpr int kLloydSteps = 10;  ///< as many as the authors' code takes

/// Keys [C, J, k] on their way, with the moving count [C, J] and sum of the rows that fetch each.
struct Averages {
  at::Tensor keys, load, sum;
};

/// [C, D, k]: Gaussian, each column of unit length.
at::Tensor projections(std::int64_t seed, std::int64_t codebooks, std::int64_t features, std::int64_t width) {
  const at::Tensor drawn = Key(static_cast<std::uint64_t>(seed)).normal({codebooks, features, width});
  return drawn / drawn.norm(2, {1}, true);
}

/// Squared distances [C, n, J] but for the queries' own squares, which no comparison needs.
at::Tensor distances(const at::Tensor& queries, const at::Tensor& keys) {
  return at::baddbmm(keys.square().sum(2).unsqueeze(1), queries, keys.transpose(1, 2), 1, -2);
}

class Dkvb final : public Method, public Head {
 public:
  explicit Dkvb(DkvbOptions options) : options_(std::move(options)) {}

  Fields forward(const Fields& in, const Fields*, const View& numbers, Pass& pass) const override {
    const State& own = numbers.state(Scope::kShared);
    require_keys(own);
    const at::Tensor uses = own.tensor("uses");
    // While learning every key may be fetched; afterwards a cell that was never written is never read.
    const bool all = pass.mode() == Mode::kTrain;
    if (!all)
      if (const at::Tensor empty = uses.gt(0).any(1).logical_not(); empty.any().item<bool>())
        fail(Code::kUnsupported, "[dkvb] codebook {} has no cell in use: learn a task first",
             empty.nonzero()[0].item<std::int64_t>());
    const at::Tensor cells = fetched(in.at("features"), own, all ? at::Tensor() : uses);
    const at::Tensor table =
        pass.once("dkvb", [&] { return table_of(own); });  // [C J, classes], so that a fetch is a run of numbers
    return {{"logits", read(table, cells, own.tensor("keys").size(0))}};
  }

  void begin_task(Context& context) const override {
    State& own = context.own(Scope::kShared);
    if (!own.has("seed")) own.set("seed", static_cast<std::int64_t>(context.key().fold("projections").bits()));
    if (own.has("keys") && own.integer("features") != context.feature_width())
      fail(Code::kShapeMismatch,
           "[dkvb] the keys were fitted to features of width {}, these are {}: another backbone's",
           own.integer("features"), context.feature_width());
    if (!own.has("cells")) return;
    own.set("values",
            table_of(own).t().reshape({own.tensor("cells").size(0), own.tensor("uses").size(0), -1}).contiguous());
    own.erase("cells");
  }

  void grow(std::span<const std::int64_t> columns, Context& context) const override {
    State& own = context.own(Scope::kShared);
    if (!own.has("values")) return;  // keys come with the first rows, values with the keys
    const auto more = static_cast<std::int64_t>(columns.size());
    const at::Tensor values = own.tensor("values");
    // What classes to come have learned so far, which is nothing where their number is not known.
    const at::Tensor rest = own.tensor("rest").unsqueeze(0);
    own.set("values", at::cat({values, rest.expand({more, values.size(1), values.size(2)})}));
  }

  std::optional<Phase> next_phase(When when, Context& context) const override {
    if (when == When::kBefore && !context.own(Scope::kShared).has("keys"))
      return one_pass(context, "keys", "unlabelled");
    if (when == When::kMain) return one_pass(context, "values");
    return {};
  }

  bool visit(const Batch& batch, const Fields& out, Context& context) const override {
    const at::Tensor features = finite_features("dkvb", out, batch);
    State& own = context.own(Scope::kShared);
    State& run = context.own(Scope::kRun);
    const std::string place = fmt::format("{:08}", run.size());
    if (!own.has("keys")) {
      run.set(number_name("rows", {}, place), features.to(at::kFloat));
      return true;
    }
    const at::Tensor label = known_columns("dkvb", batch, own.tensor("values").size(0));
    run.set(number_name("fetched", {}, place), fetched(features, own, {}).to(at::kInt));
    run.set(number_name("labels", {}, place), label);
    return true;
  }

  void end_phase(const Phase& phase, Context& context) const override {
    if (phase.name == "keys")
      fit_keys(take(context.own(Scope::kRun), "rows"), context);
    else
      learn_values(context);
  }

  /// Only cells in use are stored.
  void end_task(Context& context) const override {
    State& own = context.own(Scope::kShared);
    if (!own.has("values")) return;
    const at::Tensor used = own.tensor("uses").flatten().gt(0).nonzero().flatten();
    own.set("cells", own.tensor("values").flatten(1).index_select(1, used));
    own.erase("values");
  }

  std::optional<std::int64_t> learned_numbers(const State& state) const override {
    return state.has("cells") ? state.tensor("cells").numel() : 0;
  }

 private:
  static void require_keys(const State& own) {
    if (!own.has("keys")) fail(Code::kUnsupported, "[dkvb] no keys are fitted yet: learn a task first");
  }

  /// All tensors of one family, in order; gone from the run afterwards.
  static at::Tensor take(State& run, std::string_view family) {
    std::vector<at::Tensor> parts;
    std::vector<std::string> names;
    for (const auto& [name, number] : run)
      if (family_of(name) == family) names.push_back(name);
    for (const std::string& name : names) {
      parts.push_back(run.tensor(name));
      run.erase(name);
    }
    return at::cat(parts);
  }

  /// V as [C J, classes].
  static at::Tensor table_of(const State& own) {
    if (own.has("values")) return own.tensor("values").flatten(1).t().contiguous();
    const at::Tensor cells = own.tensor("cells"), used = own.tensor("uses").flatten().gt(0).nonzero().flatten();
    at::Tensor table = at::zeros({own.tensor("uses").numel(), cells.size(0)});
    return table.index_copy_(0, used, cells.t());
  }

  /// The keys that each row fetches [n, C top], as places in [C J]. uses: cells of 0 uses are left out; undefined:
  /// none.
  at::Tensor fetched(const at::Tensor& features, const State& own, const at::Tensor& uses) const {
    const at::Tensor keys = own.tensor("keys");
    const std::int64_t codebooks = keys.size(0), count = keys.size(1), width = keys.size(2);
    const at::Tensor project = projections(own.integer("seed"), codebooks, features.size(1), width);
    std::vector<at::Tensor> parts;
    for (const at::Tensor& rows : features.to(at::kFloat).split(rows_at_once(codebooks, count))) {
      at::Tensor far = distances(at::matmul(rows, project), keys);
      if (uses.defined()) far.masked_fill_(uses.eq(0).unsqueeze(1), std::numeric_limits<float>::infinity());
      const at::Tensor nearest =
          options_.top == 1 ? far.argmin(2, true) : std::get<1>(far.topk(std::min(options_.top, count), 2, false));
      const at::Tensor first = at::arange(codebooks).mul(count).view({codebooks, 1, 1});
      parts.push_back((nearest + first).permute({1, 0, 2}).flatten(1));
    }
    return at::cat(parts);
  }
  /// So that distances stay within 64 MB.
  static std::int64_t rows_at_once(std::int64_t codebooks, std::int64_t keys) {
    return std::max<std::int64_t>(1, 16'000'000 / (codebooks * keys));
  }

  /// Mean over codebooks of the (sums of the) values fetched [n, classes].
  static at::Tensor read(const at::Tensor& table, const at::Tensor& cells, std::int64_t codebooks) {
    at::Tensor sum = at::zeros({cells.size(0), table.size(1)});
    for (std::int64_t i = 0; i < cells.size(1); ++i) sum.add_(table.index_select(0, cells.select(1, i)));
    return sum.div_(static_cast<double>(codebooks));
  }

  std::int64_t keys_for(std::int64_t rows) const {
    if (options_.keys > rows)
      fail(Code::kInvalidArgument,
           "[dkvb] {} keys and only {} rows to fit them to: take fewer keys, or 0 for as many as suit", options_.keys,
           rows);
    if (options_.keys > 0) return options_.keys;
    std::int64_t keys = 256;
    while (keys > 1 && keys * 4 > rows) keys /= 2;
    return keys;
  }

  void fit_keys(const at::Tensor& features, Context& context) const {
    State& own = context.own(Scope::kShared);
    const Key key = context.key().fold("keys");
    const std::int64_t count = keys_for(features.size(0));
    const at::Tensor project = projections(own.integer("seed"), options_.codebooks, features.size(1), options_.width);
    auto [keys, load, sum] =
        options_.key_start == "kmeans" ? means(at::matmul(features, project), count, key) : drawn(count, key);
    for (std::int64_t epoch = 0; epoch < options_.key_epochs; ++epoch) {
      const Key draw = key.fold("epoch", static_cast<std::uint64_t>(epoch));
      const at::Tensor order = at::tensor(draw.permutation(features.size(0)), at::kLong);
      std::uint64_t step = 0;
      for (const at::Tensor& batch : order.split(options_.key_batch))
        move_keys(at::matmul(features.index_select(0, batch), project), draw.fold("batch", step++), keys, load, sum);
    }
    own.set("features", features.size(1));
    context.create("keys", keys);
    context.create("uses", at::zeros({options_.codebooks, count}, at::kLong));
    const auto classes = static_cast<std::int64_t>(context.task().labels.size());
    context.create("values", at::zeros({classes, options_.codebooks, count}));
    context.create("rest", at::zeros({options_.codebooks, count}));
  }

  /// The paper's start: counts of nothing, sums of the keys.
  Averages drawn(std::int64_t count, const Key& key) const {
    const at::Tensor keys = key.fold("start").normal({options_.codebooks, count, options_.width});
    return {keys, at::zeros({options_.codebooks, count}), keys.clone()};
  }

  /// k-means of queries [C, n, k]; counts and sums as batches of this size leave them on average. A key that no row is
  /// nearest to stays where it is.
  Averages means(const at::Tensor& queries, std::int64_t count, const Key& key) const {
    const std::int64_t n = queries.size(1);
    std::vector<at::Tensor> all_keys, all_loads;
    for (std::int64_t c = 0; c < options_.codebooks; ++c) {
      const at::Tensor rows = queries[c];
      const Key draw = key.fold("rows", static_cast<std::uint64_t>(c));
      at::Tensor keys = rows.index_select(0, at::tensor(draw.permutation(n), at::kLong).slice(0, 0, count)), load;
      for (int step = 0; step < kLloydSteps; ++step) {
        const at::Tensor nearest = distances(rows.unsqueeze(0), keys.unsqueeze(0)).argmin(2)[0];
        load = at::zeros({count}).index_add_(0, nearest, at::ones({n}));
        const at::Tensor sums = at::zeros_like(keys).index_add_(0, nearest, rows);
        keys = at::where(load.gt(0).unsqueeze(1), sums / load.clamp_min(1).unsqueeze(1), keys);
      }
      all_keys.push_back(keys);
      all_loads.push_back(load * (static_cast<double>(std::min(options_.key_batch, n)) / static_cast<double>(n)));
    }
    const at::Tensor keys = at::stack(all_keys), loads = at::stack(all_loads);
    return {keys, loads, keys * loads.unsqueeze(2)};
  }

  /// One step of the moving averages on queries [C, B, k].
  void move_keys(const at::Tensor& queries, const Key& draw, at::Tensor& keys, at::Tensor& load,
                 at::Tensor& sum) const {
    const std::int64_t codebooks = keys.size(0), count = keys.size(1), rows = queries.size(1);
    at::Tensor fetched_rows = at::zeros_like(load), fetched_sum = at::zeros_like(sum);
    for (std::int64_t c = 0; c < codebooks; ++c) {
      const at::Tensor nearest = distances(queries.narrow(0, c, 1), keys.narrow(0, c, 1)).argmin(2)[0];
      fetched_rows[c].index_add_(0, nearest, at::ones({rows}));
      fetched_sum[c].index_add_(0, nearest, queries[c]);
    }
    load = load * options_.ema + fetched_rows * (1 - options_.ema);
    sum = sum * options_.ema + fetched_sum * (1 - options_.ema);
    const at::Tensor total = load.sum(1, true);
    const at::Tensor smoothed = (load + kEps) / (total + static_cast<double>(count) * kEps) * total;
    keys = sum / smoothed.unsqueeze(2);
    const double average = static_cast<double>(rows) / static_cast<double>(count);
    const at::Tensor seldom = load.lt(options_.threshold * average);
    if (!seldom.any().item<bool>()) return;
    const at::Tensor chosen =
        (draw.uniform({codebooks, count}) * static_cast<double>(rows)).to(at::kLong).clamp_max(rows - 1);
    const at::Tensor others = queries.gather(1, chosen.unsqueeze(2).expand({codebooks, count, keys.size(2)}));
    keys = at::where(seldom.unsqueeze(2), others, keys);
    load = at::where(seldom, at::full_like(load, average), load);
    sum = at::where(seldom.unsqueeze(2), others * average, sum);
  }

  void learn_values(Context& context) const {
    State& run = context.own(Scope::kRun);
    State& own = context.own(Scope::kShared);
    const at::Tensor cells = take(run, "fetched").to(at::kLong), label = take(run, "labels");
    const std::int64_t n = cells.size(0), codebooks = own.tensor("keys").size(0);
    at::Tensor uses = own.tensor("uses").clone();
    uses.flatten().index_add_(0, cells.flatten(), at::ones({cells.numel()}, at::kLong));
    own.set("uses", uses);
    // The last column is that of every class to come.
    at::Tensor table = at::cat({table_of(own), own.tensor("rest").view({-1, 1})}, 1);
    const Key key = context.key().fold("values", static_cast<std::uint64_t>(table.size(1)));
    for (std::int64_t epoch = 0; epoch < options_.epochs; ++epoch) {
      if (options_.batch == 0 || options_.batch >= n) {
        step(cells, label, codebooks, table);
        continue;
      }
      const at::Tensor order =
          at::tensor(key.fold("order", static_cast<std::uint64_t>(epoch)).permutation(n), at::kLong);
      for (const at::Tensor& rows : order.split(options_.batch))
        step(cells.index_select(0, rows), label.index_select(0, rows), codebooks, table);
    }
    if (!table.isfinite().all().item<bool>())
      fail(Code::kInvalidArgument, "[dkvb] the values diverged: take a smaller rate");
    const std::int64_t classes = table.size(1) - 1;
    own.set("values", table.narrow(1, 0, classes).t().reshape_as(own.tensor("values")).contiguous());
    own.set("rest", table.select(1, classes).reshape_as(own.tensor("rest")).contiguous());
  }

  /// softmax - target [n, classes + 1], the last column that of each of `rest` classes that no row is of.
  at::Tensor errors(const at::Tensor& logits, const at::Tensor& label, double rest) const {
    const double smooth = options_.smoothing / (static_cast<double>(logits.size(1) - 1) + rest);
    at::Tensor shifted = logits.clone();
    shifted.select(1, -1).add_(rest > 0 ? std::log(rest) : -INFINITY);
    at::Tensor error = at::softmax(shifted, 1);
    if (rest > 0) error.select(1, -1).div_(rest);
    error.sub_(smooth);
    if (rest == 0) error.select(1, -1).zero_();
    return error.scatter_add_(1, label.unsqueeze(1), at::full({label.size(0), 1}, options_.smoothing - 1));
  }

  /// One step of SGD. Cells that no row fetches keep their bits.
  void step(const at::Tensor& cells, const at::Tensor& label, std::int64_t codebooks, at::Tensor& table) const {
    const auto rest = static_cast<double>(std::max<std::int64_t>(options_.classes - (table.size(1) - 1), 0));
    at::Tensor error = errors(read(table, cells, codebooks), label, rest);
    error.div_(static_cast<double>(cells.size(0) * codebooks));
    const std::int64_t per_codebook = cells.size(1) / codebooks, keys = table.size(0) / codebooks;
    std::vector<at::Tensor> gradients;
    double square = 0;
    for (std::int64_t c = 0; c < codebooks; ++c) {
      at::Tensor gradient = at::zeros({keys, table.size(1)});
      for (std::int64_t i = c * per_codebook; i < (c + 1) * per_codebook; ++i)
        gradient.add_(at::embedding_dense_backward(error, cells.select(1, i) - c * keys, keys, -1, false));
      const at::Tensor squares = gradient.square().sum(0);
      square += squares.sum().item<double>() + (rest > 1 ? (rest - 1) * squares[-1].item<double>() : 0);
      gradients.push_back(gradient);
    }
    const double norm = std::sqrt(square);
    const double shrink = options_.clip > 0 && norm > options_.clip ? options_.clip / norm : 1;
    const double rate = options_.rate > 0 ? options_.rate : options_.rate_per_cell * static_cast<double>(codebooks);
    for (std::int64_t c = 0; c < codebooks; ++c)
      table.narrow(0, c * keys, keys).sub_(gradients[static_cast<std::size_t>(c)], rate * shrink);
  }

  DkvbOptions options_;
};

Family shared(std::string name, at::ScalarType dtype = at::kFloat, Rows rows = Rows::kFixed) {
  return {.name = std::move(name),
          .scope = Scope::kShared,
          .trains = false,
          .rows = rows,
          .pool = Pool::kKeep,
          .dtype = dtype};
}
Family passing(std::string name, at::ScalarType dtype) {
  return {.name = std::move(name), .scope = Scope::kRun, .trains = false, .dtype = dtype};
}

const bool kRegistered =
    describe<Dkvb, DkvbOptions>("dkvb")
        .summary("values behind frozen keys: learning moves only the cells that the rows fetch")
        .paper("arXiv:2207.11240")
        .families({shared("keys"), shared("rest"), shared("uses", at::kLong), shared("seed", at::kLong),
                   shared("features", at::kLong), shared("values", at::kFloat, Rows::kPerClass),
                   shared("cells", at::kFloat, Rows::kPerClass), passing("rows", at::kFloat),
                   passing("fetched", at::kInt), passing("labels", at::kLong), passing("passed", at::kLong)})
        .claims({Claim::kNeutralStart})
        .needs({Need::kFixedFeatures})
        .option("codebooks", &DkvbOptions::codebooks, in_range(1, 4096), "C: projections, each with keys of its own")
        .option("keys", &DkvbOptions::keys, in_range(0, 65536),
                "J: keys of a codebook; 0: 256, fewer where there are less than four rows for each")
        .option("width", &DkvbOptions::width, in_range(1, 1024), "k: numbers of a key")
        .option("top", &DkvbOptions::top, in_range(1, 64), "nearest keys fetched from a codebook; their values add up")
        .option("ema", &DkvbOptions::ema, in_range(0, 0.9999), "D: how much of the averages a batch leaves")
        .option("threshold", &DkvbOptions::threshold, in_range(0, 1),
                "a key fetched less than this share of the average is replaced")
        .option("key_start", &DkvbOptions::key_start, one_of({"normal", "kmeans"}),
                "keys before the moving averages: drawn, or the means of k-means over the rows")
        .option("key_epochs", &DkvbOptions::key_epochs, at_least(0), "passes over the rows that keys are fitted to")
        .option("key_batch", &DkvbOptions::key_batch, at_least(1), "rows of a step of the averages")
        .option("epochs", &DkvbOptions::epochs, at_least(0), "passes over a step's rows")
        .option("batch", &DkvbOptions::batch, at_least(0), "rows of a step of SGD; 0: all at once")
        .option("classes", &DkvbOptions::classes, at_least(0),
                "how many there will be, as the paper's head knows; 0: those seen so far")
        .option("rate_per_cell", &DkvbOptions::rate_per_cell, positive(), "learning rate divided by C")
        .option("rate", &DkvbOptions::rate, at_least(0), "learning rate; 0: rate_per_cell times C")
        .option("clip", &DkvbOptions::clip, at_least(0), "length of the gradient, at most; 0: any")
        .option("smoothing", &DkvbOptions::smoothing, in_range(0, 0.999), "share of the truth spread over all classes")
        .add();

}  // namespace
}  // namespace recast
