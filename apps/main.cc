#include <c10/util/Logging.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "command_line.h"

namespace {

/// OpenMP reads its waiting policy when the program is loaded, so the commands that compute start once more with the
/// passive one. Spinning threads starve each other wherever something else runs as well: on two busy cores `learn` took
/// 64 s instead of 14 s. A policy that the user chose stands.
void wait_passively(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command != "learn" && command != "eval" && command != "predict" && command != "report") return;
  if (std::getenv("OMP_WAIT_POLICY") || ::setenv("OMP_WAIT_POLICY", "passive", 1) != 0) return;
  ::execv("/proc/self/exe", argv);  // if that fails, this process goes on
}

}  // namespace

int main(int argc, char** argv) {
  wait_passively(argc, argv);
  // Before the first tensor: large pages for activations, and no warnings of libtorch on the user's screen.
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
  ::setenv("TORCH_CPP_LOG_LEVEL", "ERROR", 0);
  c10::initLogging();

  recast::CommandLine line;
  for (const auto add :
       {recast::add_import, recast::add_mimic, recast::add_learn, recast::add_eval, recast::add_predict,
        recast::add_tasks, recast::add_inspect, recast::add_report, recast::add_methods, recast::add_doctor})
    add(line);
  const int status = line.run(argc, argv);
  std::fflush(stdout);
  std::fflush(stderr);
  std::_Exit(status);  // libtorch's own exit handlers take 0.1 s and have nothing to save
}
