#include "recast/lab/lab_file.h"

#include <algorithm>

#include "lab/lab_case.h"

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

/// The files that come with the project.
TEST(LabFiles, OfTheProjectCanBeRead) {
  const std::filesystem::path folder = std::filesystem::path(RECAST_SOURCE_DIR) / "lab";
  const LabFile here = read_lab_file(folder / "recast-here.yaml"), paper = read_lab_file(folder / "recast-paper.yaml");
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
}

}  // namespace
}  // namespace recast
