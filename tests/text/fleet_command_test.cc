// Commands on a task store in PostgreSQL: `--store URL`, its variable, and where its password may stand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "run/toy_model.h"
#include "store/store_place.h"
#include "text/run_recast.h"

namespace recast {
namespace {
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class FleetCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    RECAST_NEED_POSTGRES();
    place_.emplace(StoreKind::kPostgres);
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 12);
  }
  std::string model() const { return (folder_ / "model").string(); }
  std::string data() const { return (folder_ / "data").string(); }
  std::string url() const { return place_->url(); }
  Answer run(const std::vector<std::string>& words, const RunningRecast::Environment& more = {}) const {
    return RunningRecast(output_.path(), words, more).wait();
  }
  void learn(const std::string& task, const std::string& model) const {
    const Answer answer = run({"learn", model, "--task", task, "--data", data(), "--epochs", "1", "--plug", "recast",
                               "--store", url(), "--quiet"});
    ASSERT_EQ(answer.status, 0) << answer.err;
  }

  TemporaryFolder folder_, output_;
  std::optional<StorePlace> place_;
};

TEST_F(FleetCommand, LearnsListsAsksAndRemovesThere) {
  learn("colours", model());
  EXPECT_FALSE(std::filesystem::exists(folder_ / "model/tasks.db"));
  const std::string image = data() + "/red/1.png", file = (folder_ / "colours.safetensors").string();
  const auto json = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--store", url(), "--json"});
    const Answer answer = run(words);
    EXPECT_EQ(answer.status, 0) << words[0] << ": " << answer.err;
    return answer.status == 0 ? answer.json() : nlohmann::json();
  };
  EXPECT_EQ(json({"tasks", model(), "list"})["tasks"][0]["task"], "colours");
  EXPECT_EQ(json({"tasks", model(), "tag", "colours", "first"})["version"], 1);
  EXPECT_EQ(json({"predict", model(), "--task", "colours:first", image})["predictions"].size(), 1u);
  EXPECT_TRUE(json({"eval", model(), "--task", "colours", "--data", data()}).is_object());
  EXPECT_EQ(json({"tasks", model(), "export", "colours", file})["version"], 1);
  EXPECT_EQ(json({"tasks", model(), "import", file, "--as", "copy"})["version"], 1);
  EXPECT_EQ(json({"tasks", model(), "remove", "copy", "--purge"})["purged"], true);
  EXPECT_TRUE(json({"doctor", model()})["healthy"].get<bool>());
  EXPECT_TRUE(json({"inspect", model()}).is_object());
  EXPECT_THAT(run({"tasks", model(), "list"}).out, HasSubstr("no tasks yet")) << "its own store is another one";
}

TEST_F(FleetCommand, TellsATaskOfAnotherBackboneFromNone) {
  const std::string other = (folder_ / "other").string();
  write_toy_model(other, 2);
  learn("colours", model());
  const Answer foreign = run({"tasks", other, "show", "colours", "--store", url()});
  EXPECT_EQ(foreign.status, 3);
  EXPECT_THAT(foreign.err, HasSubstr("belongs to another backbone"));
  const Answer none = run({"tasks", other, "show", "shapes", "--store", url()});
  EXPECT_EQ(none.status, 4);
  EXPECT_THAT(none.err, HasSubstr("in postgresql://recast@/"));
  learn("colours", other);
  EXPECT_EQ(run({"tasks", other, "show", "colours", "--store", url()}).status, 0) << "both may have the name";
}

TEST_F(FleetCommand, TakesThePasswordFromTheEnvironmentAndShowsItNowhere) {
  std::string secret = url();
  secret.replace(secret.find('@'), 1, ":hunter2@");
  const Answer refused = run({"tasks", model(), "list", "--store", secret});
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("PGPASSWORD"), Not(HasSubstr("hunter2"))));
  const RunningRecast::Environment environment = {{"RECAST_STORE", secret}, {"RECAST_LOG_LEVEL", "debug"}};
  const Answer learned = run({"learn", model(), "--task", "colours", "--data", data(), "--epochs", "1"}, environment);
  ASSERT_EQ(learned.status, 0) << learned.err;
  EXPECT_EQ(place_->open(true)->list().size(), 0u) << "of the sample's backbone";
  EXPECT_EQ(place_->sql("SELECT count(*) FROM recast.tasks"), "1");
  EXPECT_THAT(run({"tasks", model(), "list"}, environment).out, HasSubstr("colours")) << "verbs read it, too";
  const Answer examined = run({"doctor", model()}, environment);
  EXPECT_THAT(examined.out, HasSubstr("RECAST_STORE=postgresql://recast@/"));
  for (const Answer* answer : {&learned, &examined}) EXPECT_THAT(answer->out + answer->err, Not(HasSubstr("hunter2")));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
    if (!entry.is_regular_file()) continue;
    EXPECT_THAT(text_of(entry.path()), Not(HasSubstr("hunter2"))) << entry.path();
  }
}

TEST_F(FleetCommand, SaysThatTheDatabaseIsOutOfReach) {
  const Answer answer = run({"tasks", model(), "list", "--store", "postgresql://me@127.0.0.1:1/fleet"});
  EXPECT_EQ(answer.status, 1);
  EXPECT_THAT(answer.err, AllOf(HasSubstr("postgresql://me@127.0.0.1:1/fleet"), HasSubstr("refused")));
  EXPECT_EQ(run({"tasks", model(), "list", "--store", "mysql://db/fleet"}).status, 2);
}

}  // namespace
}  // namespace recast
