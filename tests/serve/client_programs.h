#pragma once
// Programs around the clients that others wrote, in the environment that tools/setup.sh --clients makes for them.
#include <gtest/gtest.h>

#include "format/python_tool.h"

namespace recast {

/// $RECAST_CLIENTS_PYTHON, or the python of .venv-clients.
inline std::string clients_python() {
  const char* chosen = std::getenv("RECAST_CLIENTS_PYTHON");
  return chosen != nullptr ? chosen : RECAST_SOURCE_DIR "/.venv-clients/bin/python";
}

/// A script of tests/serve with these arguments. It passes if it says so in its last line.
inline void expect_client_passes(const std::string& script, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {clients_python(), RECAST_SOURCE_DIR "/tests/serve/" + script};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const Outcome outcome = run_program(words);
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  EXPECT_TRUE(outcome.text.ends_with("passed\n")) << outcome.text;
}

}  // namespace recast

/// Skips with the reason where the clients are not installed; on CI that is a failure.
#define RECAST_NEED_CLIENTS()                                                                   \
  if (!std::filesystem::exists(::recast::clients_python())) {                                   \
    const std::string missing = "no Python with clients at " + ::recast::clients_python() +     \
                                " (run tools/setup.sh --clients or set RECAST_CLIENTS_PYTHON)"; \
    if (::recast::on_ci()) FAIL() << missing;                                                   \
    GTEST_SKIP() << missing;                                                                    \
  }                                                                                             \
  static_assert(true)
