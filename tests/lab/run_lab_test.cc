// Labs from file to results: done once, gone on with, done again where something changed.
#include "recast/lab/run_lab.h"

#include "lab/lab_case.h"
#include "lab/lab_ear.h"
#include "recast/base/statistics.h"
#include "recast/run/evaluate_task.h"
#include "recast/run/model_directory.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class RunLabTest : public LabCase {
 protected:
  nlohmann::json run(std::vector<std::string> overrides = {}, LabEar* ear = nullptr) const {
    LabRequest asked = request(std::move(overrides));
    asked.listener = ear;
    if (ear) asked.stop = &ear->stop;
    return run_lab(asked);
  }
  static std::vector<std::string> states_in(const nlohmann::json& listed) {
    std::vector<std::string> out;
    for (const auto& cell : listed["cells"]) out.push_back(cell["state"]);
    return out;
  }
  std::vector<std::string> states() const { return states_in(list_lab(request())); }
  fs::path cell(const std::string& id) const { return out() / "cells" / (id + ".json"); }
};

TEST_F(RunLabTest, LearnsMeasuresAndWritesEverything) {
  const nlohmann::json results = run();
  EXPECT_EQ(results["counts"], (nlohmann::json{{"cells", 8}, {"done", 8}, {"failed", 0}, {"left", 0}}));
  for (const char* name : {"lab.yaml", "results.json", "results.csv", "table.md", "report.html",
                           "accuracy-over-bytes.svg", "accuracy-over-seconds.svg"})
    EXPECT_TRUE(fs::exists(out() / name)) << name;
  EXPECT_EQ(json_of(out() / "results.json"), results);
  EXPECT_FALSE(fs::exists(folder_ / "model/tasks.db")) << "the model that was given is only read";

  // A cell is one learn and one eval of what it stored.
  const nlohmann::json one = json_of(cell("pair/fine/6"))["result"];
  const ModelDirectory model = ModelDirectory::open(out() / "models/model", true);
  EvaluateRequest measure;
  measure.task = one["stored_task"].get<std::string>();
  const nlohmann::json again = evaluate_tasks(model, measure);
  EXPECT_EQ(again["top1"], one["top1"]);
  EXPECT_EQ(again["labels"], nlohmann::json({"blue", "red"}));
  EXPECT_FALSE(fs::exists(out() / "runs/pair/fine/6/checkpoints")) << "nobody goes on from there";
  EXPECT_TRUE(fs::exists(out() / "runs/pair/fine/6/metrics.csv"));

  // The table is that of the cells.
  std::vector<double> tops, gaps;
  for (const char* task : {"colours", "pair"})
    for (const char* seed : {"5", "6"}) {
      const auto top1 = [&](const char* recipe) -> double {
        return json_of(cell(fmt::format("{}/{}/{}", task, recipe, seed)))["result"]["top1"];
      };
      tops.push_back(top1("fine"));
      gaps.push_back(top1("fine") - top1("head"));
    }
  const nlohmann::json& fine = results["rows"][1];
  EXPECT_EQ(fine["recipe"], "fine");
  EXPECT_EQ(fine["tasks"]["pair"]["top1"]["values"].get<std::vector<double>>(),
            (std::vector<double>{tops[2], tops[3]}));
  EXPECT_EQ(fine["overall"]["top1"]["values"].get<std::vector<double>>(),
            (std::vector<double>{(tops[0] + tops[2]) / 2, (tops[1] + tops[3]) / 2}));
  EXPECT_EQ(fine["overall"]["difference"]["values"].get<std::vector<double>>(), gaps);
  EXPECT_EQ(fine["overall"]["difference"]["p"], paired_t_p(gaps).value());
  EXPECT_EQ(fine["tasks"]["pair"]["difference"]["p"], paired_t_p({gaps[2], gaps[3]}).value());
  EXPECT_TRUE(results["rows"][0]["overall"]["difference"].is_null()) << "the baseline itself";
  EXPECT_GT(fine["coefficients"]["least"], 0);
  EXPECT_EQ(results["rows"][0]["coefficients"]["most"], 0);
  EXPECT_LT(fine["head_numbers"]["least"], fine["head_numbers"]["most"]) << "two classes, and three";
}

TEST_F(RunLabTest, DoesNothingTwice) {
  const nlohmann::json first = run();
  const auto written = fs::last_write_time(cell("pair/fine/6"));
  LabEar ear;
  const nlohmann::json second = run({}, &ear);
  EXPECT_THAT(ear.worked(), IsEmpty());
  EXPECT_EQ(fs::last_write_time(cell("pair/fine/6")), written);
  EXPECT_EQ(without_times(second), without_times(first));
  LabRequest report = request();
  fs::remove_all(folder_ / "model");
  fs::remove_all(folder_ / "data");
  fs::remove_all(out() / "models");
  fs::remove_all(out() / "runs");
  EXPECT_EQ(without_times(report_lab(report)), without_times(first)) << "from the files of the cells alone";
}

TEST_F(RunLabTest, GoesOnFromWhereverItWasStopped) {
  const nlohmann::json whole = run({"out=" + (folder_ / "whole").string()});
  int stops = 0;
  nlohmann::json results;
  for (std::int64_t at = 3; results.is_null(); at = at * 3 / 2 + 1) {
    LabEar ear;
    ear.stop_at = at;
    try {
      results = run({}, &ear);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::kCancelled) << error.what();
      EXPECT_THAT(error.what(), HasSubstr("the same command goes on"));
      EXPECT_TRUE(fs::exists(out() / "results.json")) << "what is there is reported";
      ASSERT_LT(++stops, 50);
    }
  }
  EXPECT_GT(stops, 3);
  EXPECT_EQ(without_times(results["rows"]), without_times(whole["rows"]));
  EXPECT_EQ(without_times(results["cells"]), without_times(whole["cells"]));
}

TEST_F(RunLabTest, SideBySideGivesTheSame) {
  const nlohmann::json one = run({"out=" + (folder_ / "one").string()});
  LabRequest asked = request();
  asked.jobs = 3;
  EXPECT_EQ(without_times(run_lab(asked)["rows"]), without_times(one["rows"]));
  asked.jobs = 0;
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { run_lab(asked); }), HasSubstr("--jobs"));
}

TEST_F(RunLabTest, AFailingCellIsReportedAndStopsNoOther) {
  // No such head: it is found out only when the recipe meets the backbone.
  write_lab(lab() + "skip: pair\n");
  LabEar ear;
  nlohmann::json results = run({"recipes.fine.plug=[clr]"}, &ear);
  EXPECT_EQ(results["counts"], (nlohmann::json{{"cells", 4}, {"done", 2}, {"failed", 2}, {"left", 0}}));
  ASSERT_EQ(ear.warnings.size(), 2u);
  EXPECT_THAT(ear.warnings[0], HasSubstr("colours/fine/5 failed: "));
  EXPECT_THAT(json_of(cell("colours/fine/5"))["error"]["message"].get<std::string>(), HasSubstr("clr"));
  EXPECT_TRUE(results["rows"][1]["overall"]["top1"].is_null());
  EXPECT_THAT(text_of(out() / "table.md"), HasSubstr("2 of 4 cells done, 2 failed"));
  // Mended, only the failed ones are done.
  LabEar again;
  results = run({}, &again);
  EXPECT_THAT(again.worked(), ElementsAre("colours/fine/5", "colours/fine/6"));
  EXPECT_EQ(results["counts"]["failed"], 0);
}

TEST_F(RunLabTest, AModelThatCannotBeMadeFailsItsCellsAlone) {
  write_lab("models:\n  good: " + (folder_ / "model").string() +
            "\n  bad: {mimic: good, groups: 99}\ntasks: {colours: {data: " + (folder_ / "data").string() +
            "}}\nrecipes:\n  head: {model: good, plug: linear-probe, epochs: 0}\n"
            "  other: {model: bad, plug: linear-probe, epochs: 0}\nseeds: 5\nout: " +
            out().string() + "\n");
  const nlohmann::json results = run();
  EXPECT_EQ(results["counts"]["done"], 1);
  EXPECT_EQ(results["counts"]["failed"], 1);
  EXPECT_THAT(results["cells"][1]["error"].get<std::string>(), HasSubstr("groups"));
}

TEST_F(RunLabTest, MakesTheModelsThatItNeeds) {
  write_tensor_file(folder_ / "tiny.safetensors", {tiny_checkpoint(0), {}});
  write_lab("models:\n  base: {import: " + (folder_ / "tiny.safetensors").string() +
            ", arch: vit_tiny_patch16_224}\n"
            "  attn: {mimic: base, target: attn, groups: 6, sets: 1}\n"
            "tasks: {colours: {data: " +
            (folder_ / "data").string() +
            ", image-size: 32, limit-train: 2, limit-test: 1}}\n"
            "recipes:\n  head: {model: attn, plug: linear-probe, epochs: 0}\nseeds: 5\nout: " +
            out().string() + "\n");
  LabEar ear;
  run({}, &ear);
  EXPECT_THAT(ear.notes, Contains(StartsWith("mimicry of model base")));
  EXPECT_EQ(ModelDirectory::open(out() / "models/attn", true).files().config.bank.groups, 6);
  LabEar second;
  run({}, &second);
  EXPECT_THAT(second.notes, IsEmpty()) << "neither made nor learned again";
  LabEar changed;
  run({"models.attn.groups=4"}, &changed);
  EXPECT_THAT(changed.notes, Contains(HasSubstr("colours/head/5: the settings of its models changed since")));
  EXPECT_THAT(changed.worked(), ElementsAre("colours/head/5"));
}

TEST_F(RunLabTest, WhatChangedIsDoneAgain) {
  run();
  EXPECT_THAT(states(), ::testing::Each("done"));
  LabRequest changed = request({"recipes.fine.epochs=1"});
  EXPECT_THAT(states_in(list_lab(changed)),
              ElementsAre("done", "changed", "done", "changed", "done", "changed", "done", "changed"));
  EXPECT_TRUE(report_lab(changed)["rows"][1]["overall"]["top1"].is_null()) << "results of other settings are not shown";
  LabEar ear;
  run({"recipes.fine.epochs=1", "recipes.head.label=the head alone"}, &ear);
  EXPECT_EQ(ear.worked().size(), 4u);
  EXPECT_THAT(ear.notes, Contains("[2/8] colours/fine/5: the settings of its recipe changed since: done again"));

  // Another image of one class, which the task of the other two does not have.
  write_text(folder_ / "data/green/3.png", encode_png(at::full({3, 16, 16}, 9, at::kByte)));
  LabEar images;
  run({"recipes.fine.epochs=1"}, &images);
  EXPECT_THAT(images.worked(), ElementsAre("colours/head/5", "colours/fine/5", "colours/head/6", "colours/fine/6"));
  EXPECT_THAT(images.notes, Contains(HasSubstr("its images changed since")));

  fs::remove_all(folder_ / "model");
  write_toy_model(folder_ / "model", 2);
  LabEar model;
  run({"recipes.fine.epochs=1"}, &model);
  EXPECT_EQ(model.worked().size(), 8u);
  EXPECT_THAT(model.notes, Contains(HasSubstr("its model changed since")));
}

TEST_F(RunLabTest, WhatIsDoneAgainNeverTakesTheOldRunForItself) {
  write_lab(lab("only: colours/fine\n"));
  run({"seeds=5"});
  for (int i = 0; i < 12; ++i)
    write_text(folder_ / fmt::format("data/green/{}.png", i), encode_png(at::full({3, 16, 16}, 90, at::kByte)));
  const nlohmann::json fresh = run({"seeds=5", "out=" + (folder_ / "fresh").string()});
  nlohmann::json results;
  for (std::int64_t at = 1; results.is_null(); at += 5) {  // the first stops come before anything is learned
    ASSERT_LT(at, 500);
    LabEar ear;
    ear.stop_at = at;
    try {
      results = run({"seeds=5"}, &ear);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::kCancelled) << error.what();
    }
  }
  EXPECT_EQ(without_times(results["rows"]), without_times(fresh["rows"]));
  EXPECT_EQ(without_times(results["cells"]), without_times(fresh["cells"]));
}

TEST_F(RunLabTest, HeadsThatTasksShareElsewhereAreEachCellsOwn) {
  // Learned twice, a class is an error for this head.
  const std::vector<std::string> fetril = {"recipes.fine.plug=[fetril]", "recipes.fine.epochs=0"};
  const nlohmann::json both = run(fetril);
  EXPECT_EQ(both["counts"]["failed"], 0) << both["cells"].dump();
  const ModelDirectory model = ModelDirectory::open(out() / "models/model", true);
  EXPECT_TRUE(model.store().shared("pair.fine.6"));
  EXPECT_FALSE(model.store().shared("fetril"));
  EXPECT_EQ(model.load("pair.fine.6").record.labels.size(), 2u) << "no class of the other task";
  LabRequest again = request(fetril);
  again.cells = {"pair/fine/6"};
  again.force = true;
  const nlohmann::json redone = run_lab(again);
  EXPECT_EQ(without_times(redone["cells"]), without_times(both["cells"]));
  EXPECT_EQ(json_of(cell("pair/fine/6"))["result"]["version"], 1) << "what it had learned before is gone";
}

TEST_F(RunLabTest, AnyCellCanBeDoneAgainAlone) {
  run();
  LabRequest asked = request();
  asked.cells = {"pair/fine/6"};
  LabEar ear;
  asked.listener = &ear;
  const std::string before = json_of(cell("pair/fine/6"))["result"]["finished_utc"];
  run_lab(asked);
  EXPECT_THAT(ear.worked(), IsEmpty());
  asked.force = true;
  const nlohmann::json results = run_lab(asked);
  EXPECT_THAT(ear.worked(), ElementsAre("pair/fine/6"));
  EXPECT_EQ(results["counts"]["done"], 8) << "the table is still that of all";
  EXPECT_EQ(json_of(cell("pair/fine/6"))["result"]["version"], 2);
  write_text(cell("pair/head/5"), "{\"schema\":");
  EXPECT_THAT(states(), Contains("missing"));
  LabEar damaged;
  run({}, &damaged);
  EXPECT_THAT(damaged.worked(), ElementsAre("pair/head/5"));
  EXPECT_THAT(damaged.notes, Contains(HasSubstr("cannot be read and is made anew")));
}

TEST_F(RunLabTest, TasksThatAreNotKeptLeaveTheStore) {
  run({"recipes.fine.keep-task=false", "recipes.fine.plug=[\"finetune:scope=task\"]", "seeds=5"});
  const ModelDirectory model = ModelDirectory::open(out() / "models/model", true);
  std::vector<std::string> names;
  for (const TaskSummary& task : model.store().list(true)) names.push_back(task.name);
  EXPECT_THAT(names, ElementsAre("colours.head.5", "pair.head.5"));
  EXPECT_EQ(json_of(cell("pair/fine/5"))["result"]["kept_task"], false);
}

TEST_F(RunLabTest, SaysAllThatIsMissingInOneGo) {
  write_lab("models: {a: " + (folder_ / "none").string() + ", b: " + (folder_ / "model").string() +
            "}\ntasks:\n  birds: {data: " + (folder_ / "birds").string() + ", layout: \"train/ and test/\"}\n" +
            "  cars: {data: " + (folder_ / "cars").string() + "}\n  here: {data: " + (folder_ / "data").string() +
            "}\nrecipes: {r: {model: a}, s: {model: b, epochs: 0}}\nseeds: 1\nout: " + out().string() + "\n");
  LabEar ear;
  LabRequest asked = request();
  asked.listener = &ear;
  const std::string message = error_of(Code::kNotFound, [&] { run_lab(asked); });
  EXPECT_THAT(message, HasSubstr("3 of 5 inputs are not there (model a, task birds, task cars)"));
  ASSERT_EQ(ear.warnings.size(), 3u);
  EXPECT_EQ(ear.warnings[1], "task birds: no " + (folder_ / "birds").string() + "; expected there: train/ and test/");
  EXPECT_FALSE(fs::exists(out())) << "nothing is begun";
  asked.cells = {"here/s"};
  EXPECT_EQ(run_lab(asked)["counts"]["done"], 1);
}

TEST_F(RunLabTest, NamesFromTheFileAreTextsAndNothingElse) {
  run({"recipes.fine.label=\"<i>a|b</i>, \\\"c\\\"\"", "title=<script>", "seeds=5"});
  const std::string page = text_of(out() / "report.html"), table = text_of(out() / "table.md");
  EXPECT_THAT(page, HasSubstr("&lt;i&gt;a|b&lt;/i&gt;"));
  EXPECT_THAT(page, ::testing::Not(HasSubstr("<script")));
  EXPECT_THAT(page, ::testing::Not(HasSubstr("<i>")));
  EXPECT_THAT(table, HasSubstr("| &lt;i>a\\|b&lt;/i>, \"c\" |"));
  RECAST_NEED_PYTHON("xml");
  for (const char* name : {"accuracy-over-bytes.svg", "accuracy-over-seconds.svg"}) {
    const auto parsed = run_program(
        {python_path(), "-c", "import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])", (out() / name).string()});
    EXPECT_EQ(parsed.status, 0) << parsed.text;
  }
}

TEST_F(RunLabTest, ResultsFollowThePublishedSchema) {
  const nlohmann::json results = run({"recipes.fine.plug=[clr]", "seeds=5"});
  RECAST_NEED_PYTHON("jsonschema");
  const auto verdict = [&](const nlohmann::json& document) {
    write_text(folder_ / "document.json", document.dump());
    return run_program({python_path(), RECAST_SOURCE_DIR "/tests/run/check_schema.py",
                        RECAST_SOURCE_DIR "/docs/lab.schema.json", (folder_ / "document.json").string()});
  };
  for (const nlohmann::json& good : {results, json_of(cell("pair/head/5")), json_of(cell("pair/fine/5"))}) {
    const auto answer = verdict(good);
    EXPECT_EQ(answer.status, 0) << answer.text;
  }
  nlohmann::json bad = results;
  bad["rows"][0]["tasks"]["pair"]["top1"].erase("mean");
  EXPECT_NE(verdict(bad).status, 0);
  bad = results;
  bad["accuracy"] = 1;
  EXPECT_NE(verdict(bad).status, 0);
}

}  // namespace
}  // namespace recast
