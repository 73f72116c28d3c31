// The C++ side of `bench/run mimic`: the closed form beside one reading of the same weights, in turns, memory to
// memory, and what its banks leave undone. Prints one JSON document.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <nlohmann/json.hpp>

#include "memory.h"
#include "program.h"
#include "recast/base/error.h"
#include "recast/mimic/mimicry.h"

namespace {
using namespace recast;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct Arguments {
  std::filesystem::path model;
  int threads = 1;
  std::int64_t repeats = 5;
  MimicryOptions mimicry;
};

nlohmann::json run(const Arguments& arguments) {
  at::set_num_threads(arguments.threads);
  const ModelFiles files = read_model_files(arguments.model);
  const auto backbone = make_backbone(files);
  nlohmann::json whole, solver, reading, groups = nlohmann::json::array();
  double error = 0;
  std::int64_t bytes = 0;
  for (std::int64_t repetition = 0; repetition <= arguments.repeats; ++repetition) {
    const auto begin = Clock::now();
    const Mimicry result = mimic(files, arguments.mimicry);
    const double took = seconds_since(begin);
    std::vector<at::Tensor> weights;
    for (const SlotFidelity& slot : result.fidelity)
      weights.push_back(backbone->weight(backbone->anatomy().at(slot.slot)));
    const auto before_reading = Clock::now();
    read_through(weights);
    const double read = seconds_since(before_reading);
    error = relative_error(result.fidelity);
    if (repetition == 0) {  // warms up
      for (const at::Tensor& weight : weights) bytes += static_cast<std::int64_t>(weight.nbytes());
      for (const BankConfig::Group& group : result.files.config.bank.members) groups.push_back(group.slots);
      continue;
    }
    whole.push_back(took);
    solver.push_back(result.seconds);
    reading.push_back(read);
  }
  return {{"seconds", whole},      {"solver_seconds", solver}, {"reading_seconds", reading},
          {"weight_bytes", bytes}, {"groups", groups},         {"relative_error", error}};
}

}  // namespace

int main(int argc, char** argv) {
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);  // as the program `recast` does
  Arguments arguments;
  CLI::App app("the C++ side of bench/run mimic");
  app.add_option("--model", arguments.model, "model directory")->required();
  app.add_option("--threads", arguments.threads)->check(CLI::Range(1, 1024));
  app.add_option("--repeats", arguments.repeats)->check(CLI::PositiveNumber);
  app.add_option("--target", arguments.mimicry.target);
  app.add_option("--groups", arguments.mimicry.groups);
  app.add_option("--templates", arguments.mimicry.templates);
  app.add_option("--sets", arguments.mimicry.sets);
  CLI11_PARSE(app, argc, argv);
  return print_result("mimic_bench", [&] { return run(arguments); });
}
