// The page for people in a real browser, against the real program with a real model.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "client_programs.h"
#include "recast/run/task_commands.h"
#include "served_tasks.h"
#include "serving_program.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

/// Debian's; the tests bring no browser of their own.
constexpr const char* kChromium = "/usr/bin/chromium";

/// `toy` with tasks of several class counts and versions, and more than fit on one page.
void write_tasks(const fs::path& folder) {
  write_toy_model(folder / "toy");
  write_toy_images(folder / "data", {"blue", "green", "red"}, 12);
  learned_record(folder / "toy", folder / "data", "colours", {"recast"});
  const TaskRecord colours = learned_record(folder / "toy", folder / "data", "colours", {"recast"});
  const ModelDirectory directory = ModelDirectory::open(folder / "toy", false);
  TaskStore& store = directory.store();
  store.commit(varied(colours, "cars", 2, 1));
  store.commit(varied(colours, "cars", 4, 2));
  store.tag("cars", 1, "best");
  store.commit(varied(colours, "fungi", 17, 3));
  TaskRecord sharp = varied(colours, "sharp", 2, 4);
  sharp.labels = {"<img src=x onerror=document.title='taken'>", "a:b \"c\" & <b>d</b>"};
  store.commit(sharp);
  for (int i = 0; i < 20; ++i) store.commit(varied(colours, fmt::format("shop{:02}", i), 3, 5));
  for (const auto& [name, colour] : {std::pair{"a.png", "red"}, {"b.png", "green"}})
    write_text(folder / "examples" / name, text_of(folder / "data" / colour / "0.png"));
}

/// Two servers, one of them asks for tokens.
class Page : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_tasks(folder_->path());
    const std::string model = (*folder_ / "toy").string(), tokens = (*folder_ / "tokens.yaml").string();
    given_["chromium"] = kChromium;
    given_["shots"] = RECAST_SOURCE_DIR "/build/page";
    for (const char* colour : {"blue", "green", "red"})
      for (int i = 1; i < 4; ++i)
        given_["images"][colour].push_back((*folder_ / "data" / colour / fmt::format("{}.png", i)).string());
    for (const auto& [role, tasks] : {std::pair{"infer", "cars*"}, {"read", "*"}}) {
      const Answer token =
          RunningRecast(folder_->path(), {"token", tokens, role, "--role", role, "--tasks", tasks}).wait();
      given_["guarded"]["tokens"][role] = token.out.substr(0, token.out.find('\n'));
    }
    fs::create_directories(*folder_ / "open");
    fs::create_directories(*folder_ / "guarded");
    open_ = new ServingProgram(*folder_ / "open",
                               {model, "--no-grpc", "--no-metrics", "--examples", (*folder_ / "examples").string(),
                                "--corrections", (*folder_ / "corrections").string()});
    guarded_ = new ServingProgram(*folder_ / "guarded", {model, "--no-grpc", "--no-metrics", "--tokens", tokens,
                                                         "--corrections", (*folder_ / "guarded/kept").string()});
    given_["url"] = fmt::format("http://127.0.0.1:{}/", open_->http_port());
    given_["guarded"]["url"] = fmt::format("http://127.0.0.1:{}/", guarded_->http_port());
    write_text(*folder_ / "given.json", given_.dump());
  }
  static void TearDownTestSuite() {
    for (ServingProgram* server : {open_, guarded_})
      if (server) {
        const Answer end = server->stop();
        EXPECT_EQ(end.status, 0) << end.err;
        delete server;
      }
    open_ = guarded_ = nullptr;
    delete std::exchange(folder_, nullptr);
  }
  void SetUp() override {
    RECAST_NEED_CLIENTS();
    if (!fs::exists(kChromium)) {
      const std::string missing = std::string("no ") + kChromium + " (run tools/setup.sh --clients)";
      if (on_ci()) FAIL() << missing;
      GTEST_SKIP() << missing;
    }
    ASSERT_TRUE(guarded_) << "a server did not start";
  }

  static void visit(const char* kind) {
    expect_client_passes("clients/page_visits.py", {kind, (*folder_ / "given.json").string()});
  }

  static inline TemporaryFolder* folder_ = nullptr;
  static inline ServingProgram *open_ = nullptr, *guarded_ = nullptr;
  static inline json given_;
};

TEST_F(Page, ShowsTasksAnswersAndVersionsAndKeepsCorrectionsThatLearnTakes) {
  visit("use");
  if (HasFailure()) return;
  const fs::path kept = *folder_ / "corrections/toy/colours";
  std::set<std::string> corrected, shown;
  for (const auto& [colour, files] : given_["images"].items())
    for (const std::string file : files) shown.insert(colour + text_of(file));
  for (const auto& entry : fs::recursive_directory_iterator(kept / "train"))
    if (entry.is_regular_file())
      corrected.insert(entry.path().parent_path().filename().string() + text_of(entry.path()));
  EXPECT_TRUE(std::ranges::includes(corrected, shown)) << "every image, to the byte, under the label given last";
  const TemporaryFolder learning;
  const Answer learned = RunningRecast(learning.path(), {"learn", (*folder_ / "toy").string(), "--task", "colours",
                                                         "--data", kept.string(), "--epochs", "1", "--json"})
                             .wait();
  ASSERT_EQ(learned.status, 0) << learned.err;
  const TaskRecord task = ModelDirectory::open(*folder_ / "toy", true).record("colours");
  EXPECT_EQ(task.version, 3);
  EXPECT_EQ(task.labels, (std::vector<std::string>{"blue", "green", "red"}));
}

TEST_F(Page, IsUsedByKeyboardAlone) { visit("keyboard"); }

TEST_F(Page, AsksForATokenAndSaysWhatItMayNot) { visit("tokens"); }

/// Screenshots lie in build/page afterwards.
TEST_F(Page, IsReadableByPeopleAndProgramsInLightInDarkAndOnAPhone) { visit("looks"); }

}  // namespace
}  // namespace recast
