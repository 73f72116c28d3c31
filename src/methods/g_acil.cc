// G-ACIL, a ridge regression that learns a stream as if all of it had been there at once. Zhuang et al., NeurIPS 2024,
// arXiv:2403.15706, eq. 5 to 14; ACIL: Zhuang et al., NeurIPS 2022.
// Idea     X = relu(features V^T), V fixed and random; W = (X^T X + gamma I)^-1 X^T Y over all rows seen, Y one-hot.
//          A = X^T X and B = X^T Y add up, so neither order nor steps matter, and a row of weight -1 is taken out
//          again. form=recursive is the paper's own: with R = (A + gamma I)^-1, for rows (X, Y) K = (I + X R X^T)^-1, R
//          <- R - R X^T K X R, W <- W + R X^T (Y - X W).
// State    shared, in double: A or R of width d, one triangle packed: 4 d (d + 2) bytes (d = 2048: 16.8 MB), B and W
//          [C, d]; V is its seed. Does not grow with the rows. With balance a triangle and a count a class.
// Balance  AIR, of the authors' repository: A = sum w_c A_c, B's rows times w_c, w_c = 1/n_c, scaled to a mean of 1
//          over the classes that have rows: each class counts alike, however many rows it brings.
// Departs  d by default is 32 times the width of the features and 4096 at most: the paper takes 8192 for CIFAR-100 and
//          16384 for ImageNet, 268 MB and 1.1 GB packed.
#include <ATen/ATen.h>

#include <cmath>
#include <list>
#include <mutex>

#include "recast/format/files.h"
#include "recast/method/model.h"
#include "recast/method/truth.h"

namespace recast {
namespace {

/// U(-1/sqrt(D), 1/sqrt(D)) [d, D] in double, as linear layers of PyTorch start. A pure function of its arguments, of
/// which the last few are remembered, since every forward pass asks for it.
at::Tensor random_expansion(std::int64_t seed, std::int64_t width, std::int64_t features) {
  struct Drawn {
    std::int64_t seed, width, features;
    at::Tensor weight;
  };
  static std::mutex mutex;
  static std::list<Drawn> recent;
  const std::lock_guard lock(mutex);
  for (const Drawn& drawn : recent)
    if (drawn.seed == seed && drawn.width == width && drawn.features == features) return drawn.weight;
  const double bound = 1 / std::sqrt(static_cast<double>(features));
  const at::Tensor uniform = Key(static_cast<std::uint64_t>(seed)).uniform({width, features}).to(at::kDouble);
  recent.push_front({seed, width, features, (uniform * 2 - 1) * bound});
  if (recent.size() > 4) recent.pop_back();
  return recent.front().weight;
}

/// The upper triangle of a square matrix in half the room, [h + 1, 2 h] for d = 2 h or 2 h - 1: its rows 0 .. h-1 stand
/// where they were, and below their diagonal, turned over, the triangle that is left.
at::Tensor packed(const at::Tensor& square) {
  const std::int64_t h = (square.size(0) + 1) / 2, odd = square.size(0) % 2;
  const at::Tensor a = odd ? at::constant_pad_nd(square, {0, 1, 0, 1}) : square;
  at::Tensor out = at::zeros({h + 1, 2 * h}, a.options());
  out.narrow(0, 0, h).add_(a.narrow(0, 0, h).triu());
  out.narrow(0, 1, h).narrow(1, 0, h).add_(a.narrow(0, h, h).narrow(1, h, h).triu().t());
  return out;
}
/// The upper triangle again; zeros below it.
at::Tensor unpacked(const at::Tensor& half, std::int64_t width) {
  const std::int64_t h = half.size(0) - 1;
  at::Tensor out = at::zeros({2 * h, 2 * h}, half.options());
  out.narrow(0, 0, h).copy_(half.narrow(0, 0, h).triu());
  out.narrow(0, h, h).narrow(1, h, h).copy_(half.narrow(0, 1, h).narrow(1, 0, h).tril().t());
  return out.narrow(0, 0, width).narrow(1, 0, width).contiguous();
}

/// Of one matrix a class, [C, d, d].
at::Tensor packed_each(const at::Tensor& squares) {
  std::vector<at::Tensor> halves;
  for (const at::Tensor& square : squares.unbind()) halves.push_back(packed(square));
  return at::stack(halves);
}
at::Tensor unpacked_each(const at::Tensor& halves, std::int64_t width) {
  std::vector<at::Tensor> squares;
  for (const at::Tensor& half : halves.unbind()) squares.push_back(unpacked(half, width));
  return at::stack(squares);
}

at::Tensor mirrored(const at::Tensor& upper) { return upper.triu() + upper.triu(1).t(); }

/// Of the bare backbone's numbers.
std::string digest_of(const Backbone& backbone) {
  Sha256 digest;
  const auto add = [&](const at::Tensor& tensor) {
    const at::Tensor dense = tensor.cpu().contiguous();
    digest.update({static_cast<const char*>(dense.const_data_ptr()), dense.nbytes()});
  };
  int group = -1;
  for (const Slot& slot : backbone.anatomy().slots) {
    if (slot.kind != SlotKind::kWeight && slot.kind != SlotKind::kVector) continue;
    digest.update(slot.name);
    if (!slot.bank.defined()) {
      add(backbone.weight(slot));
      continue;
    }
    add(slot.coefficients);
    if (slot.group != group) add(slot.bank);
    group = slot.group;
  }
  return digest.finish_hex();
}

struct GacilOptions {
  std::int64_t width = 0;
  double gamma = 0.1;
  std::string expansion = "random", form = "sums";
  bool bias = false, balance = false;
};

class Gacil final : public Method, public Head {
 public:
  explicit Gacil(GacilOptions options) : options_(std::move(options)), recursive_(options_.form == "recursive") {
    if (options_.balance && recursive_)
      fail(Code::kInvalidArgument, "[g-acil] balance=true needs form=sums, got form=recursive");
  }

  Fields forward(const Fields& in, const Fields*, const View& numbers, Pass& pass) const override {
    const State& own = numbers.state(Scope::kShared);
    const at::Tensor weight =
        numbers.has("weight") ? numbers.global("weight") : pass.once("g-acil", [&] { return solved(own); });
    return {{"logits", at::matmul(expanded(in.at("features"), own), weight.t()).to(at::kFloat)}};
  }

  void begin_task(Context& context) const override {
    State& own = context.own(Scope::kShared);
    const std::int64_t d = width(context.feature_width());
    if (own.has("made_for")) {
      require_same(own.text("made_for"), made_for(context));
    } else {
      own.set("made_for", made_for(context));
      own.set("seed", static_cast<std::int64_t>(context.key().fold("expansion").bits()));
    }
    unpack(own);
    if (!own.has(square()) && !options_.balance)
      context.create(square(), recursive_ ? at::eye(d, at::kDouble) / options_.gamma : at::zeros({d, d}, at::kDouble));
  }

  void grow(std::span<const std::int64_t> columns, Context& context) const override {
    State& own = context.own(Scope::kShared);
    const std::int64_t more = static_cast<std::int64_t>(columns.size()), d = width(context.feature_width());
    append_rows(context, recursive_ ? "weight" : "moment", at::zeros({more, d}, at::kDouble));
    if (options_.balance) {
      append_rows(context, square(), at::zeros({more, d, d}, at::kDouble));
      append_rows(context, "seen", at::zeros({more}, at::kDouble));
    }
    if (!recursive_) own.erase("weight");
  }

  void observe(const Fields& in, const Fields&, const Batch& truth, State& own) const override {
    const at::Tensor features = finite_features("g-acil", in, truth);
    unpack(own);
    const at::Tensor target = own.tensor(recursive_ ? "weight" : "moment");
    const at::Tensor label = known_columns("g-acil", truth, target.size(0));
    const at::Tensor x = expanded(features, own);
    const at::Tensor weights = truth.has("weight") ? truth.column("weight").to(at::kDouble) : at::Tensor();
    if (recursive_)
      observe_recursively(x, label, weights, own);
    else
      add_sums(x, label, weights, own);
  }

  std::optional<Phase> next_phase(When when, Context& context) const override {
    if (when != When::kMain) return {};
    return one_pass(context, "analytic");
  }
  void end_phase(const Phase&, Context& context) const override {
    State& own = context.own(Scope::kShared);
    if (!recursive_) own.set("weight", solved(own));
  }
  void end_task(Context& context) const override {
    State& own = context.own(Scope::kShared);
    if (!own.has(square())) return;
    own.set(half(), options_.balance ? packed_each(own.tensor(square())) : packed(own.tensor(square())));
    own.erase(square());
  }

  std::optional<std::int64_t> learned_numbers(const State& state) const override {
    return state.has("weight") ? state.tensor("weight").numel() : 0;
  }

 private:
  const char* square() const { return recursive_ ? "inverse" : options_.balance ? "class_gram" : "gram"; }
  const char* half() const { return options_.balance ? "class_half" : "half"; }

  /// What is stored into what is learned with.
  void unpack(State& own) const {
    if (!own.has(half())) return;
    const std::int64_t d = own.tensor(recursive_ ? "weight" : "moment").size(1);
    own.set(square(), options_.balance ? unpacked_each(own.tensor(half()), d) : unpacked(own.tensor(half()), d));
    own.erase(half());
  }

  /// d: of X.
  std::int64_t width(std::int64_t features) const {
    return (options_.expansion == "identity" ? features : expansion_width(features)) + (options_.bias ? 1 : 0);
  }
  std::int64_t expansion_width(std::int64_t features) const {
    constexpr std::int64_t kTimes = 32, kMost = 4096;
    return options_.width > 0 ? options_.width : std::min(kTimes * features, kMost);
  }

  at::Tensor expanded(const at::Tensor& features, const State& own) const {
    at::Tensor x = features.to(at::kDouble);
    if (options_.expansion == "random")
      x = at::matmul(x, random_expansion(own.integer("seed"), expansion_width(x.size(1)), x.size(1)).to(x.device()).t())
              .relu_();
    return options_.bias ? at::cat({x, at::ones({x.size(0), 1}, x.options())}, 1) : x;
  }

  /// What A, B and W mean: another backbone, expansion or form gives them no sense.
  std::string made_for(Context& context) const {
    const Model bare = context.model("backbone");
    std::string text = fmt::format("backbone {} features {} {} width {} bias {} form {}", digest_of(bare.backbone()),
                                   context.feature_width(), options_.expansion, width(context.feature_width()),
                                   options_.bias, options_.form);
    if (options_.balance) text += " balance true";
    return recursive_ ? text + fmt::format(" gamma {}", options_.gamma) : text;
  }
  static void require_same(const std::string& stored, const std::string& now) {
    if (stored != now)
      fail(Code::kShapeMismatch,
           "[g-acil] what was learned belongs to '{}', this is '{}': use the same model directory and options, or "
           "another shared state",
           stored, now);
  }

  /// A += X^T diag(w) X, upper triangle; B += Y^T diag(w) X.
  void add_sums(const at::Tensor& x, const at::Tensor& label, const at::Tensor& weights, State& own) const {
    const at::Tensor weighted = weights.defined() ? x * weights.unsqueeze(1) : x;
    own.tensor("moment").index_add_(0, label, weighted);
    if (options_.balance)
      add_by_class(x, weighted, label, weights.defined() ? weights : at::ones({x.size(0)}, at::kDouble), own);
    else
      add_products(x, weighted, own.tensor("gram"));
    own.erase("weight");
  }
  static void add_products(const at::Tensor& x, const at::Tensor& weighted, const at::Tensor& gram) {
    constexpr std::int64_t kBlock = 512;  // columns at a time: what lies below the diagonal blocks is not needed
    for (std::int64_t from = 0; from < gram.size(1); from += kBlock) {
      const std::int64_t to = std::min(from + kBlock, gram.size(1));
      at::Tensor block = gram.narrow(0, 0, to).narrow(1, from, to - from);
      block.addmm_(weighted.narrow(1, 0, to).t(), x.narrow(1, from, to - from));
    }
  }
  static void add_by_class(const at::Tensor& x, const at::Tensor& weighted, const at::Tensor& label,
                           const at::Tensor& weights, State& own) {
    own.tensor("seen").index_add_(0, label, weights);
    const at::Tensor grams = own.tensor("class_gram"), count = at::bincount(label, {}, grams.size(0));
    for (std::int64_t c = 0; c < grams.size(0); ++c) {
      if (count[c].item<std::int64_t>() == 0) continue;
      const at::Tensor rows = label.eq(c).nonzero().flatten();
      add_products(x.index_select(0, rows), weighted.index_select(0, rows), grams[c]);
    }
  }

  /// w_c [C]: 1/n_c, scaled to a mean of 1 over the classes that have rows; 0 of those without.
  static at::Tensor class_weights(const at::Tensor& seen) {
    if (const at::Tensor wrong = seen.lt(0); wrong.any().item<bool>())
      fail(Code::kInvalidArgument, "[g-acil] more rows of column {} were taken out than were learned",
           wrong.nonzero()[0].item<std::int64_t>());
    const at::Tensor there = seen.gt(0), inverse = at::where(there, seen, at::ones_like(seen)).reciprocal() * there;
    return inverse * (there.sum() / inverse.sum().clamp_min(1e-300));
  }

  /// A, upper triangle, of which the caller may write; `weight` undefined or [C].
  at::Tensor gram_of(const State& own, const at::Tensor& weight, std::int64_t width) const {
    const bool learning = own.has(square());
    const at::Tensor stored = own.tensor(learning ? square() : half());
    const at::Tensor sum =
        weight.defined() ? at::matmul(weight, stored.flatten(1)).view(stored.sizes().slice(1)) : stored;
    if (!learning) return unpacked(sum, width);
    return weight.defined() ? sum : sum.clone();
  }

  /// W [C, d] = ((A + gamma I)^-1 B^T)^T by Cholesky.
  at::Tensor solved(const State& own) const {
    at::Tensor moment = own.tensor("moment"), weight;
    if (options_.balance) {
      weight = class_weights(own.tensor("seen"));
      moment = moment * weight.unsqueeze(1);
    }
    at::Tensor a = gram_of(own, weight, moment.size(1));
    a.diagonal().add_(options_.gamma);
    const auto [factor, info] = at::linalg_cholesky_ex(a, /*upper=*/true);
    if (const auto pivot = info.item<std::int64_t>(); pivot != 0)
      fail(Code::kInvalidArgument,
           "[g-acil] A + gamma I is not positive definite at pivot {} of {}: take a gamma larger than {}", pivot,
           a.size(0), options_.gamma);
    return at::cholesky_solve(moment.t(), factor, /*upper=*/true).t().contiguous();
  }

  /// Eq. 10 to 13, no more rows at a time than R has: the small matrix is the one that is factored.
  void observe_recursively(const at::Tensor& rows, const at::Tensor& labels, const at::Tensor& weights,
                           State& own) const {
    if (weights.defined() && weights.lt(0).any().item<bool>())
      fail(Code::kUnsupported, "[g-acil] rows cannot be taken out of form=recursive: learn with form=sums");
    at::Tensor inverse = mirrored(own.tensor("inverse")), weight = own.tensor("weight");
    for (std::int64_t from = 0; from < rows.size(0); from += inverse.size(0)) {
      const std::int64_t n = std::min(inverse.size(0), rows.size(0) - from);
      at::Tensor x = rows.narrow(0, from, n);
      at::Tensor y = at::one_hot(labels.narrow(0, from, n), weight.size(0)).to(at::kDouble);
      if (weights.defined()) {  // sum of w |y - x W|^2 is that of rows scaled by the square root
        const at::Tensor root = weights.narrow(0, from, n).sqrt().unsqueeze(1);
        x = x * root, y = y * root;
      }
      const at::Tensor rx = at::matmul(inverse, x.t());
      const at::Tensor inner = at::matmul(x, rx) + at::eye(n, at::kDouble);
      const auto [factor, info] = at::linalg_cholesky_ex(inner, /*upper=*/false);
      if (info.item<std::int64_t>() != 0)
        fail(Code::kInvalidArgument,
             "[g-acil] the recursion lost its precision at pivot {} of {}: take a gamma larger than {}, or form=sums",
             info.item<std::int64_t>(), n, options_.gamma);
      inverse = inverse - at::matmul(rx, at::cholesky_solve(rx.t(), factor));
      inverse = (inverse + inverse.t()) / 2;  // rounding would take the symmetry away
      weight = weight + at::matmul(inverse, at::matmul(x.t(), y - at::matmul(x, weight.t()))).t();
    }
    own.set("inverse", inverse);
    own.set("weight", weight.contiguous());
  }

  GacilOptions options_;
  bool recursive_;
};

Family shared(std::string name, Rows rows, Pool pool, at::ScalarType dtype = at::kDouble) {
  return {
      .name = std::move(name), .scope = Scope::kShared, .trains = false, .rows = rows, .pool = pool, .dtype = dtype};
}

const bool kRegistered =
    describe<Gacil, GacilOptions>("g-acil")
        .summary("ridge regression on a random expansion: learns a stream in one pass as if all were there")
        .paper("arXiv:2403.15706")
        .families({shared("gram", Rows::kFixed, Pool::kSum),
                   shared("inverse", Rows::kFixed, Pool::kKeep),
                   shared("half", Rows::kFixed, Pool::kSum),
                   shared("class_gram", Rows::kPerClass, Pool::kSum),
                   shared("class_half", Rows::kPerClass, Pool::kSum),
                   shared("seen", Rows::kPerClass, Pool::kSum),
                   shared("moment", Rows::kPerClass, Pool::kSum),
                   shared("weight", Rows::kPerClass, Pool::kKeep),
                   shared("seed", Rows::kFixed, Pool::kKeep, at::kLong),
                   shared("made_for", Rows::kFixed, Pool::kKeep, at::kByte),
                   {.name = "passed", .scope = Scope::kRun, .trains = false, .dtype = at::kLong}})
        .claims({Claim::kNeutralStart, Claim::kOrderFree})
        .needs({Need::kFixedFeatures})
        .option("width", &GacilOptions::width, in_range(0, 65536),
                "d of the random expansion; 0: 32 times the features' width, 4096 at most")
        .option("gamma", &GacilOptions::gamma, positive(), "strength of the ridge")
        .option("expansion", &GacilOptions::expansion, one_of({"random", "identity"}),
                "relu of a random product, or the features themselves")
        .option("form", &GacilOptions::form, one_of({"sums", "recursive"}),
                "sums: A and B add up, W is solved; recursive: the paper's update of R and W")
        .option("bias", &GacilOptions::bias, any_value(), "a constant 1 beside the expansion")
        .option("balance", &GacilOptions::balance, any_value(),
                "each class counts alike, however many rows it has (AIR): keeps 4 d (d + 2) bytes a class")
        .add();

}  // namespace
}  // namespace recast
