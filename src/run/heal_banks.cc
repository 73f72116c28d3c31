#include "heal_banks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "layer_features.h"
#include "original_outputs.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/data/dataset.h"
#include "recast/run/image_source.h"

namespace recast {
namespace {

constexpr std::int64_t kMostSteps = 1'000'000, kMostBatch = 4096;

/// The numbers of all banks as leaves that take gradients, and the network whose covered weights are made of them.
class HealingRoute final : public ListeningRoute {
 public:
  HealingRoute(const Backbone& backbone, const std::vector<std::string>& layers, const ModelFiles& files)
      : ListeningRoute(backbone, layers) {
    for (const auto& [name, tensor] : files.bank) leaves_[name] = tensor.clone().requires_grad_(true);
    for (const BankConfig::Group& group : files.config.bank.members)
      for (const std::string& slot : group.slots) bank_of_[slot] = group.name + ".templates";
  }

  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
    const auto coefficients = leaves_.find(slot.name + ".coefficients");
    if (coefficients == leaves_.end()) return ListeningRoute::product(slot, x, apply);
    const at::Tensor& templates = leaves_.at(bank_of_.at(slot.name));
    return apply(x, at::mv(templates.flatten(1).t(), coefficients->second.mean(0)).view(slot.shape));
  }

  NamedTensors& leaves() { return leaves_; }

 private:
  NamedTensors leaves_;
  std::map<std::string, std::string> bank_of_;
};

/// Loshchilov and Hutter, ICLR 2019, without decay: the banks are to stay where mimicry put them unless a gradient
/// says otherwise. Rates are relative to each tensor's own size.
class Optimiser {
 public:
  explicit Optimiser(NamedTensors& leaves) : leaves_(leaves) {
    for (const auto& [name, leaf] : leaves_)
      moments_[name] = {at::zeros_like(leaf), at::zeros_like(leaf),
                        leaf.norm().item<double>() / std::sqrt(static_cast<double>(leaf.numel()))};
  }

  void step(double rate) {
    constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-12;
    const at::NoGradGuard no_grad;
    ++steps_;
    const double first = 1 - std::pow(kBeta1, steps_), second = 1 - std::pow(kBeta2, steps_);
    for (auto& [name, leaf] : leaves_) {
      Moments& moments = moments_.at(name);
      const at::Tensor gradient = leaf.grad();
      if (!gradient.defined()) continue;
      moments.mean.lerp_(gradient, 1 - kBeta1);
      moments.square.mul_(kBeta2).addcmul_(gradient, gradient, 1 - kBeta2);
      const at::Tensor size = moments.square.sqrt().div_(std::sqrt(second)).add_(kEps);
      leaf.addcdiv_(moments.mean, size, -rate * moments.size / first);
      leaf.mutable_grad() = at::Tensor();
    }
  }

 private:
  struct Moments {
    at::Tensor mean, square;
    double size = 0;  ///< root mean square of the tensor at the start
  };
  NamedTensors& leaves_;
  std::map<std::string, Moments> moments_;
  double steps_ = 0;
};

/// Endless training batches: each pass over the images in an order of its own.
class Batches {
 public:
  Batches(const Source& source, std::int64_t size, const Key& key) : source_(source), size_(size), key_(key) {}

  at::Tensor next() {
    std::optional<Batch> batch = stream_ ? stream_->next() : std::nullopt;
    if (!batch) {
      const Key key = key_.fold("pass", pass_++);
      stream_ = source_.open(key.permutation(source_.rows()), size_, /*augmented=*/false, key);
      batch = stream_->next();
    }
    return batch->column("input");
  }

 private:
  const Source& source_;
  const std::int64_t size_;
  const Key key_;
  std::uint64_t pass_ = 0;
  std::unique_ptr<BatchStream> stream_;
};

struct Losses {
  double first = 0, last = 0;
};

/// Difference of the outputs of layers and features, relative to the original's, mean over them.
at::Tensor distance(const HealingRoute& healed, const at::Tensor& features, const ListeningRoute& original,
                    const at::Tensor& original_features) {
  const auto relative = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).square().sum() / b.square().sum().clamp_min(1e-12);
  };
  at::Tensor sum = relative(features, original_features);
  for (const auto& [layer, output] : healed.outputs) sum = sum + relative(output, original.outputs.at(layer));
  return sum / static_cast<double>(healed.outputs.size() + 1);
}

Losses train(HealingRoute& healing, const Backbone& network, const Backbone& original,
             const std::vector<std::string>& layers, Batches& batches, const HealOptions& options,
             const StudyWatch& watch) {
  Optimiser optimiser(healing.leaves());
  Losses losses;
  if (watch.listener) watch.listener->stage("heal", options.steps);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    const at::Tensor input = batches.next();
    ListeningRoute target(original, layers);
    at::Tensor wanted;
    {
      const at::NoGradGuard no_grad;
      wanted = original.features(input, target);
    }
    const at::AutoGradMode grad(true);
    const at::Tensor loss = distance(healing, network.features(input, healing), target, wanted);
    const double value = loss.item<double>();
    if (!std::isfinite(value))
      fail(Code::kInvalidArgument, "[heal] diverged at step {}: the loss became {}; lower --heal-rate (it was {:g})",
           step, value, options.rate);
    loss.backward();
    const double share = static_cast<double>(step) / static_cast<double>(options.steps);
    optimiser.step(options.rate / 2 * (1 + std::cos(M_PI * share)));
    (step == 0 ? losses.first : losses.last) = value;
    if (watch.stop && *watch.stop)
      fail(Code::kCancelled, "[heal] stopped on request at step {} of {}; nothing was written", step + 1,
           options.steps);
    if (watch.listener) watch.listener->step(step + 1, options.steps);
  }
  if (options.steps == 1) losses.last = losses.first;
  return losses;
}

/// The bank with the numbers as they are now.
NamedTensors numbers_of(NamedTensors& leaves) {
  NamedTensors out;
  for (const auto& [name, leaf] : leaves) out[name] = leaf.detach().clone();
  return out;
}

}  // namespace

void check_heal_options(const HealOptions& options) {
  const auto range = [](const char* flag, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value < least || value > most)
      fail(Code::kInvalidArgument, "[heal] {} must lie in {}..{}, got {}", flag, least, most, value);
  };
  range("--heal", options.steps, 0, kMostSteps);
  if (options.steps == 0) return;
  range("--heal-batch", options.batch, 1, kMostBatch);
  if (!(options.rate > 0 && options.rate <= 1))
    fail(Code::kInvalidArgument, "[heal] --heal-rate must lie above 0 and at most 1, got {:g}", options.rate);
  if (options.images.data.empty())
    fail(Code::kInvalidArgument, "[heal] --heal needs real images to compare outputs on: give --data PATH");
}

nlohmann::json heal_banks(ModelFiles& files, const ModelDirectory& original, const HealOptions& options,
                          std::uint64_t seed, const StudyWatch& watch) {
  check_heal_options(options);
  const Stopwatch clock;
  const OriginalOutputs validation(original, options.images, Split::kValidation, watch),
      test(original, options.images, Split::kTest, watch);
  ImageSourceOptions source_options;
  source_options.threads = std::max(1, at::get_num_threads());
  const ImageSource source(open_dataset(options.images.data), Split::kTrain, preprocessing_of(original, options.images),
                           source_options);

  const auto before = make_backbone(files);
  const std::vector<std::string> layers = layers_of(before->anatomy());
  HealingRoute healing(*before, layers, files);
  Batches batches(source, std::min(options.batch, source.rows()), Key(seed).fold("heal"));
  const Losses losses = train(healing, *before, *original.backbone(), layers, batches, options, watch);

  ModelFiles healed = files;
  healed.bank = numbers_of(healing.leaves());
  const auto after = make_backbone(healed);
  const double validation_before = validation.compare(*before, watch).mean(),
               validation_after = validation.compare(*after, watch).mean();
  const bool kept = validation_after > validation_before;
  const Likeness test_before = test.compare(*before, watch);
  const Likeness test_after = kept ? test.compare(*after, watch) : test_before;
  if (kept) files.bank = std::move(healed.bank);

  nlohmann::json rows = nlohmann::json::array();
  for (std::size_t i = 0; i < test_before.layers.size(); ++i)
    rows.push_back({{"layer", test_before.layers[i].layer},
                    {"before", test_before.layers[i].cosine},
                    {"after", test_after.layers[i].cosine}});
  return {{"steps", options.steps},
          {"batch", options.batch},
          {"rate", options.rate},
          {"images", source.rows()},
          {"seconds", clock.ms() / 1000},
          {"loss_first", losses.first},
          {"loss_last", losses.last},
          {"kept", kept},
          {"validation",
           {{"images", validation.json()["images"]}, {"before", validation_before}, {"after", validation_after}}},
          {"features", std::move(rows)},
          {"mean_feature_cosine", {{"before", test_before.mean()}, {"after", test_after.mean()}}},
          {"task", {{"before", test_before.json()["task"]}, {"after", test_after.json()["task"]}}},
          {"test_images", test.json()["images"]}};
}

}  // namespace recast
