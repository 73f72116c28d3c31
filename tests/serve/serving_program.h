#pragma once
// `recast serve` in a process of its own, as long as the object lives.
#include <chrono>
#include <optional>
#include <thread>

#include "recast/base/error.h"
#include "text/run_recast.h"

namespace recast {

class ServingProgram {
 public:
  /// `recast serve WORDS...` on free ports of this machine; returns once it listens. What it prints lies in `folder`,
  /// which must outlive it. Throws kUnavailable with what it wrote if it ends instead, or is silent for a minute.
  ServingProgram(const std::filesystem::path& folder, std::vector<std::string> words)
      : folder_(folder), program_(folder, with_ports(std::move(words))) {
    if (!comes_true([this] { return program_.over() || nlohmann::json::accept(out_so_far()); }) || program_.over()) {
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
  void signal(int number) const { program_.signal(number); }
  std::string err_so_far() const { return program_.err_so_far(); }

  /// Asks it to end, as the system does, and waits; one that takes more than a minute is killed.
  Answer stop() {
    program_.signal(SIGTERM);
    return wait();
  }
  Answer wait() {
    if (!comes_true([this] { return program_.over(); })) program_.signal(SIGKILL);
    ended_ = true;
    return program_.wait();
  }

 private:
  static std::vector<std::string> with_ports(std::vector<std::string> words) {
    words.insert(words.begin(), "serve");
    for (const char* word : {"--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--json"})
      words.emplace_back(word);
    return words;
  }
  template <class Condition>
  static bool comes_true(const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  std::string out_so_far() const { return text_of(folder_ / "stdout"); }
  void end() {
    program_.signal(SIGKILL);
    wait();
  }

  std::filesystem::path folder_;
  RunningRecast program_;
  nlohmann::json started_;
  bool ended_ = false;
};

}  // namespace recast
