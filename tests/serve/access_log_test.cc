#include "recast/serve/access_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/registry.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "access_lines.h"
#include "base/log_capture.h"
#include "format/expect_error.h"
#include "format/file_size_limit.h"
#include "format/temporary_folder.h"
#include "metric_of.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

AccessEntry entry_of(const std::string& id) {
  AccessEntry entry;
  entry.id = id;
  entry.protocol = "http";
  entry.route = "/v2";
  entry.method = "GET";
  entry.status = 200;
  return entry;
}

class AccessLogTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  double lines(const std::string& outcome) const {
    return metric_of(registry_, "recast_access_log_lines_total", outcome);
  }
  bool become(const std::string& outcome, double value) const {
    return metric_becomes(registry_, "recast_access_log_lines_total", value, outcome);
  }
  static std::vector<std::string> ids(const fs::path& file) {
    std::vector<std::string> ids;
    for (const json& line : access_lines(file)) ids.push_back(line.is_null() ? "torn" : line.at("id"));
    return ids;
  }

  const TemporaryFolder folder_;
  prometheus::Registry registry_;

  const LogCapture events_{LogLevel::kWarn};
};

TEST_F(AccessLogTest, WritesALineOfJsonForEachRequest) {
  AccessEntry entry = entry_of("r-1");
  entry.trace = "0af7651916cd43dd8448eb211c80319c";
  entry.span = "b7ad6b7169203331";
  entry.model = std::string(128, 'b') + "@" + std::string(128, 't') + ":" + std::string(128, 'v');
  entry.account = {.rows = 2, .tasks = "vit@cars:3", .queue_ns = 1'500'000, .compute_ns = 20'250'700};
  entry.received = 512;
  entry.sent = 2048;
  entry.ms = 23.4567;
  entry.caller = "shop";
  entry.peer = "127.0.0.1";
  {
    AccessLog log(path("access.log"), registry_);
    log.add(entry);
    log.add(entry_of("r-2"));
  }
  const std::vector<json> lines = access_lines(path("access.log"));
  ASSERT_EQ(lines.size(), 2u);
  json first = lines[0];
  EXPECT_THAT(first["time"], testing::Truly([](const json& time) { return time.get<std::string>().size() == 24; }));
  first.erase("time");
  EXPECT_EQ(first, (json{{"level", "info"},      {"event", "request"},    {"id", "r-1"},      {"trace", entry.trace},
                         {"span", entry.span},   {"protocol", "http"},    {"method", "GET"},  {"route", "/v2"},
                         {"model", entry.model},    {"tasks", "vit@cars:3"}, {"rows", 2},        {"queue_ms", 1.5},
                         {"compute_ms", 20.251}, {"status", 200},         {"complete", true}, {"received", 512},
                         {"sent", 2048},         {"ms", 23.457},          {"caller", "shop"}, {"peer", "127.0.0.1"}}));
  for (const char* absent : {"trace", "model", "tasks", "rows", "queue_ms", "caller", "peer"})
    EXPECT_FALSE(lines[1].contains(absent)) << absent;
  struct stat status {};
  ASSERT_EQ(::stat(path("access.log").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777u, 0600u);
}

TEST_F(AccessLogTest, NamesRequestsThatHaveNoNameOfTheirOwn) {
  AccessLog log(path("access.log"), registry_), other(path("other.log"), registry_);
  EXPECT_EQ(log.begin("http", "r-1", "", "127.0.0.1").id, "r-1");
  std::set<std::string> made;
  for (const char* id : {"", "a b", "\xc3\xa4"})
    for (AccessLog* one : {&log, &other}) {
      const std::string own = one->begin("http", id, "", "127.0.0.1").id;
      EXPECT_TRUE(made.insert(own).second) << own;
      EXPECT_EQ(own.find_first_not_of("0123456789abcdef-"), own.npos) << own;
    }
}

TEST_F(AccessLogTest, KeepsALineALineWhateverItHolds) {
  AccessEntry entry = entry_of(std::string(2000, 'i'));
  entry.model = "a\nb\"\\\x01\xff\xe2\x82";
  for (int i = 0; i < 1000; ++i) entry.model += "\xe2\x82\xac";
  entry.method = std::string(3000, 'M');
  entry.caller = entry.peer = entry.account.tasks = std::string(1000, 'c');
  entry.account.rows = 1;
  {
    AccessLog log(path("access.log"), registry_);
    for (int i = 0; i < 3; ++i) log.add(entry);
  }
  std::ifstream in(path("access.log"), std::ios::binary);
  int count = 0;
  for (std::string line; std::getline(in, line); ++count) {
    EXPECT_LT(line.size(), 4096u) << "a pipe would tear it";
    EXPECT_TRUE(json::accept(line)) << line;
    EXPECT_TRUE(std::ranges::all_of(line, [](char c) { return c >= ' ' && c <= '~'; }));
  }
  EXPECT_EQ(count, 3);
}

TEST_F(AccessLogTest, FollowsRotationByRenameAndReopen) {
  AccessLog log(path("access.log"), registry_);
  log.add(entry_of("a"));
  ASSERT_TRUE(become("written", 1));
  fs::rename(path("access.log"), path("access.log.1"));
  log.add(entry_of("b"));  // nobody was told yet
  ASSERT_TRUE(become("written", 2));
  log.reopen();
  log.add(entry_of("c"));
  ASSERT_TRUE(become("written", 3));
  EXPECT_THAT(ids(path("access.log.1")), ElementsAre("a", "b"));
  EXPECT_THAT(ids(path("access.log")), ElementsAre("c"));
}

TEST_F(AccessLogTest, FollowsRotationByCopyAndTruncate) {
  AccessLog log(path("access.log"), registry_);
  log.add(entry_of("a"));
  ASSERT_TRUE(become("written", 1));
  fs::copy_file(path("access.log"), path("access.log.1"));
  fs::resize_file(path("access.log"), 0);
  log.add(entry_of("b"));
  ASSERT_TRUE(become("written", 2));
  EXPECT_THAT(ids(path("access.log")), ElementsAre("b")) << "written at the end that there is, not where it was";
}

TEST_F(AccessLogTest, StaysWithTheOldFileWhereTheNewOneCannotBeOpened) {
  fs::create_directory(path("folder"));
  AccessLog log(path("folder/access.log"), registry_);
  fs::rename(path("folder"), path("elsewhere"));
  log.reopen();
  log.add(entry_of("a"));
  ASSERT_TRUE(become("written", 1));
  EXPECT_THAT(ids(path("elsewhere/access.log")), ElementsAre("a"));
  EXPECT_THAT(events_.names(), ElementsAre("access_log.kept_old"));
}

TEST_F(AccessLogTest, IsRefusedWhereItCannotBeOpened) {
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { AccessLog log(path("none/access.log"), registry_); }),
              HasSubstr("choose another file for --access-log"));
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { AccessLog log(folder_.path().string(), registry_); }),
              HasSubstr("[access-log]"));
}

TEST_F(AccessLogTest, NeverWaitsForAReader) {
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  const int reader = ::open(path("pipe").c_str(), O_RDONLY | O_NONBLOCK);
  constexpr int kMany = 20'000, kWaiting = 100;
  std::string text;
  const auto began = std::chrono::steady_clock::now();
  {
    AccessLog log(path("pipe"), registry_, kWaiting);
    for (int i = 0; i < kMany; ++i) log.add(entry_of("r-" + std::to_string(i)));
    const auto added = std::chrono::steady_clock::now() - began;
    EXPECT_LT(added, std::chrono::seconds(5)) << "whoever adds waits for the reader";
    EXPECT_GT(lines("dropped"), kMany / 2);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10)) << "the end waits for the reader";
  EXPECT_EQ(lines("written") + lines("dropped") + lines("failed"), kMany) << "every line is accounted for";
  char piece[65536];
  for (ssize_t got; (got = ::read(reader, piece, sizeof piece)) > 0;) text.append(piece, static_cast<std::size_t>(got));
  ::close(reader);
  std::istringstream in(text);
  int whole = 0;
  for (std::string line; std::getline(in, line); ++whole) EXPECT_TRUE(json::accept(line)) << line;
  EXPECT_EQ(whole, lines("written"));
}

TEST_F(AccessLogTest, SurvivesAReaderThatGoes) {
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  const int reader = ::open(path("pipe").c_str(), O_RDONLY | O_NONBLOCK);
  AccessLog log(path("pipe"), registry_);
  ::close(reader);
  log.add(entry_of("a"));  // SIGPIPE would end this process
  EXPECT_TRUE(become("failed", 1));
}

TEST_F(AccessLogTest, ADiskThatIsFullCostsLinesAndNothingElse) {
  fs::create_symlink("/dev/full", path("access.log"));
  AccessLog log(path("access.log"), registry_);
  for (int i = 0; i < 10; ++i) log.add(entry_of("lost"));
  ASSERT_TRUE(become("failed", 10));
  EXPECT_THAT(events_.names(), ElementsAre("access_log.failed")) << "said once, not for each line";
  fs::remove(path("access.log"));
  log.reopen();
  log.add(entry_of("kept"));
  ASSERT_TRUE(become("written", 1));
  EXPECT_THAT(ids(path("access.log")), ElementsAre("kept"));
}

TEST_F(AccessLogTest, ALineThatWasCutShortDoesNotSpoilTheNext) {
  AccessLog log(path("access.log"), registry_);
  log.add(entry_of("whole"));
  ASSERT_TRUE(become("written", 1));
  {
    const FileSizeLimit full(fs::file_size(path("access.log")) + 50);
    log.add(entry_of("cut"));
    ASSERT_TRUE(become("failed", 1));
    log.add(entry_of("lost"));
    ASSERT_TRUE(become("failed", 2));
  }
  log.reopen();  // it is still the same file
  log.add(entry_of("next"));
  ASSERT_TRUE(become("written", 2));
  EXPECT_THAT(ids(path("access.log")), ElementsAre("whole", "torn", "next"));
}

}  // namespace
}  // namespace recast
