// Batch normalisation of the task's own. Ioffe and Szegedy, ICML 2015, arXiv:1502.03167, algorithms 1 and 2.
// Idea     while learning, activations are normalised by their batch, and running statistics follow it with a momentum;
//          these, kept in the task, replace the backbone's in evaluation. Gain and bias stay what they are.
// State    per batch norm mean [C] and var [C], fp32: 8 C bytes. ResNet-34: 17,024 numbers.
// Start    the backbone's running statistics: its bits in evaluation.
// Note     a batch with one value a channel has no variance: it is normalised by the running statistics and leaves them
//          alone.
#include <ATen/ATen.h>

#include "recast/method/model.h"

namespace recast {
namespace {

struct BatchNormOptions {
  double momentum = 0.1;
};

class BatchNorm final : public Method, public Branch {
 public:
  explicit BatchNorm(BatchNormOptions options) : options_(options) {}

  bool replaces() const override { return true; }

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const Slot& slot : anatomy.slots)
      if (slot.kind == SlotKind::kNorm && anatomy.find(slot.name + ".running_mean")) names.push_back(slot.name);
    return names;
  }

  void begin_task(Context& context) const override {
    const Model backbone = context.model("backbone");
    for (const std::string& name : slots(context.anatomy())) {
      const auto own = [&](const char* statistic) {
        return backbone.backbone().weight(context.anatomy().at(name + statistic));
      };
      context.create(number_name("mean", name), own(".running_mean"));
      context.create(number_name("var", name), own(".running_var"));
    }
  }

  at::Tensor around(const Slot& slot, const at::Tensor& x, const Next&, const View& numbers,
                    Pass& pass) const override {
    const auto as_x = [&](const at::Tensor& t) { return t.to(x.scalar_type()); };
    const at::Tensor gain = as_x(pass.weight(slot.name + ".weight")), bias = as_x(pass.weight(slot.name + ".bias"));
    at::Tensor mean = as_x(numbers("mean")), var = as_x(numbers("var"));
    const bool by_batch = pass.mode() == Mode::kTrain && x.numel() > x.size(1);
    if (by_batch) {  // which moves the copies
      mean = mean.clone();
      var = var.clone();
    }
    const at::Tensor y =
        at::batch_norm(x, gain, bias, mean, var, by_batch, options_.momentum, slot.eps, /*cudnn_enabled=*/false);
    if (by_batch) {
      pass.emit(number_name("mean", slot.name), mean.to(at::kFloat));
      pass.emit(number_name("var", slot.name), var.to(at::kFloat));
    }
    return y;
  }

  /// No gradient moves them, and they are the task's all the same.
  std::optional<std::int64_t> learned_numbers(const State& task) const override { return task.bytes() / 4; }

 private:
  BatchNormOptions options_;
};

const bool kRegistered =
    describe<BatchNorm, BatchNormOptions>("batch-norm")
        .summary("batch norms with statistics of the task's own; learn --bn task takes it")
        .paper("arXiv:1502.03167")
        .families({{.name = "mean", .trains = false, .pool = Pool::kMean},
                   {.name = "var", .trains = false, .pool = Pool::kMean}})
        .claims({Claim::kIsolated, Claim::kNeutralStart, Claim::kOwnStatistics})
        .option("momentum", &BatchNormOptions::momentum, in_range(0, 1), "share of a batch in the running statistics")
        .add();

}  // namespace
}  // namespace recast
