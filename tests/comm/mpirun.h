#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace recast {

/// What to write before a program for so many ranks on this machine.
inline std::vector<std::string> mpirun(int ranks) {
  return {"mpirun",
          "--allow-run-as-root",
          "--oversubscribe",
          "--bind-to",
          "none",
          "--mca",
          "btl",
          "vader,self",
          "--mca",
          "btl_vader_single_copy_mechanism",
          "none",
          "-n",
          std::to_string(ranks)};
}

}  // namespace recast

/// Where there is no Open MPI. In CI there is, or something is wrong.
#define RECAST_NEED_MPIRUN()                                                            \
  do {                                                                                  \
    if (std::system("mpirun --version > /dev/null 2>&1") == 0) break;                   \
    if (std::getenv("CI")) FAIL() << "mpirun is not there: tools/setup.sh installs it"; \
    GTEST_SKIP() << "Open MPI is not installed (Debian: openmpi-bin)";                  \
  } while (false)
