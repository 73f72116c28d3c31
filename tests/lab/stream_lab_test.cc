// Labs with streams of classes: what they learn and write, how they go on, and that no mean mixes them with other
// tasks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/lab_case.h"
#include "lab/lab_ear.h"
#include "recast/base/statistics.h"
#include "recast/run/model_directory.h"
#include "recast/run/stream_task.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class StreamLabTest : public LabCase {
 protected:
  StreamLabTest() { write_lab(stream_lab()); }
  nlohmann::json run(std::vector<std::string> overrides = {}, LabEar* ear = nullptr) const {
    LabRequest asked = request(std::move(overrides));
    asked.listener = ear;
    if (ear) asked.stop = &ear->stop;
    return run_lab(asked);
  }
  nlohmann::json result(const std::string& id, const std::string& key) const {
    return json_of(out() / "cells" / (id + ".json"))["result"][key];
  }
};

TEST_F(StreamLabTest, ACellIsOneStreamAndNothingElse) {
  LabEar ear;
  const nlohmann::json results = run({}, &ear);
  EXPECT_EQ(results["counts"]["done"], 8);
  StreamRequest alone;
  write_toy_model(folder_ / "other");
  alone.directory = folder_ / "other";
  alone.data = folder_ / "four";
  alone.task = "four";
  alone.recipe = "steps";
  alone.plugs = {"linear-probe"};
  alone.epochs = 3;
  alone.batch_size = 4;
  alone.seed = 6;
  alone.stream.increment = 2;
  alone.stream.class_seed = 6;
  const nlohmann::json stream = stream_task(alone).results;
  const nlohmann::json cell = json_of(out() / "cells/four/probe/6.json");
  EXPECT_EQ(cell["kind"], "stream");
  for (const char* key : {"average", "last", "forgetting", "backward_transfer", "forward_transfer", "stream", "images",
                          "coefficients", "stored_bytes"})
    EXPECT_EQ(cell["result"][key], stream[key]) << key;
  EXPECT_EQ(cell["result"]["top1"], stream["last"]) << "of all classes, with what is stored in the end";
  ASSERT_EQ(cell["result"]["curve"].size(), 2u);
  for (std::size_t s : {0, 1}) {
    EXPECT_EQ(cell["result"]["curve"][s]["top1"], stream["top1"][s]);
    EXPECT_EQ(cell["result"]["curve"][s]["classes"], 2 * (s + 1));
  }
  EXPECT_THAT(ear.notes, ::testing::Contains(HasSubstr(" on average over 2 steps, 0 numbers beside the head")));
  const ModelDirectory model = ModelDirectory::open(out() / "models/model", true);
  EXPECT_EQ(model.load("four.probe.6").record.labels.size(), 4u) << "the last step is the task";
  EXPECT_EQ(json_of(out() / "cells/colours/probe/6.json")["kind"], "learn");
}

TEST_F(StreamLabTest, NoMeanGoesOverBothScenarios) {
  const nlohmann::json results = run();
  const nlohmann::json& probe = results["rows"][1];
  std::vector<double> lasts, averages, gaps;
  for (const std::string seed : {"5", "6"}) {
    lasts.push_back(result("four/probe/" + seed, "last"));
    averages.push_back(result("four/probe/" + seed, "average"));
    gaps.push_back(averages.back() - result("four/ncm/" + seed, "average").get<double>());
  }
  EXPECT_EQ(probe["streams"]["top1"]["values"].get<std::vector<double>>(), lasts);
  EXPECT_EQ(probe["streams"]["average"]["values"].get<std::vector<double>>(), averages);
  EXPECT_EQ(probe["streams"]["average_difference"]["values"].get<std::vector<double>>(), gaps);
  EXPECT_EQ(probe["streams"]["average_difference"]["p"], paired_t_p(gaps).value());
  EXPECT_EQ(probe["tasks"]["four"]["stream"]["average"]["values"].get<std::vector<double>>(), averages);
  EXPECT_EQ(probe["streams"]["cells"], 2);
  EXPECT_EQ(probe["cells"], 2);
  EXPECT_EQ(probe["overall"]["top1"]["values"].get<std::vector<double>>(),
            (std::vector<double>{result("colours/probe/5", "top1"), result("colours/probe/6", "top1")}))
      << "the task that is there at once, alone";
  EXPECT_TRUE(probe["tasks"]["colours"]["stream"].is_null());
  EXPECT_EQ(probe["tasks"]["four"]["stream"]["curve"].size(), 2u);
  EXPECT_EQ(results["tasks"][1]["stream"]["class_seed"], "seed");
  EXPECT_THAT(results["notes"].dump(), HasSubstr("no mean or difference goes over both"));
  const std::string table = text_of(out() / "table.md"), page = text_of(out() / "report.html"),
                    csv = text_of(out() / "results.csv");
  EXPECT_THAT(table, AllOf(HasSubstr("| what learns | numbers | stored | colours | all tasks |"),
                           HasSubstr("| what learns | stored | four, average | four, last | all streams, average |"),
                           HasSubstr("paired over streams and seeds (not over images)")));
  EXPECT_THAT(page, AllOf(HasSubstr("Streams of classes"), HasSubstr("four: top-1 after each step"),
                          HasSubstr("in the order of the seed")));
  EXPECT_THAT(csv, HasSubstr(",scenario,average,last,forgetting,backward_transfer,forward_transfer,error\n"));
  EXPECT_THAT(csv, AllOf(HasSubstr(",class-il,"), HasSubstr(",task,,,,,,\n")));
  for (const char* plot : {"average-over-bytes.svg", "average-over-seconds.svg", "accuracy-over-bytes.svg"})
    EXPECT_TRUE(fs::exists(out() / plot)) << plot;
}

TEST_F(StreamLabTest, StreamsAloneHaveNoTableOfTasks) {
  const nlohmann::json results =
      run({"only=four", "seeds=5", "tasks.colours.scenario=class-il", "tasks.colours.increment=1"});
  EXPECT_TRUE(results["rows"][0]["overall"]["top1"].is_null());
  EXPECT_EQ(results["rows"][0]["cells"], 0);
  EXPECT_FALSE(results["rows"][0]["plugs"].empty());
  EXPECT_THAT(results["notes"], IsEmpty());
  EXPECT_THAT(text_of(out() / "table.md"), Not(HasSubstr("all tasks")));
  EXPECT_THAT(text_of(out() / "report.html"), Not(HasSubstr("<h2>All tasks</h2>")));
  EXPECT_FALSE(fs::exists(out() / "accuracy-over-bytes.svg"));
}

TEST_F(StreamLabTest, GoesOnFromWhereverItWasStopped) {
  const std::vector<std::string> part = {"only=four/probe", "seeds=5", "tasks.four.increment=1"};
  const auto with = [&](const std::string& more) {
    std::vector<std::string> overrides = part;
    overrides.push_back(more);
    return overrides;
  };
  const nlohmann::json whole = run(with("out=" + (folder_ / "whole").string()));
  int stops = 0;
  nlohmann::json results;
  bool went_on = false;
  for (std::int64_t at = 2; results.is_null(); at += 3) {
    LabEar ear;
    ear.stop_at = at;
    try {
      results = run(part, &ear);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::kCancelled) << error.what();
      ASSERT_LT(++stops, 60);
    }
    const fs::path log = out() / "runs/four/probe/5/run.log";
    went_on = went_on || (fs::exists(log) && text_of(log).find("steps are stored: going on") != std::string::npos);
  }
  EXPECT_GT(stops, 2);
  EXPECT_TRUE(went_on) << "not from the first step each time";
  EXPECT_EQ(without_times(results["rows"]), without_times(whole["rows"]));
  EXPECT_EQ(without_times(results["cells"]), without_times(whole["cells"]));
  LabEar again;
  run(part, &again);
  EXPECT_THAT(again.notes, IsEmpty());
}

TEST_F(StreamLabTest, SideBySideGivesTheSame) {
  std::vector<std::string> overrides = {"only=four", "recipes.probe.plug=\"g-acil:width=32\"",
                                        "recipes.probe.recipe=fast", "recipes.probe.keep-task=false",
                                        "out=" + (folder_ / "one").string()};
  const nlohmann::json one = run(overrides);
  overrides.pop_back();
  LabRequest asked = request(overrides);
  asked.jobs = 3;
  const nlohmann::json several = run_lab(asked);
  EXPECT_EQ(several["counts"]["done"], 4) << several["cells"].dump();
  EXPECT_EQ(without_times(several["rows"]), without_times(one["rows"]));
}

TEST_F(StreamLabTest, OnlyWhatChangedIsDoneAgain) {
  run({"seeds=5"});
  LabEar ear;
  run({"seeds=5", "tasks.four.increment=3"}, &ear);
  EXPECT_THAT(ear.worked(), ElementsAre("four/ncm/5", "four/probe/5"));
  EXPECT_THAT(ear.notes, ::testing::Contains(HasSubstr("the settings of its task changed since: done again")));
  EXPECT_EQ(result("four/ncm/5", "curve")[0]["classes"], 3);
  LabEar other;
  run({"seeds=5", "tasks.colours.scenario=class-il", "tasks.colours.increment=1", "tasks.four.increment=3"}, &other);
  EXPECT_THAT(other.worked(), ElementsAre("colours/ncm/5", "colours/probe/5"))
      << "another scenario is another question";
}

TEST_F(StreamLabTest, StepsThatAreNotKeptLeaveTheStoreWithTheirHead) {
  run({"seeds=5", "only=four", "recipes.ncm.keep-task=false"});
  const ModelDirectory model = ModelDirectory::open(out() / "models/model", true);
  std::vector<std::string> names;
  for (const TaskSummary& task : model.store().list(true)) names.push_back(task.name);
  EXPECT_THAT(names, ElementsAre("four.probe.5"));
  EXPECT_FALSE(model.store().shared("four.ncm.5"));
  EXPECT_EQ(result("four/ncm/5", "kept_task"), false);
}

TEST_F(StreamLabTest, AHeadThatLearnsEachClassOnceFailsWhereTheyComeBack) {
  const nlohmann::json results = run({"seeds=5", "only=four", "recipes.probe.plug=[fetril]",
                                      "recipes.probe.recipe=fast", "tasks.four.stream=recurring"});
  EXPECT_EQ(results["counts"]["done"], 1);
  EXPECT_EQ(results["counts"]["failed"], 1);
  EXPECT_THAT(results["cells"][1]["error"].get<std::string>(), HasSubstr("learns each class once"));
}

TEST_F(StreamLabTest, ResultsFollowThePublishedSchema) {
  const nlohmann::json results = run({"seeds=5", "recipes.probe.plug=[clr]", "skip=colours/probe"});
  RECAST_NEED_PYTHON("jsonschema");
  const auto verdict = [&](const nlohmann::json& document) {
    write_text(folder_ / "document.json", document.dump());
    return run_program({python_path(), RECAST_SOURCE_DIR "/tests/run/check_schema.py",
                        RECAST_SOURCE_DIR "/docs/lab.schema.json", (folder_ / "document.json").string()});
  };
  const nlohmann::json cell = json_of(out() / "cells/four/ncm/5.json");
  for (const nlohmann::json& good : {results, cell, json_of(out() / "cells/four/probe/5.json")}) {
    const auto answer = verdict(good);
    EXPECT_EQ(answer.status, 0) << answer.text;
  }
  nlohmann::json bad = cell;
  bad["result"].erase("forgetting");
  EXPECT_NE(verdict(bad).status, 0);
  bad = cell;
  bad["kind"] = "learn";
  EXPECT_NE(verdict(bad).status, 0);
  bad = results;
  bad["rows"][0]["streams"].erase("average");
  EXPECT_NE(verdict(bad).status, 0);
}

}  // namespace
}  // namespace recast
