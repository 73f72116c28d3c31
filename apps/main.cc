#include <c10/util/Logging.h>

#include <cstdio>
#include <cstdlib>

#include "command_line.h"

int main(int argc, char** argv) {
  // Before the first tensor: large pages for activations, and no warnings of libtorch on the user's screen.
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
  ::setenv("TORCH_CPP_LOG_LEVEL", "ERROR", 0);
  c10::initLogging();

  recast::CommandLine line;
  for (const auto add : {recast::add_import, recast::add_mimic, recast::add_learn, recast::add_eval,
                         recast::add_predict, recast::add_tasks, recast::add_inspect, recast::add_methods,
                         recast::add_doctor})
    add(line);
  const int status = line.run(argc, argv);
  std::fflush(stdout);
  std::fflush(stderr);
  std::_Exit(status);  // libtorch's own exit handlers take 0.1 s and have nothing to save
}
