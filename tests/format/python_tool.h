#pragma once
#include <stdio.h>
#include <sys/wait.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "recast/base/error.h"

namespace recast {

struct Outcome {
  int status = -1;
  std::string text;  // stdout and stderr together
};

inline std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// Runs a program and waits for it.
inline Outcome run_program(const std::vector<std::string>& words) {
  std::string command;
  for (const std::string& word : words) command += quoted(word) + " ";
  FILE* pipe = ::popen((command + "2>&1").c_str(), "r");
  if (pipe == nullptr) fail(Code::kUnavailable, "[test] cannot run {}", command);
  Outcome outcome;
  std::array<char, 4096> piece;
  for (std::size_t got; (got = ::fread(piece.data(), 1, piece.size(), pipe)) > 0;)
    outcome.text.append(piece.data(), got);
  const int status = ::pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return outcome;
}

/// $RECAST_PYTHON, or the python of the project's .venv.
inline std::string python_path() {
  const char* chosen = std::getenv("RECAST_PYTHON");
  return chosen != nullptr ? chosen : RECAST_SOURCE_DIR "/.venv/bin/python";
}

inline bool on_ci() {
  const char* ci = std::getenv("CI");
  return ci != nullptr && std::string_view(ci) == "true";
}

/// Why no test can use these modules ("torch, numpy"), or empty if one can. Looks for them without the seconds that
/// importing torch takes.
inline std::string missing_python(const std::string& modules) {
  const std::string python = python_path();
  if (!std::filesystem::exists(python)) return "no Python at " + python + " (run tools/setup.sh or set RECAST_PYTHON)";
  const std::string find =
      "import importlib.util as u, sys\n"
      "sys.exit(any(u.find_spec(name.strip()) is None for name in sys.argv[1].split(',')))";
  const Outcome outcome = run_program({python, "-c", find, modules});
  return outcome.status == 0 ? "" : python + " lacks one of the modules " + modules;
}

}  // namespace recast

/// Skips with the reason where Python or one of its modules is missing; on CI that is a failure.
#define RECAST_NEED_PYTHON(module)                                                      \
  if (const std::string missing = ::recast::missing_python(module); !missing.empty()) { \
    if (::recast::on_ci()) FAIL() << missing;                                           \
    GTEST_SKIP() << missing;                                                            \
  }                                                                                     \
  static_assert(true)
