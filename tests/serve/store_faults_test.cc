// What may happen to the store while `recast serve` answers from it, and to both when they are killed.
#include <unistd.h>

#include <cstdlib>

#include "recast/format/files.h"
#include "toy_directory.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;

/// Command and what it says, as `ran` of run_bash() with the real program as $RECAST; every path is absolute.
Answer bash(const std::string& line) {
  const TemporaryFolder output;
  return run_bash(output.path(), line);
}

/// Clients that ask without a pause, each over its own connection, until it breaks or they are to stop.
class Load {
 public:
  Load(std::uint16_t port, const std::string& model, int clients) {
    for (int i = 0; i < clients; ++i) {
      auto client = std::make_unique<HttpClient>(port);
      threads_.emplace_back(
          [this, client = std::move(client), request = ask_for(model)](const std::stop_token& stop) {
            while (!stop.stop_requested()) {
              const int status = client->ask(request).status;
              if (status == 0) return;
              (status == 200 ? answered_ : failed_)++;
            }
          });
    }
  }
  int answered() const { return answered_; }
  int failed() const { return failed_; }

 private:
  std::atomic<int> answered_{0}, failed_{0};
  std::vector<std::jthread> threads_;
};

class StoreFaults : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { toy_ = new ToyDirectory; }
  static void TearDownTestSuite() { delete std::exchange(toy_, nullptr); }

  StoreFaults() {
    toy_->copy_to(model());
    const Answer exported = bash(fmt::format("$RECAST tasks {} export flowers {}", model().string(), file().string()));
    EXPECT_EQ(exported.status, 0) << exported.err;
  }
  fs::path model() const { return folder_ / "model"; }
  fs::path file() const { return folder_ / "flowers.safetensors"; }
  /// On other ports where somebody has taken these meanwhile.
  std::unique_ptr<ToyServer> started_on(const std::vector<std::string>& ports) const {
    try {
      return std::make_unique<ToyServer>(model(), ports);
    } catch (const Error&) {
      return std::make_unique<ToyServer>(model());
    }
  }
  std::string import(const fs::path& model) const {
    return fmt::format("$RECAST tasks {} import {} --as flowers --quiet", model.string(), file().string());
  }

  static inline ToyDirectory* toy_ = nullptr;
  TemporaryFolder folder_;
};

// ---- killed --------------------------------------------------------------------------------------------------------

/// `tasks import` again and again, in a process group of its own; a line on standard output for each that succeeded.
class Importing {
 public:
  explicit Importing(const std::string& import)
      : program_(output_.path(), {"setsid", "bash", "-c", "while " + import + " > /dev/null; do echo done; done"},
                 {{"RECAST", RECAST_PROGRAM}}) {}
  ~Importing() { kill(); }

  std::int64_t acknowledged() const {
    const std::string lines = text_of(output_ / "stdout");
    return std::count(lines.begin(), lines.end(), '\n');
  }
  void kill() {
    if (std::exchange(over_, true)) return;
    ::kill(-program_.pid(), SIGKILL);
    program_.wait();
  }

 private:
  TemporaryFolder output_;
  RunningProgram program_;
  bool over_ = false;
};

TEST_F(StoreFaults, AServerAndAWriterKilledUnderLoadLoseNothingThatWasCommitted) {
  std::vector<std::string> ports;
  std::int64_t committed = 1;
  for (int round = 0; round < 2; ++round) {
    const auto running = started_on(ports);  // of the one that was killed
    ToyServer& server = *running;
    const std::int64_t version = version_of(server.ask(ask_for("flowers")));
    EXPECT_THAT(version, AnyOf(committed, committed + 1)) << "the commit at hand may have come through unacknowledged";
    committed = version;
    for (std::int64_t old = 1; old <= committed; ++old)
      EXPECT_EQ(version_of(server.ask(ask_for(fmt::format("flowers:{}", old)))), old);
    Load load(server.http(), "flowers", 4);
    Importing writer(import(model()));
    ASSERT_TRUE(becomes_true([&] { return writer.acknowledged() >= 2 && load.answered() > 50; }, std::chrono::minutes(2)));
    std::this_thread::sleep_for(std::chrono::milliseconds(137 * round));
    server.program().signal(SIGKILL);
    writer.kill();
    EXPECT_EQ(server.program().wait().status, -SIGKILL);
    EXPECT_EQ(load.failed(), 0);
    committed += writer.acknowledged();
    ports = {"--http-port", std::to_string(server.http()), "--grpc-port", std::to_string(server.program().grpc_port())};
  }
  const Answer next = bash(import(model()));
  EXPECT_EQ(next.status, 0) << next.err << "nobody holds the lock any more";
}

// ---- gone and back -------------------------------------------------------------------------------------------------

/// A store that goes away under a server and comes back: lines for bash in the folder of "model", where $PID is the
/// server's.
struct Outage {
  std::string name;
  std::vector<std::string> runner;  ///< a command that becomes the server
  std::string served;               ///< where the server finds the model directory
  std::string away, back;

  friend void PrintTo(const Outage& outage, std::ostream* out) { *out << outage.name; }
};

const std::vector<std::string> kOwnMounts = {"unshare", "--mount", "--propagation", "private", "sh", "-c"};

std::vector<std::string> with_mounts(const std::string& line) {
  std::vector<std::string> words = kOwnMounts;
  words.insert(words.end(), {line + " && exec \"$@\"", "sh"});
  return words;
}

const Outage kOutages[] = {
    {"Renamed", {}, "model", "mv model away", "mv away model"},
    {"Forbidden",
     {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"},
     "model",
     "chmod 0 model",
     "chmod 700 model"},
    {"Unmounted", with_mounts("mount --bind model mount"), "mount",
     "nsenter --target $PID --mount umount --lazy $PWD/mount",
     "nsenter --target $PID --mount mount --bind $PWD/model $PWD/mount"},
};

/// Of files, under a server in a process of its own. A store of another kind joins by an Outage of its own.
class StoreOutage : public StoreFaults, public ::testing::WithParamInterface<Outage> {
 protected:
  void SetUp() override {
    if (::getuid() != 0) GTEST_SKIP() << "needs root, to become another user and to mount";
    const Answer made = in_folder("mkdir mount && chmod 777 . && chown -R 65534:65534 model");
    ASSERT_EQ(made.status, 0) << made.err;
    if (in_folder("unshare --mount true").status != 0) GTEST_SKIP() << "needs the right to mount";
  }
  Answer in_folder(const std::string& line, ::pid_t server = 0) const {
    return bash(fmt::format("cd {} && PID={} && {}", folder_.path().string(), server, line));
  }
  std::unique_ptr<ToyServer> serve(std::vector<std::string> words) const {
    std::vector<std::string> runner = {"env", "-C", folder_.path().string()};
    runner.insert(runner.end(), GetParam().runner.begin(), GetParam().runner.end());
    words.insert(words.end(), {"--log", log().string()});
    return std::make_unique<ToyServer>(folder_ / GetParam().served, words, runner);
  }
  fs::path log() const { return folder_ / "events"; }

  void expect_unavailable(const ToyServer& server, const std::string& task) const {
    const HttpReply reply = server.ask(ask_for(task));
    EXPECT_EQ(reply.status, 503) << reply.body;
    EXPECT_EQ(reply.field("retry-after"), "1");
    EXPECT_THAT(reply.body, Not(HasSubstr(folder_.path().string()))) << "paths are for this machine's owner";
    EXPECT_EQ(server.call(message_for(task, {image_file(1)})).error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  void expect_back(const ToyServer& server) const {
    const std::int64_t next = toy_->commit(model(), "flowers", 7);
    EXPECT_EQ(version_of(server.ask(ask_for("flowers"))), next) << "from the next request on";
    EXPECT_EQ(server.ask(ask_for("birds")).status, 200);
    EXPECT_TRUE(server.call(message_for("birds", {image_file(1)})).ok());
  }
};

/// $RECAST_OUTAGE_SECONDS: how long the store is away.
TEST_P(StoreOutage, KnownTasksAnswerMeanwhileAndAllAfterwards) {
  toy_->commit(model(), "birds", 3);
  const auto server = serve({});
  ASSERT_EQ(version_of(server->ask(ask_for("flowers"))), 1);
  ASSERT_EQ(in_folder(GetParam().away, server->program().pid()).status, 0);
  const char* seconds = std::getenv("RECAST_OUTAGE_SECONDS");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds ? std::stol(seconds) : 1);
  while (std::chrono::steady_clock::now() < end) {
    EXPECT_EQ(version_of(server->ask(ask_for("flowers"))), 1);
    EXPECT_TRUE(server->call(message_for("flowers", {image_file(1)})).ok());
    EXPECT_EQ(server->ask(get("/v2/health/ready")).status, 200);
    expect_unavailable(*server, "birds");
    std::this_thread::sleep_for(50ms);
  }
  ASSERT_EQ(in_folder(GetParam().back, server->program().pid()).status, 0);
  expect_back(*server);
  EXPECT_EQ(server->program().stop().status, 0);
  const std::string events = read_file(log(), 1 << 20);
  EXPECT_THAT(events, ContainsRegex("serve.store_lost base=" + GetParam().served + " "));
  EXPECT_THAT(events, ContainsRegex("serve.store_found base=" + GetParam().served + " ms=[0-9]{3,}"));
}

TEST_P(StoreOutage, NobodyIsAnsweredBeyondTheGrace) {
  toy_->commit(model(), "birds", 3);
  const auto server = serve({"--limit", "store_grace_ms=0"});
  ASSERT_EQ(version_of(server->ask(ask_for("flowers"))), 1);
  ASSERT_EQ(in_folder(GetParam().away, server->program().pid()).status, 0);
  expect_unavailable(*server, "flowers");
  expect_unavailable(*server, "birds");
  EXPECT_EQ(server->ask(get("/v2/health/ready")).status, 503);
  EXPECT_EQ(server->ask(get("/v2/health/live")).status, 200) << "a restart would not help";
  ASSERT_EQ(in_folder(GetParam().back, server->program().pid()).status, 0);
  EXPECT_TRUE(becomes_true([&] { return server->ask(get("/v2/health/ready")).status == 200; })) << "unasked";
  expect_back(*server);
}

INSTANTIATE_TEST_SUITE_P(Files, StoreOutage, ::testing::ValuesIn(kOutages),
                         [](const auto& info) { return info.param.name; });

// ---- full, read-only -----------------------------------------------------------------------------------------------

/// The model directory in a file system of its own, of which only the server and `inside` know.
class SmallDisk : public StoreFaults {
 protected:
  void SetUp() override {
    fs::create_directory(disk());
    if (bash(fmt::format("unshare --mount mount -t tmpfs none {}", disk().string())).status != 0)
      GTEST_SKIP() << "needs the right to mount (root)";
  }
  /// With a line for the shell between the copy and the server's start.
  void serve(const std::string& before = "true") {
    server_ = std::make_unique<ToyServer>(
        disk() / "model", std::vector<std::string>(),
        with_mounts(fmt::format("mount -t tmpfs -o size=16m none {0} && cp -a {1} {0} && {2}", disk().string(),
                                model().string(), before)));
  }
  fs::path disk() const { return folder_ / "disk"; }
  Answer inside(const std::string& line) const {
    return bash(fmt::format("nsenter --target {} --mount bash -c '{}'", server_->program().pid(), line));
  }
  Answer learn(const std::string& task) const {
    return inside(fmt::format("$RECAST learn {} --task {} --data {} --epochs 1 --image-size 16 --quiet",
                              (disk() / "model").string(), task, toy_->data().string()));
  }
  std::int64_t answers(const std::string& task) const { return version_of(server_->ask(ask_for(task))); }

  std::unique_ptr<ToyServer> server_;
};

TEST_F(SmallDisk, AFullOneStopsLearningAndNotAnswers) {
  serve();
  EXPECT_EQ(answers("flowers"), 1);
  EXPECT_NE(inside(fmt::format("cat /dev/zero > {}", (disk() / "filler").string())).status, 0);
  const Answer refused = learn("birds");
  EXPECT_EQ(refused.status, 1) << refused.err;
  EXPECT_THAT(refused.err, ContainsRegex("No space left|the disk is full"));
  EXPECT_EQ(answers("flowers"), 1);
  EXPECT_EQ(server_->ask(ask_for("birds")).status, 404);
  EXPECT_EQ(server_->ask(get("/v2/health/ready")).status, 200);
  EXPECT_EQ(inside(fmt::format("rm {}", (disk() / "filler").string())).status, 0);
  const Answer learned = learn("birds");
  EXPECT_EQ(learned.status, 0) << learned.err;
  EXPECT_EQ(answers("birds"), 1);
}

TEST_F(SmallDisk, ThatIsReadOnlyIsServedFromAndFollowedOnceItIsNot) {
  const std::string remount = "mount -o remount,{} " + disk().string();
  serve(fmt::format(fmt::runtime(remount), "ro"));
  EXPECT_EQ(answers("flowers"), 1);
  EXPECT_EQ(inside(import(disk() / "model")).status, 1);
  EXPECT_EQ(answers("flowers"), 1);
  ASSERT_EQ(inside(fmt::format(fmt::runtime(remount), "rw")).status, 0);
  EXPECT_EQ(inside(import(disk() / "model")).status, 0);
  EXPECT_EQ(answers("flowers"), 2);
}

}  // namespace
}  // namespace recast
