#include "recast/lab/lab_file.h"

#include <algorithm>
#include <map>
#include <set>

#include "lab/lab_case.h"
#include "recast/method/compose.h"

namespace recast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LabFileTest : public LabCase {
 protected:
  LabFile read(std::vector<std::string> overrides = {}) const { return read_lab_file(file(), overrides); }
  std::string refused(const std::string& more, Code code = Code::kInvalidArgument) const {
    write_lab(lab(more));
    return error_of(code, [&] { read(); });
  }
  std::string refused_override(const std::string& text) const {
    return error_of(Code::kInvalidArgument, [&] { read({text}); });
  }
  static std::vector<std::string> ids(const std::vector<LabCell>& cells) {
    std::vector<std::string> out;
    for (const LabCell& cell : cells) out.push_back(cell.id());
    return out;
  }
};

TEST_F(LabFileTest, GivesCellsSeedBySeedWithTheBaselineFirst) {
  write_lab(lab("only: \"colours/*\""));
  EXPECT_THAT(ids(read().cells), ElementsAre("colours/head/5", "colours/fine/5", "colours/head/6", "colours/fine/6"));
  write_lab(lab("skip: [pair/head, colours/fine/6]"));
  EXPECT_THAT(ids(read().cells),
              ElementsAre("colours/head/5", "colours/fine/5", "pair/fine/5", "colours/head/6", "pair/fine/6"));
}

TEST_F(LabFileTest, TakesTheKeysOfLearnAndPassesDefaultsOn) {
  write_lab(
      lab("defaults: {limit-train: 4, split-seed: seed, image-size: 8, lr: 0.5, epochs: 7, amp: fp32,\n"
          "           test-amp: bf16, keep-task: false}\n"));
  const LabFile lab = read({"recipes.head.image-size=16", "tasks.pair.limit-train=2"});
  EXPECT_EQ(lab.task("colours").images.limit_train, 4);
  EXPECT_EQ(lab.task("pair").images.limit_train, 2);
  EXPECT_EQ(lab.task("pair").images.classes, (std::vector<std::string>{"blue", "red"}));
  EXPECT_TRUE(lab.task("pair").split_by_seed);
  EXPECT_EQ(lab.task("pair").image_size, 8);
  const LabRecipe& fine = lab.recipe("fine");
  EXPECT_EQ(fine.learn.epochs, 2) << "its own goes before";
  EXPECT_EQ(lab.recipe("head").learn.epochs, 0);
  EXPECT_EQ(fine.learn.lr, 0.5);
  EXPECT_EQ(fine.learn.bf16, false);
  EXPECT_TRUE(fine.test_bf16);
  EXPECT_FALSE(fine.keep_task);
  EXPECT_EQ(fine.learn.image_size, std::nullopt) << "that of the task";
  EXPECT_EQ(lab.recipe("head").learn.image_size, 16);
  EXPECT_EQ(fine.baseline, "head");
  EXPECT_EQ(lab.recipe("head").baseline, "");
  EXPECT_EQ(fine.model, "model");
}

TEST_F(LabFileTest, OverridesReplaceWhatIsThere) {
  EXPECT_EQ(read({"seeds=42"}).seeds, std::vector<std::uint64_t>{42});
  EXPECT_EQ(read({"seeds=[1, 2, 3]"}).seeds.size(), 3u);
  EXPECT_EQ(read({"seeds=1,2"}).seeds.size(), 2u);
  EXPECT_EQ(read({"recipes.head.plug=[linear-probe, \"recast:grain=head\"]"}).recipe("head").learn.plugs.size(), 2u);
  EXPECT_EQ(read_lab_file(file(), {}, folder_ / "elsewhere").out, folder_ / "elsewhere");
  const LabFile changed = read({"recipes.fine.epochs=9", "defaults.lr=1e-3"});
  write_text(folder_ / "again.yaml", settings_yaml(changed.tree));
  const LabFile again = read_lab_file(folder_ / "again.yaml");
  EXPECT_EQ(again.tree, changed.tree);
  EXPECT_EQ(again.recipe("fine").learn.epochs, 9);
  EXPECT_THAT(refused_override("recipes.fien.epochs=9"), HasSubstr("did you mean 'fine'?"));
  EXPECT_THAT(refused_override("recipes.fine.epoch=9"), HasSubstr("did you mean 'epochs'?"));
  EXPECT_THAT(refused_override("seed=1"), HasSubstr("did you mean 'seeds'?"));
  EXPECT_THAT(refused_override("seeds"), HasSubstr("KEY.KEY=VALUE"));
  EXPECT_THAT(refused_override("title.size=1"), HasSubstr("nothing lies below 'title'"));
}

TEST_F(LabFileTest, UnknownKeysAreErrorsWithTheNearest) {
  EXPECT_THAT(refused("baselin: head"), HasSubstr("did you mean 'baseline'?"));
  EXPECT_THAT(refused("defaults: {limit_train: 3}"), HasSubstr("did you mean 'limit-train'?"));
  EXPECT_THAT(refused("defaults: {plug: lora}"), HasSubstr("unknown key 'plug'"));
  write_lab("model: m\ntasks: {a: {data: d, superclas: people}}\nrecipes: {r: }\nseeds: 1\nout: o\n");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { read(); }),
              ::testing::AllOf(HasSubstr("tasks.a"), HasSubstr("did you mean 'superclass'?")));
}

TEST_F(LabFileTest, ValuesMustFit) {
  const auto refused_text = [&](const std::string& text) {
    write_lab(text);
    return error_of(Code::kInvalidArgument, [&] { read(); });
  };
  const std::string end = "\nseeds: [1]\nout: o\n";
  EXPECT_THAT(refused_text("model: m\ntasks: {a: {data: d}}\nrecipes: {r: {epochs: many}}" + end),
              HasSubstr("recipes.r.epochs must be a whole number, got 'many'"));
  EXPECT_THAT(refused_text("model: m\ntasks: {a: {data: d}}\nrecipes: {r: {epochs: -1}}" + end),
              HasSubstr("recipes.r"));
  EXPECT_THAT(refused_text("model: m\ntasks: {a: {data: d}}\nrecipes: {r: {recipe: fsat}}" + end),
              HasSubstr("did you mean 'fast'?"));
  EXPECT_THAT(refused_text("model: m\ntasks: {a: {}}\nrecipes: {r: }" + end), HasSubstr("does not say its data"));
  EXPECT_THAT(refused_text("model: m\ntasks: {a/b: {data: d}}\nrecipes: {r: }" + end), HasSubstr("'a/b'"));
  EXPECT_THAT(refused_text("model: m\ntasks: {a: {data: d}, A: {data: d}}\nrecipes: {r: }" + end),
              HasSubstr("upper and lower case"));
  EXPECT_THAT(refused_text("model: m\ntasks: {a: {data: d}}\nrecipes: {r: }\nout: o\n"), HasSubstr("no seeds"));
  EXPECT_THAT(refused_text("model: m\ntasks: {a: {data: d}}\nrecipes: {r: }\nseeds: [1]\n"), HasSubstr("out: FOLDER"));
  EXPECT_THAT(refused_text("model: m\nrecipes: {r: }" + end), HasSubstr("has no tasks"));
  EXPECT_THAT(refused_text("models: {x: p, y: q}\ntasks: {a: {data: d}}\nrecipes: {r: }" + end),
              HasSubstr("one of x, y"));
  EXPECT_THAT(refused_text("models: {x: p, y: q}\ntasks: {a: {data: d}}\nrecipes: {r: {model: z}}" + end),
              HasSubstr("'z'"));
  EXPECT_THAT(
      refused_text("models: {x: {mimic: y}, y: {mimic: x}}\ntasks: {a: {data: d}}\nrecipes: {r: {model: x}}" + end),
      HasSubstr("mimicry of itself"));
  EXPECT_THAT(refused_text("models: {x: {import: c}}\ntasks: {a: {data: d}}\nrecipes: {r: }" + end), HasSubstr("arch"));
  EXPECT_THAT(refused_text("models: {x: {directory: c, groups: 2}}\ntasks: {a: {data: d}}\nrecipes: {r: }" + end),
              HasSubstr("'groups' belongs to mimic"));
  EXPECT_THAT(refused_text("model: m\ntasks: {a: {data: d}}\nrecipes: {r: {baseline: s}}" + end), HasSubstr("'s'"));
  write_lab("model: m\ntasks: {a: {data: d}}\nrecipes: {r: {plug: recats}}" + end);
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { read(); }), HasSubstr("did you mean 'recast'?"));
}

TEST_F(LabFileTest, PatternsChooseCells) {
  const LabFile lab = read();
  EXPECT_EQ(choose_cells(lab, {}).size(), 8u);
  EXPECT_THAT(ids(choose_cells(lab, {"pair/fine/6", "colours/*/5"})),
              ElementsAre("colours/head/5", "colours/fine/5", "pair/fine/6"));
  EXPECT_EQ(choose_cells(lab, {"*/head"}).size(), 4u);
  EXPECT_EQ(choose_cells(lab, {"p?ir"}).size(), 4u);
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { choose_cells(lab, {"colors"}); }),
              HasSubstr("did you mean 'colours'?"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { choose_cells(lab, {"pair/fine/7"}); }), HasSubstr("--list"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { choose_cells(lab, {"a/b/c/d"}); }), HasSubstr("TASK/RECIPE/SEED"));
}

TEST_F(LabFileTest, ATaskMaySayThatItsClassesComeStepByStep) {
  write_lab(stream_lab());
  LabFile lab = read();
  EXPECT_FALSE(lab.task("colours").stream);
  ASSERT_TRUE(lab.task("four").stream);
  EXPECT_EQ(lab.task("four").stream->options.increment, 2);
  EXPECT_EQ(lab.task("four").stream->options.class_seed, 1993);
  EXPECT_TRUE(lab.task("four").stream->classes_by_seed);
  EXPECT_EQ(lab.task("four").asked.at("scenario"), std::vector<std::string>{"class-il"});
  write_lab(
      "model: m\ntasks: {a: {data: d, base: 3}, b: {data: d, scenario: task}}\nrecipes: {r: {test-amp: bf16}}\n"
      "seeds: 1\nout: o\ndefaults: {scenario: class-il, increment: 1, base: 2, stream: mixed, share: 0.25,\n"
      "           unlabelled: all, no-forward-transfer: true, class-seed: 7}\n");
  lab = read();
  EXPECT_FALSE(lab.task("b").stream) << "what defaults say of streams is not for it";
  EXPECT_TRUE(lab.task("b").asked.empty()) << "said or not, it is the same result";
  const LabStream& stream = lab.task("a").stream.value();
  EXPECT_EQ(stream.options.kind, StreamKind::kMixed);
  EXPECT_EQ(stream.options.share, 0.25);
  EXPECT_EQ(stream.options.base, 3) << "its own goes before";
  EXPECT_EQ(stream.options.class_seed, 7);
  EXPECT_FALSE(stream.classes_by_seed);
  EXPECT_EQ(stream.unlabelled, "all");
  EXPECT_FALSE(stream.forward_transfer);
}

TEST_F(LabFileTest, KeysOfTheOtherScenarioAreErrors) {
  const auto refused_tasks = [&](const std::string& tasks, const std::string& more = "") {
    write_lab("model: m\ntasks: {" + tasks + "}\nrecipes: {r: {test-amp: bf16}}\nseeds: [1, 5000000000]\nout: o\n" +
              more);
    return error_of(Code::kInvalidArgument, [&] { read(); });
  };
  EXPECT_THAT(refused_tasks("a: {data: d, increment: 2}"),
              HasSubstr("tasks.a: 'increment' belongs to tasks of scenario: class-il"));
  EXPECT_THAT(refused_tasks("a: {data: d, scenario: task, share: 1}"), HasSubstr("'share' belongs to"));
  EXPECT_THAT(refused_tasks("a: {data: d}", "defaults: {class-seed: 3}"),
              HasSubstr("defaults: 'class-seed' belongs to tasks of scenario: class-il"));
  EXPECT_THAT(refused_tasks("a: {data: d, scenario: class-il, increment: 2}"),
              HasSubstr("recipes.r: 'test-amp' belongs to tasks of scenario: task"));
  EXPECT_THAT(refused_tasks("a: {data: d, scenario: class-li}"),
              HasSubstr("tasks.a.scenario must be task or class-il, got 'class-li'"));
  const auto refused_stream = [&](const std::string& keys) {
    return refused_tasks("a: {data: d, scenario: class-il, " + keys + "}");
  };
  EXPECT_THAT(refused_stream("base: 2"), HasSubstr("tasks.a does not say how many classes each step adds: increment"));
  EXPECT_THAT(refused_stream("increment: 2, class_seed: 1"), HasSubstr("did you mean 'class-seed'?"));
  EXPECT_THAT(refused_stream("increment: 2, keep: all"), HasSubstr("unknown key 'keep'"));
  EXPECT_THAT(refused_stream("increment: -2"), HasSubstr("tasks.a: [stream] --increment must be at least 1"));
  EXPECT_THAT(refused_stream("increment: 2, share: 1.5"), HasSubstr("--share must lie in 0..1"));
  EXPECT_THAT(refused_stream("increment: 2, class-seed: 4294967296"), HasSubstr("--class-seed must lie in"));
  EXPECT_THAT(refused_stream("increment: 2, class-seed: seed"), HasSubstr("--class-seed must lie in"))
      << "one of the seeds is no seed of an order";
  EXPECT_THAT(refused_stream("increment: 2, stream: mixd"), HasSubstr("tasks.a.stream must be disjoint, mixed or"));
  EXPECT_THAT(refused_stream("increment: 2, unlabelled: some"), HasSubstr("tasks.a.unlabelled must be base or all"));
  EXPECT_THAT(refused_tasks("a: {data: d}", "defaults: {device: cpu}"), HasSubstr("unknown key 'device'"))
      << "of the whole file";
}

TEST(LabFiles, OfTheProjectCanBeRead) {
  const std::filesystem::path folder = std::filesystem::path(RECAST_SOURCE_DIR) / "lab";
  const LabFile here = read_lab_file(folder / "recast-here.yaml"), paper = read_lab_file(folder / "recast-paper.yaml"),
                classes = read_lab_file(folder / "class-il-here.yaml");
  EXPECT_GE(here.tasks.size(), 6u);
  EXPECT_EQ(here.seeds, (std::vector<std::uint64_t>{42, 1998, 3142592}));
  EXPECT_EQ(paper.seeds, here.seeds);
  EXPECT_EQ(paper.tasks.size(), 8u);
  for (const LabTask& task : paper.tasks) EXPECT_FALSE(task.layout.empty()) << task.name;
  for (const LabRecipe& recipe : paper.recipes) EXPECT_EQ(recipe.learn.recipe, "paper") << recipe.name;
  for (const LabTask& task : here.tasks) {
    EXPECT_GE(task.image_size.value_or(0), 84) << task.name;
    EXPECT_EQ(task.images.limit_train, 100) << task.name;
  }
  for (const LabTask& task : classes.tasks) EXPECT_TRUE(task.stream) << task.name;
  std::set<std::string> heads;
  for (const LabRecipe& recipe : classes.recipes) heads.insert(parse_plug(recipe.learn.plugs.at(0)).method);
  EXPECT_THAT(heads, ::testing::IsSupersetOf({"g-acil", "fetril", "dkvb", "ncm"}));
}

/// Tasks x recipes x seeds; a file that is not counted here is not checked anywhere.
TEST(LabFiles, OfTheProjectPlanTheirCells) {
  const std::map<std::string, std::size_t> cells = {
      {"recast-here.yaml", 6 * 19 * 3}, {"recast-paper.yaml", 8 * 18 * 3}, {"class-il-here.yaml", 2 * 7 * 3}};
  std::map<std::string, std::size_t> found;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(RECAST_SOURCE_DIR) / "lab")) {
    const LabFile lab = read_lab_file(entry.path());
    found[entry.path().filename().string()] = lab.cells.size();
    std::set<std::string> ids;
    for (const LabCell& cell : lab.cells) ids.insert(cell.id());
    EXPECT_EQ(ids.size(), lab.cells.size()) << entry.path();
    for (const LabRecipe& recipe : lab.recipes)
      for (const std::string& plug : recipe.learn.plugs) EXPECT_NO_THROW(parse_plug(plug)) << recipe.name;
  }
  EXPECT_EQ(found, cells);
}

}  // namespace
}  // namespace recast
