// The C++ side of `bench/run data`: image files on their way to a learning step. Prints one JSON document.
//   check  every batch of an epoch, decoded from the files beside cached: pixels, labels and row numbers
//   learn  learn() as `recast learn` calls it, on images decoded in every epoch or once
//   flow   seconds of an epoch of cached images that nobody learns from
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <nlohmann/json.hpp>

#include "learning_step.h"
#include "memory.h"
#include "program.h"
#include "recast/base/error.h"
#include "recast/run/image_source.h"
#include "recast/train/learn.h"

namespace {
using namespace recast;
using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

struct Arguments {
  fs::path model, start, data;
  std::string dtype = "fp32", augmentation = "none";
  std::int64_t batch_size = 32, epochs = 2;
  int threads = 1;
  bool cached = false;
};

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// One split as `recast learn` opens it, its pixels kept or never kept.
struct Images {
  std::shared_ptr<const Pixels> pixels;
  std::shared_ptr<ImageSource> source;
};

Images open_images(const Arguments& arguments, const std::shared_ptr<const Dataset>& dataset, Split split,
                   bool cached) {
  const Preprocessing preprocessing = read_model_files(arguments.model).config.preprocessing;
  Images images;
  images.pixels =
      std::make_shared<Pixels>(*dataset, split, preprocessing, cached ? Pixels::kDefaultCacheBytes : std::int64_t{0});
  ImageSourceOptions options;
  options.threads = std::max(1, at::get_num_threads());
  options.augmentation = Augmentation::named(arguments.augmentation);
  options.pixels = images.pixels;
  images.source = std::make_shared<ImageSource>(dataset, split, preprocessing, options);
  images.source->decode_all(nullptr, nullptr);
  const std::int64_t bytes = cached ? images.pixels->size() * 3 * preprocessing.size_px * preprocessing.size_px : 0;
  if (images.pixels->cached_bytes() != bytes)
    fail(Code::kInternal, "[bench] {} bytes of pixels are kept, expected {}", images.pixels->cached_bytes(), bytes);
  return images;
}

std::shared_ptr<const Dataset> open_data(const Arguments& arguments) { return open_dataset(arguments.data); }

std::int64_t batches(const Arguments& arguments, std::int64_t rows) {
  return (rows + arguments.batch_size - 1) / arguments.batch_size;
}

nlohmann::json run_check(const Arguments& arguments) {
  const auto dataset = open_data(arguments);
  const Images decoded = open_images(arguments, dataset, Split::kTrain, false);
  const Images cached = open_images(arguments, dataset, Split::kTrain, true);
  std::int64_t checked = 0, differing = 0;
  for (const bool augmented : {false, true}) {
    const Key key(arguments.epochs);
    const auto open = [&](const Images& images) {
      return images.source->open(key.permutation(images.source->rows()), arguments.batch_size, augmented, key);
    };
    const auto one = open(decoded), other = open(cached);
    while (const auto batch = one->next()) {
      const auto same = other->next();
      for (const char* column : {"input", "label", "sample"})
        differing += !same || !batch->column(column).equal(same->column(column));
      ++checked;
    }
  }
  return {{"batches", checked}, {"differing", differing}};
}

/// A source that is learned from, and the seconds of its epochs: from asking for the first batch to the end of the last
/// step, so that images decoded ahead of a step count wherever they are decoded.
class Epochs final : public Source, public Listener {
 public:
  Epochs(std::shared_ptr<const Source> inner, std::int64_t steps) : inner_(std::move(inner)), steps_(steps) {}
  std::int64_t rows() const override { return inner_->rows(); }
  std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                    Key key) const override {
    begin_ = Clock::now();
    return inner_->open(std::move(order), batch_size, augmented, key);
  }
  void step(std::int64_t done, std::int64_t) override {
    if (done % steps_ == 0) seconds_.push_back(seconds_since(begin_) / static_cast<double>(steps_));
  }
  /// Of a step, the mean of each epoch.
  const std::vector<double>& seconds() const { return seconds_; }

 private:
  const std::shared_ptr<const Source> inner_;
  const std::int64_t steps_;
  mutable Clock::time_point begin_;
  std::vector<double> seconds_;
};

nlohmann::json run_learn(const Arguments& arguments) {
  const auto dataset = open_data(arguments);
  const Images train = open_images(arguments, dataset, Split::kTrain, arguments.cached);
  const Images validation = open_images(arguments, dataset, Split::kValidation, true);
  Recipe recipe = step_recipe(arguments.batch_size, arguments.dtype == "bf16", arguments.epochs);
  recipe.augmentation = arguments.augmentation;
  const Model model = start_model(ModelDirectory::open(arguments.model, true), arguments.start, recipe);
  const std::int64_t loaded = memory_bytes("VmRSS");
  const auto epochs = std::make_shared<Epochs>(train.source, batches(arguments, train.source->rows()));
  Budget budget;
  budget.listener = epochs.get();
  const Learned learned = learn(model, step_task(model), {epochs, validation.source}, recipe, budget);
  nlohmann::json losses = nlohmann::json::array();
  for (const EpochMetrics& epoch : learned.history) losses.push_back(epoch.train_loss);
  return {{"losses", losses},
          {"seconds", epochs->seconds()},
          {"loaded_bytes", loaded},
          {"peak_bytes", memory_bytes("VmHWM")}};
}

nlohmann::json run_flow(const Arguments& arguments) {
  const auto dataset = open_data(arguments);
  const Images images = open_images(arguments, dataset, Split::kTrain, true);
  LoaderOptions options;
  options.batch_size = arguments.batch_size;
  options.threads = std::max(1, at::get_num_threads());
  nlohmann::json loader, stream;
  for (std::int64_t epoch = 0; epoch < arguments.epochs; ++epoch) {
    const Key key(static_cast<std::uint64_t>(epoch));
    const std::vector<std::int64_t> order = key.permutation(images.source->rows());
    const auto drained = [](auto&& batches) {
      while (batches.next()) continue;
    };
    auto begin = Clock::now();
    drained(Loader(*images.pixels, order, options, key));
    loader.push_back(seconds_since(begin));
    begin = Clock::now();
    drained(*images.source->open(order, arguments.batch_size, false, key));
    stream.push_back(seconds_since(begin));
  }
  return {{"images", images.source->rows()}, {"loader_seconds", loader}, {"stream_seconds", stream}};
}

nlohmann::json run(const std::string& what, const Arguments& arguments) {
  at::set_num_threads(arguments.threads);
  return what == "check" ? run_check(arguments) : what == "learn" ? run_learn(arguments) : run_flow(arguments);
}

CLI::App& describe(CLI::App& app, const char* what, Arguments& arguments) {
  CLI::App& command = *app.add_subcommand(what);
  command.add_option("--model", arguments.model, "model directory, whose preprocessing counts")->required();
  command.add_option("--data", arguments.data, "folder of images")->required();
  command.add_option("--augmentation", arguments.augmentation, "none, flips or paper");
  command.add_option("--batch-size", arguments.batch_size)->check(CLI::PositiveNumber);
  command.add_option("--epochs", arguments.epochs)->check(CLI::PositiveNumber);
  command.add_option("--threads", arguments.threads)->check(CLI::Range(1, 1024));
  return command;
}

}  // namespace

int main(int argc, char** argv) {
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);  // as the program `recast` does
  Arguments arguments;
  CLI::App app("the C++ side of bench/run data");
  app.require_subcommand(1);
  describe(app, "check", arguments);
  describe(app, "flow", arguments);
  CLI::App& learning = describe(app, "learn", arguments);
  learning.add_option("--start", arguments.start, "numbers to start from")->required();
  learning.add_option("--dtype", arguments.dtype)->check(CLI::IsMember({"fp32", "bf16"}));
  learning.add_flag("--cached", arguments.cached, "decode once");
  CLI11_PARSE(app, argc, argv);
  return print_result("data_bench", [&] { return run(app.get_subcommands().front()->get_name(), arguments); });
}
