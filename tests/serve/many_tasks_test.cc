// Lists of more tasks than are read at a time, from real stores over HTTP.
#include "http_fixture.h"
#include "served_tasks.h"
#include "token_entry.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using nlohmann::json;
using testing::ElementsAre;
using testing::SizeIs;

constexpr int kMany = 1'000;  // twice what a page of tasks reads at a time, and what the index does
std::string numbered(int i) { return fmt::format("t{:04}", i); }

/// An engine behind HTTP.
struct EngineServer {
  EngineServer(const std::vector<fs::path>& directories, TokenTable* tokens = nullptr)
      : engine(make_engine(options(directories), nullptr)), server(*engine, quick_options(), registry, tokens) {
    server.start();
  }
  static EngineOptions options(const std::vector<fs::path>& directories) {
    EngineOptions options;
    options.directories = directories;
    options.workers = 1;
    return options;
  }
  HttpReply ask(const std::string& request) const { return recast::ask(server.port(), request); }
  json tasks(const std::string& query, const std::string& fields = "") const {
    const HttpReply reply = ask(get("/recast/v1/tasks?" + query, fields));
    EXPECT_EQ(reply.status, 200) << query << reply.body;
    return json::parse(reply.body);
  }

  prometheus::Registry registry;
  std::unique_ptr<Service> engine;
  HttpServer server;
};

std::vector<std::string> task_names(const json& tasks) {
  std::vector<std::string> names;
  for (const json& task : tasks) names.push_back(task.at("name"));
  return names;
}

/// In memory where there is some: each task is a commit.
TemporaryFolder* folder_in_memory() {
  const char* const before = std::getenv("TMPDIR");
  const std::string usual = before == nullptr ? "" : before;
  if (fs::is_directory("/dev/shm")) ::setenv("TMPDIR", "/dev/shm", 1);
  auto* const folder = new TemporaryFolder;
  before == nullptr ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", usual.c_str(), 1);
  return folder;
}

class ManyServedTasks : public ::testing::Test {
 protected:
  /// Bases "big" with t0000 to t0999 and "small" with a, b and c.
  static void SetUpTestSuite() {
    folder_ = folder_in_memory();
    write_toy_images(*folder_ / "data", {"blue", "green"}, 6);
    fill("small", 2, "a", {"b", "c"});
    std::vector<std::string> more;
    for (int i = 1; i < kMany; ++i) more.push_back(numbered(i));
    fill("big", 1, numbered(0), more);
  }
  static void TearDownTestSuite() { delete std::exchange(folder_, nullptr); }

  static void fill(const std::string& base, std::uint64_t seed, const std::string& first,
                   const std::vector<std::string>& others) {
    write_toy_model(*folder_ / base, seed);
    TaskRecord task = learned_record(*folder_ / base, *folder_ / "data", first, {"recast"});
    const ModelDirectory directory = ModelDirectory::open(*folder_ / base, false);
    for (const std::string& name : others) {
      task.name = name;
      directory.store().commit(task);
    }
  }
  static std::vector<fs::path> bases() { return {*folder_ / "big", *folder_ / "small"}; }

  static inline TemporaryFolder* folder_ = nullptr;
};

TEST_F(ManyServedTasks, AreListedOnceEachPageByPage) {
  const EngineServer at(bases());
  std::vector<std::string> listed, expected;
  for (int i = 0; i < kMany; ++i) expected.push_back("big@" + numbered(i));
  for (const char* name : {"small@a", "small@b", "small@c"}) expected.emplace_back(name);
  std::size_t pages = 0;
  for (json next = ""; !next.is_null() && pages < 100; ++pages) {
    const json page = at.tasks("limit=100&after=" + next.get<std::string>());
    EXPECT_THAT(page["tasks"], SizeIs(pages < kMany / 100 ? 100 : 3));
    for (const std::string& name : task_names(page["tasks"])) listed.push_back(name);
    next = page["next"];
  }
  EXPECT_EQ(pages, kMany / 100 + 1);
  EXPECT_EQ(listed, expected);
}

TEST_F(ManyServedTasks, ComeAHundredAPageAtTheMost) {
  const EngineServer at({*folder_ / "big"});
  EXPECT_THAT(at.tasks("")["tasks"], SizeIs(50));
  EXPECT_THAT(at.tasks("limit=100")["tasks"], SizeIs(100));
  for (const char* limit : {"101", "0", "-1", "1000"})
    EXPECT_EQ(at.ask(get(fmt::format("/recast/v1/tasks?limit={}", limit))).status, 400) << limit;
}

TEST_F(ManyServedTasks, GoOnWhereThePageBeforeEnded) {
  const EngineServer at({*folder_ / "big"});
  for (const int last : {0, 498, 499, 500, 997})  // 500 names are read at a time
    EXPECT_THAT(task_names(at.tasks("limit=2&after=" + numbered(last))["tasks"]),
                ElementsAre(numbered(last + 1), numbered(last + 2)));
  EXPECT_THAT(task_names(at.tasks("after=" + numbered(kMany - 2))["tasks"]), ElementsAre(numbered(kMany - 1)));
  EXPECT_TRUE(at.tasks("limit=1&after=" + numbered(kMany - 2))["next"].is_null());
  const json end = at.tasks("after=" + numbered(kMany - 1));
  EXPECT_THAT(end["tasks"], SizeIs(0));
  EXPECT_TRUE(end["next"].is_null());
  EXPECT_THAT(task_names(at.tasks("limit=1&after=t0499x")["tasks"]), ElementsAre("t0500")) << "a name that is gone";
}

TEST_F(ManyServedTasks, AreFoundWhereverTheyAre) {
  const EngineServer at(bases());
  const json last = at.tasks("search=T0999");
  EXPECT_THAT(task_names(last["tasks"]), ElementsAre("big@t0999"));
  EXPECT_TRUE(last["next"].is_null());
  EXPECT_THAT(task_names(at.tasks("search=small@")["tasks"]), ElementsAre("small@a", "small@b", "small@c"));
  const json first = at.tasks("search=9&limit=100");  // 271 of them
  EXPECT_THAT(first["tasks"], SizeIs(100));
  const json second = at.tasks("search=9&limit=100&after=" + first["next"].get<std::string>());
  const json third = at.tasks("search=9&limit=100&after=" + second["next"].get<std::string>());
  EXPECT_THAT(third["tasks"], SizeIs(71));
  EXPECT_TRUE(third["next"].is_null());
}

TEST_F(ManyServedTasks, AreListedForTheTokensThatAreForThem) {
  const auto token = [&](const std::string& name, const std::string& tasks) {
    return "Authorization: Bearer " + add_token(*folder_ / "tokens.yaml", entry_of(name, {Role::kRead}, {tasks})) +
           "\r\n";
  };
  const std::string few = token("few", "big@t099*"), small = token("small", "small@*");
  TokenTable table(*folder_ / "tokens.yaml");
  const EngineServer at(bases(), &table);
  EXPECT_THAT(at.tasks("", few)["tasks"], SizeIs(10));
  EXPECT_THAT(task_names(at.tasks("", small)["tasks"]), ElementsAre("small@a", "small@b", "small@c"));
}

TEST_F(ManyServedTasks, AreAllInTheIndex) {
  const EngineServer at(bases());
  const std::vector<std::string> names = task_names(json::parse(at.ask(post("/v2/repository/index", "")).body));
  ASSERT_THAT(names, SizeIs(1 + kMany + 3));
  EXPECT_EQ(names[0], "recast");
  EXPECT_EQ(names[1], "big@t0000");
  EXPECT_EQ(names[kMany], "big@t0999");
  EXPECT_EQ(names.back(), "small@c");
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
}

}  // namespace
}  // namespace recast
