#pragma once
// What the C++ programs of the bench end with.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <nlohmann/json.hpp>

#include "recast/run/machine.h"

namespace recast {

/// Prints what run() gives as one JSON document, with machine and versions; ends the process, or returns status 1 after
/// an error.
template <class Run>
int print_result(const char* program, const Run& run) {
  try {
    nlohmann::json result = run();
    result["machine"] = machine();
    result["versions"] = versions();
    std::puts(result.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 1;
  }
  std::fflush(stdout);
  std::_Exit(0);  // libtorch's own exit handlers have nothing to save
}

}  // namespace recast
