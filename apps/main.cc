#include <c10/util/Logging.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "command_line.h"
#include "crash.h"

namespace {

/// OpenMP reads its waiting policy when the program is loaded, so the commands that compute start once more with the
/// passive one. Spinning threads starve each other wherever something else runs as well: on two busy cores `learn` took
/// 64 s instead of 14 s. A policy that the user chose stands.
void wait_passively(int argc, char** argv, char** environment) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command != "learn" && command != "stream" && command != "eval" && command != "compare" && command != "predict" &&
      command != "report" && command != "lab" && command != "serve")
    return;
  constexpr std::size_t kMost = 4096;
  static std::array<char*, kMost + 2> more;  // nothing is set up yet that could give memory
  static char passive[] = "OMP_WAIT_POLICY=passive";
  std::size_t count = 0;
  for (; environment[count] != nullptr; ++count) {
    if (count == kMost || std::string_view(environment[count]).starts_with("OMP_WAIT_POLICY=")) return;
    more[count] = environment[count];
  }
  more[count] = passive;
  ::execve("/proc/self/exe", argv, more.data());  // if that fails, this process goes on
}

/// Before any library sets itself up, which takes libtorch a quarter of a second.
[[gnu::section(".preinit_array"), gnu::used]] void (*const kBeforeLibraries)(int, char**, char**) = wait_passively;

/// A program may be started with standard streams closed; what it opens next would then take their places, and messages
/// would be written into its files.
void fill_standard_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream)
    if (::fcntl(stream, F_GETFD) < 0) [[maybe_unused]]
      const int filled = ::open("/dev/null", stream == STDOUT_FILENO ? O_RDONLY : O_RDWR);
}

}  // namespace

int main(int argc, char** argv) {
  fill_standard_streams();
  recast::report_crashes(recast::typed(argc, argv));
  ::signal(SIGPIPE, SIG_IGN);  // who listens no longer must not end a run: writing says so instead
  // Before the first tensor: large pages for activations, and no warnings of libtorch on the user's screen.
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
  ::setenv("TORCH_CPP_LOG_LEVEL", "ERROR", 0);
  c10::initLogging();

  recast::CommandLine line;
  for (const auto add :
       {recast::add_import, recast::add_mimic, recast::add_learn, recast::add_stream, recast::add_eval,
        recast::add_compare, recast::add_lab, recast::add_predict, recast::add_tasks, recast::add_inspect,
        recast::add_report, recast::add_export, recast::add_serve, recast::add_token, recast::add_methods,
        recast::add_doctor, recast::add_errors, recast::add_completion, recast::add_man})
    add(line);
  const int status = line.run(argc, argv);
  std::fflush(stdout);
  std::fflush(stderr);
  std::_Exit(status);  // libtorch's own exit handlers take 0.1 s and have nothing to save
}
