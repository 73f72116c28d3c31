// FeTrIL, feature translation. Petit et al., WACV 2023, arXiv:2211.13131.
// Idea     of a class that was learned one mean is kept; when new classes come, the spread of the nearest new class j
//          stands in for its own: pseudo-features F_j - mu_j + mu_p. A fresh linear head learns them beside the new
//          classes' features.
// State    shared: centroid [C, D], weight [C, D], bias [C], fp32, rows seen [C]: 8 C (D + 2) bytes. No sample is kept.
// Heads    svm (the paper's): rows brought to length 1, one-vs-rest, min 1/2 (|w|^2 + b^2) + C sum max(0, 1 - y f)^2,
//          solved by Newton's method to a distance of `tolerance` from the optimum; fc: softmax by SGD on the rows as
//          they are, from where the head stood, as PyCIL has it.
// Departs  All rows are brought to length 1 after the translation; in the authors' code the first 512 are not.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "recast/base/log.h"
#include "recast/method/registry.h"
#include "recast/method/truth.h"

namespace recast {
namespace {

struct FetrilOptions {
  std::string head = "svm", similarity = "euclidean";
  double c = 1, tolerance = 1e-4;
  std::int64_t max_pseudo_per_class = 0;
  double rate = 0.05, momentum = 0.9, decay = 5e-4;
  std::int64_t epochs = 50, batch = 128;
};

/// What a head is learned from.
struct Examples {
  at::Tensor x;      ///< [n, D] double
  at::Tensor label;  ///< [n] int64
};

/// Newton's method for one-vs-rest linear SVMs with squared hinge, all classes at once: theta [K, D + 1], whose last
/// column is the bias, a weight on a constant 1. Each class's objective is 1-strongly convex, so a gradient shorter
/// than the tolerance means that theta is nearer to the optimum than that.
class SquaredHinge {
 public:
  /// x: [n, D + 1]; sign [n, K]: 1 where the row is of the class, else -1.
  SquaredHinge(at::Tensor x, at::Tensor sign, double c) : x_(std::move(x)), sign_(std::move(sign)), c_(c) {}

  at::Tensor solve(double tolerance) const {
    constexpr int kSteps = 200;
    at::Tensor theta = at::zeros({sign_.size(1), x_.size(1)}, x_.options());
    for (int step = 0; step < kSteps; ++step) {
      const at::Tensor slack = slack_of(theta);
      const at::Tensor gradient = theta - 2 * c_ * at::matmul((sign_ * slack).t(), x_);
      const at::Tensor length = gradient.norm(2, {1});
      if (length.max().item<double>() <= tolerance) return theta;
      const at::Tensor direction = newton_direction(gradient, length, slack.gt(0).to(x_.scalar_type()), tolerance);
      theta = theta + direction * step_lengths(theta, direction, gradient).unsqueeze(1);
    }
    fail(Code::kInvalidArgument,
         "[fetril] the SVM did not converge to {} in {} steps: take a larger tolerance or a smaller c", tolerance,
         kSteps);
  }

 private:
  /// max(0, 1 - y f) [n, K].
  at::Tensor slack_of(const at::Tensor& theta) const { return (1 - sign_ * at::matmul(x_, theta.t())).clamp_min_(0); }

  at::Tensor values(const at::Tensor& theta) const {
    return 0.5 * theta.square().sum(1) + c_ * slack_of(theta).square().sum(0);
  }

  /// Conjugate gradients on (I + 2 C X^T D X) d = -g; a class that is done has d = 0.
  at::Tensor newton_direction(const at::Tensor& gradient, const at::Tensor& length, const at::Tensor& active,
                              double tolerance) const {
    constexpr int kSteps = 300;
    at::Tensor residual = -gradient * length.gt(tolerance).to(gradient.scalar_type()).unsqueeze(1);
    at::Tensor direction = at::zeros_like(gradient), p = residual.clone(), square = residual.square().sum(1);
    // Nearer to the solution the nearer the gradient is to zero: then Newton's steps converge quadratically.
    const at::Tensor enough = (length * at::minimum(length.sqrt(), at::full_like(length, 0.1))).square();
    for (int step = 0; step < kSteps && square.gt(enough).any().item<bool>(); ++step) {
      const at::Tensor hp = p + 2 * c_ * at::matmul((active * at::matmul(x_, p.t())).t(), x_);
      const at::Tensor alpha = (square / (p * hp).sum(1).clamp_min(1e-300)).unsqueeze(1);
      direction = direction + alpha * p;
      residual = residual - alpha * hp;
      const at::Tensor next = residual.square().sum(1);
      p = residual + (next / square.clamp_min(1e-300)).unsqueeze(1) * p;
      square = next;
    }
    return direction;
  }

  /// Halved for each class until Armijo's rule holds.
  at::Tensor step_lengths(const at::Tensor& theta, const at::Tensor& direction, const at::Tensor& gradient) const {
    const at::Tensor before = values(theta), slope = (gradient * direction).sum(1);
    at::Tensor length = at::ones_like(slope);
    for (int halving = 0; halving < 40; ++halving) {
      const at::Tensor after = values(theta + direction * length.unsqueeze(1));
      // Where the step is done the two values are equal but for rounding.
      const at::Tensor bad = after.gt(before + 1e-4 * length * slope + 1e-12 * before.abs());
      if (!bad.any().item<bool>()) break;
      length = at::where(bad, length / 2, length);
    }
    return length;
  }

  at::Tensor x_, sign_;
  double c_;
};

class Fetril final : public Method, public Head {
 public:
  explicit Fetril(FetrilOptions options) : options_(std::move(options)), svm_(options_.head == "svm") {}

  Fields forward(const Fields& in, const Fields*, const View& numbers, Pass&) const override {
    at::Tensor x = in.at("features");
    if (svm_) x = unit_rows(x);
    return {{"logits", at::linear(x, numbers.global("weight"), numbers.global("bias"))}};
  }

  void grow(std::span<const std::int64_t> columns, Context& context) const override {
    State& own = context.own(Scope::kShared);
    const auto more = static_cast<std::int64_t>(columns.size());
    if (own.has("centroid") && own.tensor("centroid").size(1) != context.feature_width())
      fail(Code::kShapeMismatch, "[fetril] the centroids are {} wide, the features {}: they are another backbone's",
           own.tensor("centroid").size(1), context.feature_width());
    append_rows(context, "centroid", at::zeros({more, context.feature_width()}));
    append_rows(context, "seen", at::zeros({more}, at::kLong));
    append_rows(context, "weight", first_rows(columns, context));
    append_rows(context, "bias", at::zeros({more}));
  }

  bool visit(const Batch& batch, const Fields& out, Context& context) const override {
    const at::Tensor features = finite_features("fetril", out, batch);
    State& own = context.own(Scope::kShared);
    const at::Tensor label = known_columns("fetril", batch, own.tensor("seen").size(0));
    refuse_known(label, own.tensor("seen"), context.task());
    State& run = context.own(Scope::kRun);
    const std::string place = fmt::format("{:08}", run.size());
    run.set(number_name("rows", {}, place), features);
    run.set(number_name("labels", {}, place), label);
    return true;
  }

  std::optional<Phase> next_phase(When when, Context& context) const override {
    if (when != When::kMain) return {};
    return one_pass(context, "features");
  }

  void end_phase(const Phase&, Context& context) const override {
    const Examples fresh = collected(context.own(Scope::kRun));
    State& own = context.own(Scope::kShared);
    const at::Tensor seen = own.tensor("seen");
    const at::Tensor means = learn_means(fresh, own, context.task());
    Examples rows = with_pseudo_features(fresh, means, seen, own.tensor("centroid"));
    if (svm_) {
      solve_svm(std::move(rows), own);
    } else {
      descend(rows, context);
    }
  }

  bool draws() const override { return !svm_; }
  std::optional<at::Tensor> class_rows(const State& own) const override {
    if (!own.has("centroid")) return {};
    return own.tensor("centroid");
  }
  std::optional<std::int64_t> learned_numbers(const State& state) const override {
    return state.has("weight") ? state.tensor("weight").numel() + state.tensor("bias").numel() : 0;
  }

 private:
  static at::Tensor unit_rows(const at::Tensor& x) { return x / x.norm(2, {1}, true).clamp_min(1e-12); }

  /// As linear layers of PyTorch start, for the head that goes on from its rows.
  at::Tensor first_rows(std::span<const std::int64_t> columns, Context& context) const {
    const std::int64_t width = context.feature_width();
    std::vector<at::Tensor> rows;
    for (const std::int64_t column : columns) {
      const Key key = context.key().fold("column", static_cast<std::uint64_t>(column));
      rows.push_back(svm_ ? at::zeros({1, width})
                          : (key.uniform({1, width}) * 2 - 1) / std::sqrt(static_cast<double>(width)));
    }
    return at::cat(rows);
  }

  static void refuse_known(const at::Tensor& label, const at::Tensor& seen, const Task& task) {
    const at::Tensor known = seen.index_select(0, label).gt(0);
    if (!known.any().item<bool>()) return;
    const auto column = label[known.nonzero()[0].item<std::int64_t>()].item<std::int64_t>();
    fail(
        Code::kInvalidArgument,
        "[fetril] class '{}' was learned before, and this head learns each class once: leave its images out, or take a "
        "head for classes that come back",
        task.labels.at(static_cast<std::size_t>(column)));
  }

  static Examples collected(State& run) {
    std::vector<at::Tensor> features, labels;
    std::vector<std::string> names;
    for (const auto& [name, number] : run)
      if (family_of(name) == "rows" || family_of(name) == "labels") names.push_back(name);
    for (const std::string& name : names) {
      (family_of(name) == "rows" ? features : labels).push_back(run.tensor(name));
      run.erase(name);
    }
    return {at::cat(features).to(at::kDouble), at::cat(labels)};
  }

  /// Means [C, D] of the classes that came, in double; rows of the others are zero. Their centroids and counts are set
  /// down.
  static at::Tensor learn_means(const Examples& fresh, State& own, const Task& task) {
    const at::Tensor before = own.tensor("seen");
    const at::Tensor count = at::bincount(fresh.label, {}, before.size(0));
    if (const at::Tensor empty = before.add(count).eq(0); empty.any().item<bool>())
      fail(Code::kUnsupported, "[fetril] class '{}' has no training row",
           task.labels.at(static_cast<std::size_t>(empty.nonzero()[0].item<std::int64_t>())));
    if (const at::Tensor single = count.eq(1); single.any().item<bool>())
      log_event(LogLevel::kWarn, "fetril.single_row",
                {{"classes", single.sum().item<std::int64_t>()}, {"task", std::string_view(task.name)}});
    if (const auto zero = fresh.x.norm(2, {1}).eq(0).sum().item<std::int64_t>(); zero > 0)
      log_event(LogLevel::kWarn, "fetril.zero_rows", {{"rows", zero}, {"task", std::string_view(task.name)}});
    at::Tensor means = at::zeros({before.size(0), fresh.x.size(1)}, at::kDouble);
    means.index_add_(0, fresh.label, fresh.x);
    means.div_(count.clamp_min(1).unsqueeze(1));
    const at::Tensor is_new = count.gt(0).unsqueeze(1);
    own.set("centroid", at::where(is_new, means.to(at::kFloat), own.tensor("centroid")));
    own.set("seen", before + count);
    return means;
  }

  /// The new class that a known one borrows from.
  at::Tensor nearest_new(const at::Tensor& known, const at::Tensor& fresh) const {
    if (options_.similarity == "cosine") return at::matmul(unit_rows(known), unit_rows(fresh).t()).argmax(1);
    return at::cdist(known, fresh, 2, /*compute_mode=*/2).argmin(1);
  }

  /// Rows of the new classes, then for each known class those of the new class that it borrows from, translated.
  Examples with_pseudo_features(const Examples& fresh, const at::Tensor& means, const at::Tensor& seen_before,
                                const at::Tensor& centroid) const {
    const at::Tensor known = seen_before.gt(0).nonzero().flatten();
    if (known.size(0) == 0) return fresh;
    const at::Tensor came = at::bincount(fresh.label, {}, seen_before.size(0)).gt(0).nonzero().flatten();
    const at::Tensor mu = centroid.to(at::kDouble).index_select(0, known);
    const at::Tensor lender = came.index_select(0, nearest_new(mu, means.index_select(0, came)));
    std::vector<at::Tensor> rows = {fresh.x}, labels = {fresh.label};
    for (std::int64_t p = 0; p < known.size(0); ++p) {
      const std::int64_t j = lender[p].item<std::int64_t>();
      at::Tensor places = fresh.label.eq(j).nonzero().flatten();
      if (const std::int64_t most = options_.max_pseudo_per_class; most > 0 && places.size(0) > most)
        places = places.index_select(0, at::arange(most).mul(places.size(0)).floor_divide(most));
      rows.push_back(fresh.x.index_select(0, places) - means[j] + mu[p]);
      labels.push_back(known[p].expand({places.size(0)}));
    }
    return {at::cat(rows), at::cat(labels)};
  }

  /// A fresh head over all classes.
  void solve_svm(Examples rows, State& own) const {
    constexpr std::int64_t kMostElements = 16'000'000;  // of one n x K matrix, of which there are a few
    const std::int64_t classes = own.tensor("seen").size(0), n = rows.x.size(0);
    const at::Tensor x = at::cat({unit_rows(rows.x), at::ones({n, 1}, at::kDouble)}, 1);
    const std::int64_t at_once = std::clamp<std::int64_t>(kMostElements / std::max<std::int64_t>(n, 1), 1, classes);
    std::vector<at::Tensor> solved;
    for (std::int64_t first = 0; first < classes; first += at_once) {
      const at::Tensor columns = at::arange(first, std::min(first + at_once, classes));
      const at::Tensor sign = rows.label.unsqueeze(1).eq(columns).to(at::kDouble) * 2 - 1;
      solved.push_back(SquaredHinge(x, sign, options_.c).solve(options_.tolerance));
    }
    const at::Tensor theta = at::cat(solved).to(at::kFloat);
    own.set("weight", theta.narrow(1, 0, theta.size(1) - 1).contiguous());
    own.set("bias", theta.select(1, theta.size(1) - 1).contiguous());
  }

  /// SGD with momentum along a cosine, on the rows as they are.
  void descend(const Examples& rows, Context& context) const {
    State& own = context.own(Scope::kShared);
    const at::Tensor x = rows.x.to(at::kFloat);
    at::Tensor weight = own.tensor("weight").clone(), bias = own.tensor("bias").clone();
    at::Tensor weight_speed = at::zeros_like(weight), bias_speed = at::zeros_like(bias);
    const Key key = context.key().fold("fc", static_cast<std::uint64_t>(weight.size(0)));
    for (std::int64_t epoch = 0; epoch < options_.epochs; ++epoch) {
      const double rate =
          options_.rate / 2 *
          (1 + std::cos(std::numbers::pi * static_cast<double>(epoch) / static_cast<double>(options_.epochs)));
      const at::Tensor order =
          at::tensor(key.fold("order", static_cast<std::uint64_t>(epoch)).permutation(x.size(0)), at::kLong);
      for (const at::Tensor& batch : order.split(options_.batch)) {
        const at::Tensor in = x.index_select(0, batch), label = rows.label.index_select(0, batch).unsqueeze(1);
        at::Tensor error = at::softmax(at::linear(in, weight, bias), 1);
        error.scatter_add_(1, label, at::full({label.size(0), 1}, -1.0f));
        error.div_(static_cast<double>(in.size(0)));
        weight_speed.mul_(options_.momentum).add_(at::matmul(error.t(), in)).add_(weight, options_.decay);
        bias_speed.mul_(options_.momentum).add_(error.sum(0)).add_(bias, options_.decay);
        weight.sub_(weight_speed, rate);
        bias.sub_(bias_speed, rate);
      }
    }
    if (!weight.isfinite().all().item<bool>())
      fail(Code::kInvalidArgument, "[fetril] the head diverged: take a rate below {}", options_.rate);
    own.set("weight", weight);
    own.set("bias", bias);
  }

  FetrilOptions options_;
  bool svm_;
};

Family kept(std::string name, at::ScalarType dtype = at::kFloat) {
  return {.name = std::move(name),
          .scope = Scope::kShared,
          .trains = false,
          .rows = Rows::kPerClass,
          .pool = Pool::kKeep,
          .dtype = dtype};
}
Family passing(std::string name, at::ScalarType dtype) {
  return {.name = std::move(name), .scope = Scope::kRun, .trains = false, .dtype = dtype};
}

const bool kRegistered =
    describe<Fetril, FetrilOptions>("fetril")
        .summary("one mean a class; the spread of known classes is borrowed from the nearest new one")
        .paper("arXiv:2211.13131")
        .families({kept("centroid"), kept("seen", at::kLong), kept("weight"), kept("bias"), passing("rows", at::kFloat),
                   passing("labels", at::kLong), passing("passed", at::kLong)})
        .claims({Claim::kNeutralStart})
        .needs({Need::kFixedFeatures, Need::kNewClasses})
        .option("head", &FetrilOptions::head, one_of({"svm", "fc"}), "linear SVM on unit rows, or softmax by SGD")
        .option("similarity", &FetrilOptions::similarity, one_of({"euclidean", "cosine"}),
                "which new class is the nearest")
        .option("c", &FetrilOptions::c, positive(), "svm: weight of the errors")
        .option("tolerance", &FetrilOptions::tolerance, positive(),
                "svm: distance of each row from the optimum, at most")
        .option("max_pseudo_per_class", &FetrilOptions::max_pseudo_per_class, at_least(0),
                "rows that a known class borrows, at most, evenly spaced; 0: all")
        .option("rate", &FetrilOptions::rate, positive(), "fc: learning rate at the start")
        .option("momentum", &FetrilOptions::momentum, in_range(0, 0.999), "fc: of SGD")
        .option("decay", &FetrilOptions::decay, at_least(0), "fc: weight decay")
        .option("epochs", &FetrilOptions::epochs, at_least(1), "fc: passes over all rows")
        .option("batch", &FetrilOptions::batch, at_least(1), "fc: rows a step")
        .add();

}  // namespace
}  // namespace recast
