// What people read of tasks, from an engine over real stores.
#include "format/expect_error.h"
#include "recast/serve/token_table.h"
#include "served_tasks.h"

namespace recast {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::vector<std::string> names_of(const json& page) {
  std::vector<std::string> names;
  for (const json& task : page.at("tasks")) names.push_back(task.at("name"));
  return names;
}

class TaskListing : public ::testing::Test {
 protected:
  /// Bases "one" with cars (2 versions), flowers and t00 to t19, and "two" with cars and pets.
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_toy_model(*folder_ / "one");
    write_toy_model(*folder_ / "two", 2);
    write_toy_images(*folder_ / "data", {"blue", "green", "red"}, 6);
    const TaskRecord flowers = learned_record(*folder_ / "one", *folder_ / "data", "flowers", {"recast"});
    const ModelDirectory one = ModelDirectory::open(*folder_ / "one", false);
    for (const std::int64_t classes : {2, 4}) one.store().commit(varied(flowers, "cars", classes, 1));
    one.store().tag("cars", 1, "best");
    for (int i = 0; i < 20; ++i) one.store().commit(varied(flowers, fmt::format("t{:02}", i), 3, 2));
    const TaskRecord cars = learned_record(*folder_ / "two", *folder_ / "data", "cars", {"recast"});
    ModelDirectory::open(*folder_ / "two", false).store().commit(varied(cars, "pets", 2, 3));
  }
  static void TearDownTestSuite() { delete std::exchange(folder_, nullptr); }

  static std::unique_ptr<Service> engine(const std::vector<std::string>& bases) {
    EngineOptions options;
    options.workers = 1;
    for (const std::string& base : bases) options.directories.push_back(*folder_ / base);
    return make_engine(options, nullptr);
  }

  static inline TemporaryFolder* folder_ = nullptr;
};

TEST_F(TaskListing, ShowsTheNewestVersionOfEachTask) {
  const json page = engine({"one"})->tasks({.limit = 2});
  EXPECT_THAT(names_of(page), ElementsAre("cars", "flowers"));
  const json& cars = page["tasks"][0];
  EXPECT_EQ(cars["base"], "one");
  EXPECT_EQ(cars["ready"], true);
  EXPECT_EQ(cars["version"], 2);
  EXPECT_EQ(cars["versions"], 2);
  EXPECT_EQ(cars["classes"], 4);
  EXPECT_GT(cars["state_bytes"], 0);
  EXPECT_THAT(cars["plugs"].dump(), HasSubstr("recast"));
  EXPECT_TRUE(page["tasks"][1]["validation_top1"].is_number());
  EXPECT_EQ(page["next"], "one@flowers");
}

TEST_F(TaskListing, GoesOnFromPageToPageUntilTheEnd) {
  const auto service = engine({"one", "two"});
  std::vector<std::string> all;
  TaskQuery query{.limit = 7};
  int pages = 0;
  for (json next = ""; !next.is_null(); ++pages) {
    query.after = next;
    const json page = service->tasks(query);
    EXPECT_THAT(page["tasks"], SizeIs(pages < 3 ? 7 : 3));
    for (const std::string& name : names_of(page)) all.push_back(name);
    next = page["next"];
  }
  EXPECT_EQ(pages, 4);
  ASSERT_THAT(all, SizeIs(24));
  EXPECT_EQ(all.front(), "one@cars");
  EXPECT_EQ(all.back(), "two@pets");
  EXPECT_TRUE(std::ranges::is_sorted(all));
}

TEST_F(TaskListing, GoesOnInABaseThatIsNamedAsNoTaskIs) {
  std::filesystem::create_directory_symlink(*folder_ / "one", *folder_ / "my @ model");
  const auto service = engine({"my @ model"});
  const json page = service->tasks({.limit = 1});
  EXPECT_EQ(page["next"], "my @ model@cars");
  EXPECT_THAT(names_of(service->tasks({.after = page["next"], .limit = 1})), ElementsAre("flowers"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { engine({"my @ model", "two"}); }), HasSubstr("rename it"));
}

TEST_F(TaskListing, EndsAPageThatIsJustFullWithoutAnother) {
  const auto service = engine({"one"});
  EXPECT_TRUE(service->tasks({.limit = 22})["next"].is_null());
  EXPECT_TRUE(service->tasks({.after = "t19"})["next"].is_null());
  EXPECT_THAT(names_of(service->tasks({.after = "t18"})), ElementsAre("t19"));
}

TEST_F(TaskListing, SearchesNamesAndNamesWithBases) {
  const auto service = engine({"one", "two"});
  EXPECT_THAT(names_of(service->tasks({.search = "CAR"})), ElementsAre("one@cars", "two@cars"));
  EXPECT_THAT(names_of(service->tasks({.search = "two@"})), ElementsAre("two@cars", "two@pets"));
  EXPECT_THAT(names_of(service->tasks({.search = "two"})), IsEmpty());
  EXPECT_THAT(names_of(service->tasks({.search = "t1", .limit = 3})), ElementsAre("one@t10", "one@t11", "one@t12"));
}

TEST_F(TaskListing, ShowsACallerItsOwnTasksByNamesThatItMayUse) {
  const auto only = [](const std::string& glob) {
    return [glob](std::string_view model) { return glob_matches(glob, model); };
  };
  EXPECT_THAT(names_of(engine({"one", "two"})->tasks({.may_use = only("two@*")})), ElementsAre("two@cars", "two@pets"));
  EXPECT_THAT(names_of(engine({"one"})->tasks({.may_use = only("c*")})), ElementsAre("cars"));
  EXPECT_THAT(names_of(engine({"one"})->tasks({.may_use = only("one@f*")})), ElementsAre("one@flowers"));
}

TEST_F(TaskListing, TellsWhatIsUnloaded) {
  const auto service = engine({"one"});
  service->unload("cars");
  EXPECT_EQ(service->tasks({.search = "cars"})["tasks"][0]["ready"], false);
}

TEST_F(TaskListing, RefusesWhatIsNoPlace) {
  const auto service = engine({"one", "two"});
  for (const char* after : {"cars", "@", "one@", "a@b@c", "../x", "one@../x"})
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { service->tasks({.after = after}); }), HasSubstr("after"))
        << after;
  for (const std::int64_t limit : {-1, 0, 101})
    error_of(Code::kInvalidArgument, [&] { service->tasks({.limit = limit}); });
  EXPECT_THAT(names_of(service->tasks({.after = "three@x"})), ElementsAre("two@cars", "two@pets"))
      << "a base that is gone";
}

TEST_F(TaskListing, TellsAllOfOneTask) {
  const auto service = engine({"one", "two"});
  const json cars = service->task("one@cars");
  EXPECT_EQ(cars["name"], "one@cars");
  EXPECT_EQ(cars["task"], "cars");
  EXPECT_EQ(cars["base"], "one");
  EXPECT_EQ(cars["version"], 2);
  EXPECT_THAT(cars["labels"], ElementsAre("class 0", "class 1", "class 2", "class 3"));
  EXPECT_EQ(cars["image_size"], 16);
  ASSERT_THAT(cars["versions"], SizeIs(2));
  EXPECT_EQ(cars["versions"][0]["version"], 1);
  EXPECT_EQ(cars["versions"][0]["tags"], json::array({"best"}));
  EXPECT_THAT(service->task("one@cars:best")["labels"], SizeIs(2));
  EXPECT_EQ(service->task("flowers:1")["name"], "flowers");
  error_of(Code::kInvalidArgument, [&] { service->task("cars"); });
  EXPECT_THAT(error_of(Code::kNotFound, [&] { service->task("flwers"); }), HasSubstr("did you mean 'flowers'?"));
  error_of(Code::kNotFound, [&] { service->task("recast"); });
}

}  // namespace
}  // namespace recast
