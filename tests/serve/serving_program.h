#pragma once
// `recast serve` in a process of its own, as long as the object lives.
#include <algorithm>
#include <chrono>
#include <optional>

#include "base/becomes_true.h"
#include "recast/base/error.h"
#include "text/run_recast.h"

namespace recast {

class ServingProgram {
 public:
  /// `recast serve WORDS...`, on free ports of this machine where they say nothing of ports, behind what `runner` has
  /// of a command that becomes it; returns once it listens. What it prints lies in `folder`, which must outlive it.
  /// Throws kUnavailable with what it wrote if it ends instead, or is silent for a minute.
  ServingProgram(const std::filesystem::path& folder, const std::vector<std::string>& words,
                 std::vector<std::string> runner = {})
      : folder_(folder), program_(folder, command(std::move(runner), words)) {
    const auto listens = [this] { return program_.over() || nlohmann::json::accept(out_so_far()); };
    if (!becomes_true(listens, kPatience) || program_.over()) {
      end();
      fail(Code::kUnavailable, "[test] recast serve does not listen: {}{}", out_so_far(), program_.err_so_far());
    }
    started_ = nlohmann::json::parse(out_so_far());
  }
  ServingProgram(const ServingProgram&) = delete;
  ServingProgram& operator=(const ServingProgram&) = delete;
  ~ServingProgram() {
    if (!ended_) end();
  }

  /// What it said of itself once it listened.
  const nlohmann::json& started() const { return started_; }
  int http_port() const { return started_.at("http_port"); }
  int grpc_port() const { return started_.at("grpc_port"); }
  int metrics_port() const { return started_.at("metrics_port"); }
  bool over() const { return program_.over(); }
  ::pid_t pid() const { return program_.pid(); }
  void signal(int number) const { program_.signal(number); }
  std::string err_so_far() const { return program_.err_so_far(); }

  /// Asks it to end, as the system does, and waits; one that takes more than a minute is killed.
  Answer stop() {
    program_.signal(SIGTERM);
    return wait();
  }
  Answer wait() {
    if (!becomes_true([this] { return program_.over(); }, kPatience)) program_.signal(SIGKILL);
    ended_ = true;
    return program_.wait();
  }

 private:
  static constexpr std::chrono::minutes kPatience{1};

  static std::vector<std::string> command(std::vector<std::string> all, const std::vector<std::string>& words) {
    all.insert(all.end(), {RECAST_PROGRAM, "serve", "--json"});
    for (const char* port : {"--http-port", "--grpc-port", "--metrics-port"})
      if (std::ranges::find(words, port) == words.end()) all.insert(all.end(), {port, "0"});
    all.insert(all.end(), words.begin(), words.end());
    return all;
  }
  std::string out_so_far() const { return text_of(folder_ / "stdout"); }
  void end() {
    program_.signal(SIGKILL);
    wait();
  }

  std::filesystem::path folder_;
  RunningProgram program_;
  nlohmann::json started_;
  bool ended_ = false;
};

}  // namespace recast
