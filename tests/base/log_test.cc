#include "recast/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "format/expect_error.h"
#include "format/temporary_folder.h"

namespace recast {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::int64_t kTime = 1'790'000'000'007;  // 2026-09-21T14:13:20.007Z

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override { set_log(LogLevel::kOff, {}); }
  void keep(LogLevel lowest) {
    set_log(lowest, [this](const LogEvent& event) { lines_.push_back(log_line(event, LogFormat::kText, kTime)); });
  }
  std::vector<std::string> lines_;
};

std::string line(LogFormat format, std::initializer_list<LogField> fields) {
  return log_line({LogLevel::kInfo, "task.saved", {fields.begin(), fields.size()}}, format, kTime);
}

std::string content(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

TEST_F(LogTest, IsSilentUntilAnApplicationInstallsASink) {
  for (const LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError})
    EXPECT_FALSE(logs(level));
  log_event(LogLevel::kError, "task.lost", {{"task", "cars"}});
  keep(LogLevel::kInfo);
  log_event(LogLevel::kError, "task.lost", {{"task", "cars"}});
  EXPECT_EQ(lines_.size(), 1u);
}

TEST_F(LogTest, PassesEventsOfItsLevelAndAbove) {
  keep(LogLevel::kWarn);
  EXPECT_FALSE(logs(LogLevel::kInfo));
  EXPECT_FALSE(logs(LogLevel::kOff));
  log_event(LogLevel::kInfo, "a", {});
  log_event(LogLevel::kWarn, "b", {});
  log_event(LogLevel::kError, "c", {});
  EXPECT_THAT(lines_, ElementsAre("2026-09-21T14:13:20.007Z warn b\n", "2026-09-21T14:13:20.007Z error c\n"));
  set_log(LogLevel::kDebug, {});
  EXPECT_FALSE(logs(LogLevel::kError));
}

TEST_F(LogTest, KeepsTheTypesOfItsFields) {
  const std::string task = "cars";
  const std::initializer_list<LogField> fields = {
      {"task", task}, {"version", std::size_t{3}}, {"bytes", -612}, {"ms", 1.8}, {"exact", true}, {"note", ""}};
  EXPECT_EQ(line(LogFormat::kText, fields),
            "2026-09-21T14:13:20.007Z info task.saved task=cars version=3 bytes=-612 ms=1.8 exact=true note=\"\"\n");
  EXPECT_EQ(line(LogFormat::kJson, fields),
            R"({"time":"2026-09-21T14:13:20.007Z","level":"info","event":"task.saved","task":"cars","version":3,)"
            R"("bytes":-612,"ms":1.8,"exact":true,"note":""})"
            "\n");
}

TEST_F(LogTest, CannotBeForgedByAValue) {
  const std::string evil = "x\n2026-09-21T14:13:20.007Z info task.removed task=\"cars\" \x1b[2J \xff \xe2\x80\xae";
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string written = line(format, {{"path", evil}});
    EXPECT_EQ(std::count(written.begin(), written.end(), '\n'), 1) << written;
    for (const char c : written.substr(0, written.size() - 1)) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << written;
  }
  const auto read = nlohmann::json::parse(line(LogFormat::kJson, {{"path", "a\nb \"c\" \\"}}));
  EXPECT_EQ(read["path"], "a\nb \"c\" \\");
  EXPECT_THAT(line(LogFormat::kText, {{"path", "a b=c"}}), HasSubstr("path=\"a b=c\""));
}

TEST_F(LogTest, SurvivesASinkThatThrows) {
  set_log(LogLevel::kInfo, [](const LogEvent&) { throw std::runtime_error("disk full"); });
  EXPECT_NO_THROW(log_event(LogLevel::kError, "task.saved", {}));
}

TEST_F(LogTest, WritesWholeLinesFromManyThreadsToAPrivateFile) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "recast.log";
  set_log(LogLevel::kDebug, log_to(file, LogFormat::kJson));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i) log_event(LogLevel::kInfo, "step.done", {{"thread", t}, {"step", i}});
    });
  for (std::thread& thread : threads) thread.join();
  set_log(LogLevel::kOff, {});
  std::istringstream text(content(file));
  int lines = 0;
  for (std::string each; std::getline(text, each); ++lines)
    EXPECT_EQ(nlohmann::json::parse(each)["event"], "step.done");
  EXPECT_EQ(lines, 800);
  EXPECT_EQ(std::filesystem::status(file).permissions(), std::filesystem::perms(0600));
}

TEST_F(LogTest, MayChangeItsSinkWhileOthersWrite) {
  std::atomic<int> seen{0};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) log_event(LogLevel::kInfo, "tick", {});
  });
  while (seen < 1000) {
    set_log(LogLevel::kInfo, [&](const LogEvent&) { ++seen; });
    set_log(LogLevel::kOff, {});
    set_log(LogLevel::kInfo, [&](const LogEvent&) { ++seen; });
  }
  stop = true;
  writer.join();
}

TEST_F(LogTest, RefusesUnknownLevelsFormatsAndPlaces) {
  for (const LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError, LogLevel::kOff})
    EXPECT_EQ(parse_log_level(name(level)), level);
  EXPECT_EQ(parse_log_format("json"), LogFormat::kJson);
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { parse_log_level("loud"); }), HasSubstr("debug, info, warn"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { parse_log_format("xml"); }), HasSubstr("text or json"));
  EXPECT_THAT(error_of(Code::kUnavailable, [] { log_to("/nonexistent folder/log", LogFormat::kText); }),
              HasSubstr("--log"));
}

}  // namespace
}  // namespace recast
