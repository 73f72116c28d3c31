#pragma once
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/sanitizer.h"

#define SKIP_WITH_SANITIZER() \
  if (kSanitized) GTEST_SKIP() << "the sanitizer reports crashes itself"

namespace recast {

struct Answer {
  int status = -1;  ///< exit status, or -signal
  std::string out, err;
  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

inline std::string text_of(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

/// A program in a process of its own, its output in two files of `folder`.
class RunningProgram {
 public:
  using Environment = std::map<std::string, std::string>;

  RunningProgram(const std::filesystem::path& folder, std::vector<std::string> words, const Environment& more = {})
      : out_(folder / "stdout"), err_(folder / "stderr") {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    std::filesystem::remove(out_);
    std::filesystem::remove(err_);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::dup2(::open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
    ::dup2(::open(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
    ::unsetenv("RECAST_STORE");  // of who runs the tests, perhaps with nohup or in the background
    for (const int number : {SIGHUP, SIGINT, SIGQUIT}) ::signal(number, SIG_DFL);
    for (const auto& [name, value] : more) ::setenv(name.c_str(), value.c_str(), 1);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }

  ::pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  bool over() const {
    siginfo_t ended{};
    return ::waitid(P_PID, static_cast<::id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == pid_;
  }
  void interrupt() const { signal(SIGINT); }
  std::string err_so_far() const { return text_of(err_); }
  Answer wait() const {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), text_of(out_), text_of(err_)};
  }

 private:
  std::filesystem::path out_, err_;
  ::pid_t pid_ = -1;
};

/// The real program.
class RunningRecast : public RunningProgram {
 public:
  RunningRecast(const std::filesystem::path& folder, std::vector<std::string> words, const Environment& more = {})
      : RunningProgram(folder, with_program(std::move(words)), more) {}

 private:
  static std::vector<std::string> with_program(std::vector<std::string> words) {
    words.insert(words.begin(), RECAST_PROGRAM);
    return words;
  }
};

/// What a line for bash does, where $RECAST is the real program.
inline Answer run_bash(const std::filesystem::path& folder, const std::string& line) {
  return RunningProgram(folder, {"bash", "-c", line}, {{"RECAST", RECAST_PROGRAM}}).wait();
}

}  // namespace recast
