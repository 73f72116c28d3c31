// The C++ side of bench/serve: puts tasks into a model directory's store as `recast learn` would, many or fast.
//   fill     COUNT tasks task-0000000, ..., the rows of --numbers in turn
//   machine  says what processor this is, and nothing else
//   swap     commits one task again and again, --rate times a second, and writes down when each version came
// --numbers is a safetensors file that the rivals read too: "c@SLOT" [N, K, n] for each slot, "classes" [N], and the
// heads one behind the other, "weight" [sum of classes, D] and "bias" [sum of classes].
// Each prints one JSON document.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "recast/base/error.h"
#include "recast/format/tensor_file.h"
#include "recast/method/compose.h"
#include "recast/method/recipe.h"
#include "recast/run/machine.h"
#include "recast/run/model_directory.h"

namespace {
using namespace recast;
using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

struct Arguments {
  fs::path model, numbers, log;
  std::string task = "swapped";
  std::int64_t count = 0, variants = 0, image_size = 224;
  double rate = 1000, seconds = 5;
};

double seconds_of(Clock::time_point time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

/// Tasks of a file of numbers over one model directory.
class Tasks {
 public:
  Tasks(const Arguments& arguments)
      : directory_(ModelDirectory::open(arguments.model, /*read_only=*/false)),
        file_(read_tensor_file(arguments.numbers)),
        image_size_(arguments.image_size) {
    Recipe recipe;
    recipe.plugs = {parse_plug("ce"), parse_plug("adamw")};
    plugs_ = merge_plugs(recipe, {parse_plug("recast"), parse_plug("linear-probe")}, directory_.backbone()->anatomy());
    const at::Tensor& classes = file_.tensors.at("classes");
    std::int64_t row = 0;
    for (std::int64_t i = 0; i < classes.size(0); ++i) {
      first_row_.push_back(row);
      row += classes[i].item<std::int64_t>();
    }
    first_row_.push_back(row);
  }

  std::int64_t rows() const { return static_cast<std::int64_t>(first_row_.size()) - 1; }
  TaskStore& store() const { return directory_.store(); }
  /// Composes a record as a server will: numbers that do not fit fail here.
  void check(const TaskRecord& task) const { directory_.model(task); }

  TaskRecord make(const std::string& name, std::int64_t row) const {
    TaskRecord task;
    task.name = name;
    task.fingerprint = directory_.fingerprint();
    task.plugs = plugs_;
    task.recipe = {{"recipe", "bench"}, {"image_size", image_size_}, {"seed", 1}};
    const auto begin = first_row_[static_cast<std::size_t>(row)];
    const auto classes = first_row_[static_cast<std::size_t>(row) + 1] - begin;
    for (std::int64_t c = 0; c < classes; ++c) task.labels.push_back(fmt::format("class {}", c));
    State &coefficients = task.numbers.at("recast", Scope::kTask),
          &head = task.numbers.at("linear-probe", Scope::kTask);
    for (const auto& [number, tensor] : file_.tensors)
      if (family_of(number) == "c") coefficients.set(number, tensor[row].unsqueeze(1).contiguous());
    head.set("weight", file_.tensors.at("weight").narrow(0, begin, classes).contiguous());
    head.set("bias", file_.tensors.at("bias").narrow(0, begin, classes).contiguous());
    return task;
  }

 private:
  const ModelDirectory directory_;
  const TensorFile file_;
  const std::int64_t image_size_;
  std::vector<PlugSpec> plugs_;
  std::vector<std::int64_t> first_row_;  // of each task's head; one more: the end
};

nlohmann::json fill(const Arguments& arguments) {
  const Tasks tasks(arguments);
  const auto begin = Clock::now();
  for (std::int64_t i = 0; i < arguments.count; ++i) {
    const TaskRecord task = tasks.make(fmt::format("task-{:07}", i), i % tasks.rows());
    if (i == 0) tasks.check(task);
    tasks.store().commit(task);
  }
  return {{"tasks", arguments.count}, {"seconds", seconds_of(Clock::now()) - seconds_of(begin)}};
}

struct Commit {
  std::int64_t version = 0, row = 0;
  Clock::time_point begin, end;
};

/// One line each: version, row of the numbers, begin and end in seconds of the monotonic clock, which the client reads
/// too.
void write_log(const fs::path& path, const std::vector<Commit>& commits) {
  std::ofstream log(path);
  for (const Commit& commit : commits)
    log << fmt::format("{} {} {:.9f} {:.9f}\n", commit.version, commit.row, seconds_of(commit.begin),
                       seconds_of(commit.end));
  if (!log.flush()) fail(Code::kUnavailable, "[bench] {} cannot be written", path.string());
}

nlohmann::json swap(const Arguments& arguments) {
  const Tasks tasks(arguments);
  if (arguments.variants < 1 || arguments.variants > tasks.rows())
    fail(Code::kInvalidArgument, "[bench] --variants must lie in 1..{}, got {}", tasks.rows(), arguments.variants);
  std::vector<TaskRecord> records;
  for (std::int64_t row = 0; row < arguments.variants; ++row) records.push_back(tasks.make(arguments.task, row));
  tasks.check(records.front());
  std::vector<Commit> commits;
  const auto start = Clock::now();
  const auto until =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(arguments.seconds));
  for (std::int64_t i = 0; Clock::now() < until; ++i) {
    std::this_thread::sleep_until(start + std::chrono::duration_cast<Clock::duration>(
                                              std::chrono::duration<double>(static_cast<double>(i) / arguments.rate)));
    Commit commit;
    commit.row = i % arguments.variants;
    commit.begin = Clock::now();
    commit.version = tasks.store().commit(records[static_cast<std::size_t>(commit.row)]);
    commit.end = Clock::now();
    commits.push_back(commit);
  }
  const double seconds = seconds_of(Clock::now()) - seconds_of(start);
  write_log(arguments.log, commits);
  return {{"commits", commits.size()}, {"seconds", seconds}};
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("puts tasks into a store for bench/serve");
  app.require_subcommand(1);
  CLI::App& filling = *app.add_subcommand("fill");
  CLI::App& swapping = *app.add_subcommand("swap");
  app.add_subcommand("machine");
  for (CLI::App* command : {&filling, &swapping}) {
    command->add_option("--model", arguments.model, "model directory")->required();
    command->add_option("--numbers", arguments.numbers, "what the tasks have learned")->required();
    command->add_option("--image-size", arguments.image_size, "that the tasks were learned with")
        ->check(CLI::PositiveNumber);
  }
  filling.add_option("--count", arguments.count)->required()->check(CLI::NonNegativeNumber);
  swapping.add_option("--task", arguments.task);
  swapping.add_option("--variants", arguments.variants, "rows of the numbers that take turns")->required();
  swapping.add_option("--rate", arguments.rate, "commits a second")->check(CLI::PositiveNumber);
  swapping.add_option("--seconds", arguments.seconds)->check(CLI::PositiveNumber);
  swapping.add_option("--log", arguments.log, "file for versions and times")->required();
  CLI11_PARSE(app, argc, argv);
  try {
    nlohmann::json result;
    if (filling.parsed()) result = fill(arguments);
    if (swapping.parsed()) result = swap(arguments);
    result["machine"] = machine();
    result["versions"] = versions();
    std::puts(result.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "write_tasks: %s\n", error.what());
    return 1;
  }
  return 0;
}
