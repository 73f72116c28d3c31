// What holds of every plug-in while and after it learns.
#include <thread>

#include "conformance/plug_cases.h"
#include "format/expect_error.h"
#include "recast/format/tensor_file.h"
#include "recast/method/numbers_file.h"

namespace recast {
namespace {

class Learning : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Plugin, Learning, testing::ValuesIn(plug_variants()), case_name);

TEST_P(Learning, GivesTheSameBitsForTheSameSeed) {
  const Learned first = PlugCase(GetParam()).learn();
  const Learned again = PlugCase(GetParam()).learn();  // fresh objects, fresh backbone
  EXPECT_TRUE(equal(first.model.numbers(), again.model.numbers()));
  Budget other;
  other.seed = 43;
  const auto& plugs = first.model.recipe().plugs();
  const bool seedless = learns_in_phases(first) && std::none_of(plugs.begin(), plugs.end(), [](const Plug& p) {
                          return p.roles.head && p.method->draws();
                        });
  EXPECT_EQ(equal(first.model.numbers(), PlugCase(GetParam()).learn(other).model.numbers()), seedless)
      << "two seeds give the same numbers, or others where it is said that nothing is drawn";
}

TEST_P(Learning, KeepsOnlyNumbersOfDeclaredFamilies) {
  const Learned learned = PlugCase(GetParam(), 1).learn();
  for (const auto& [plug, scopes] : learned.model.numbers().plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [name, number] : state) {
        const Family* family = learned.model.recipe().plug(plug).info->family(family_of(name));
        ASSERT_TRUE(family) << plug << "." << name;
        EXPECT_EQ(family->scope, scope) << plug << "." << name;
        EXPECT_FALSE(learned.model.recipe().covered(plug + "." + name)) << "made by a rule, and stored all the same";
        if (const auto* tensor = std::get_if<at::Tensor>(&number)) {
          EXPECT_EQ(tensor->scalar_type(), family->dtype) << plug << "." << name;
          EXPECT_FALSE(tensor->requires_grad()) << plug << "." << name;
        }
      }
}

TEST_P(Learning, SavesAndLoadsBitEqual) {
  const PlugCase run(GetParam(), 1);
  const Learned learned = run.learn();
  TensorFile file;
  pack_numbers(learned.model.numbers(), Scope::kTask, "", file);
  std::map<std::string, std::int64_t> bytes;
  for (const auto& [name, tensor] : file.tensors)
    bytes[name.substr(0, name.find('.'))] += static_cast<std::int64_t>(tensor.nbytes());
  for (const Plug& plug : learned.model.recipe().plugs()) {
    const State& task = learned.model.numbers().at(plug.alias(), Scope::kTask);
    std::int64_t scalars = 0;
    for (const auto& [name, number] : task)
      if (const auto* text = std::get_if<std::string>(&number))
        scalars += static_cast<std::int64_t>(text->size());
      else if (!std::holds_alternative<at::Tensor>(number))
        scalars += 8;
    EXPECT_EQ(plug.method->stored_bytes(task), bytes[plug.alias()] + scalars) << plug.alias();
  }
  pack_numbers(learned.model.numbers(), Scope::kShared, "shared/", file);
  const TensorFile read = decode_tensor_file(encode_tensor_file(file), "conformance");
  Numbers task_only, numbers;
  TensorFile task_part, shared_part;
  for (const auto& [name, tensor] : read.tensors)
    (name.starts_with("shared/") ? shared_part : task_part).tensors[name] = tensor;
  for (const auto& [name, text] : read.metadata)
    (name.starts_with("shared/") ? shared_part : task_part).metadata[name] = text;
  unpack_numbers(task_part, Scope::kTask, "", numbers);
  unpack_numbers(shared_part, Scope::kShared, "shared/", numbers);
  EXPECT_TRUE(equal(numbers, joined(learned.model.numbers(), learned.model.numbers())));

  const PlugCase fresh(GetParam());
  const Model loaded(fresh.backbone, fresh.start.shared_recipe(), numbers);
  expect_same(loaded.forward(run.probe(), {}).at("logits"), learned.model.forward(run.probe(), {}).at("logits"),
              "logits before and after the file");
}

/// Stops after each step in turn and goes on from the checkpoint.
void expect_resumable(const PlugCase& run) {
  const Learned whole = run.learn();
  bool finished = false;
  for (std::int64_t k = 1; !finished; ++k) {
    SCOPED_TRACE("stopped after step " + std::to_string(k));
    ASSERT_LT(k, 200) << "the run does not end";
    const TemporaryFolder folder;
    StopAfter listener(k);
    Budget budget;
    budget.checkpoint = folder / "checkpoint.safetensors";
    budget.listener = &listener;
    budget.stop = &listener.stop;
    try {
      run.learn(budget);
      finished = !listener.stop;
      if (finished) break;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::kCancelled) << error.what();
    }
    budget = {};
    budget.checkpoint = folder / "checkpoint.safetensors";
    budget.resume = true;
    const Learned resumed = run.learn(budget);
    EXPECT_TRUE(equal(resumed.model.numbers(), whole.model.numbers()));
    EXPECT_EQ(resumed.kept, whole.kept);
    EXPECT_EQ(resumed.candidates, whole.candidates);
    EXPECT_EQ(resumed.best_epoch, whole.best_epoch);
    ASSERT_EQ(resumed.history.size(), whole.history.size());
    for (std::size_t i = 0; i < whole.history.size(); ++i) {
      EXPECT_EQ(resumed.history[i].stage, whole.history[i].stage);
      EXPECT_EQ(resumed.history[i].train_loss, whole.history[i].train_loss);
      EXPECT_EQ(resumed.history[i].validation_loss, whole.history[i].validation_loss);
      EXPECT_EQ(resumed.history[i].rate, whole.history[i].rate);
    }
  }
}

TEST_P(Learning, ResumesBitEqualAtEveryStep) { expect_resumable(PlugCase(GetParam())); }

TEST_P(Learning, ResumesBitEqualWithAFittedHeadAndAugmentation) {
  PlugCase run(GetParam(), 1);
  run.recipe.fit_head = true;
  run.recipe.augmentation = "flips";
  expect_resumable(run);
}

TEST_P(Learning, NeverWritesTheBackbone) {
  const PlugCase run(GetParam());
  const State before = backbone_numbers(*run.backbone);
  run.learn();
  EXPECT_TRUE(equal(before, backbone_numbers(*run.backbone)));
}

TEST_P(Learning, LeavesTheModelThatItStartsFromAlone) {
  const PlugCase run(GetParam(), 1);
  const Learned first = run.learn();
  const Numbers before = first.model.numbers().clone();
  const Model start(run.backbone, first.model.shared_recipe(), first.model.numbers().only(Scope::kShared));
  // A head that learns each class once gets others.
  const std::int64_t known = first.model.recipe().head().info->has(Need::kNewClasses) ? 3 : 0;
  const Sources rows = toy_sources(20, 3 + known, 12);
  learn(start, toy_task("next", 3 + known), {classes_from(rows.train, known), classes_from(rows.validation, known)},
        run.recipe, {});
  EXPECT_TRUE(equal(before, first.model.numbers()));
}

TEST_P(Learning, TwoThreadsGiveWhatOneAfterTheOtherGives) {
  const PlugCase run(GetParam(), 1);  // one backbone and one set of plug-in objects for both
  Budget one, two;
  two.seed = 7;
  const Numbers first = run.learn(one).model.numbers(), second = run.learn(two).model.numbers();
  Numbers first_again, second_again;
  std::thread a([&] { first_again = run.learn(one).model.numbers(); });
  std::thread b([&] { second_again = run.learn(two).model.numbers(); });
  a.join();
  b.join();
  EXPECT_TRUE(equal(first, first_again));
  EXPECT_TRUE(equal(second, second_again));
}

TEST_P(Learning, IsolatedTasksStayBitEqual) {
  const PlugCase run(GetParam());
  if (!run.start.recipe().isolated()) return;  // claims nothing
  const Learned first = run.learn();
  const at::Tensor before = first.model.forward(run.probe(), {}).at("logits").clone();
  const Model start(run.backbone, first.model.shared_recipe(), first.model.numbers().only(Scope::kShared));
  const Learned second = learn(start, toy_task("second", 4), toy_sources(20, 4, 99), run.recipe, {});
  const Model served(run.backbone, first.model.shared_recipe(), joined(first.model.numbers(), second.model.numbers()));
  expect_same(served.forward(run.probe(), {}).at("logits"), before, "logits of the first task");
}

TEST_P(Learning, GoesOnFromATasksOwnNumbers) {
  const PlugCase run(GetParam(), 1);
  const Learned first = run.learn();
  if (first.model.recipe().head().info->has(Need::kNewClasses)) {
    const std::string message =
        error_of(Code::kInvalidArgument, [&] { learn(first.model, run.task, run.sources, run.recipe, {}); });
    EXPECT_NE(message.find(run.task.labels.front()), message.npos) << message;
    return;
  }
  const Learned further = learn(first.model, run.task, run.sources, run.recipe, {});
  EXPECT_EQ(further.model.forward(run.probe(), {}).at("logits").size(1), 3) << "columns were added to a known task";
}

TEST_P(Learning, GrowsAHeadWithoutTouchingOldColumns) {
  PlugCase run(GetParam(), 1);
  const Learned first = run.learn();
  const Plug& head = first.model.recipe().head();
  const auto rows = [&](const Learned& learned) {
    return head.roles.head->class_rows(learned.model.numbers().at(head.alias(), head.info->class_scope()));
  };
  const auto before = rows(first);
  if (!before) return;  // this head has no vector a class
  run.recipe.epochs = 0;
  Sources fresh = toy_sources(20, 5);
  fresh = {classes_from(fresh.train, 3), classes_from(fresh.validation, 3)};
  const Learned grown = learn(first.model, toy_task("toy", 5), fresh, run.recipe, {});
  const auto after = rows(grown);
  ASSERT_TRUE(after);
  ASSERT_EQ(after->size(0), 5);
  expect_same(after->narrow(0, 0, 3), *before, "old columns");
}

/// The same rows, but those of the first batch of some epoch or all of them hold NaN.
Sources poisoned(const Sources& clean, bool all) {
  const auto& toy = dynamic_cast<const ToySource&>(*clean.train);
  at::Tensor images = toy.images().clone();
  (all ? images : images.narrow(0, 0, 1)).fill_(std::numeric_limits<float>::quiet_NaN());
  return {std::make_shared<ToySource>(images, toy.labels()), clean.validation};
}

TEST_P(Learning, ANonFiniteStepChangesNothingAndIsCounted) {
  PlugCase run(GetParam(), 1);
  if (run.start.recipe().driver()) return;  // a driver's own business
  PlugCase untouched(GetParam(), 0);
  const Learned start = untouched.learn();
  if (learns_in_phases(PlugCase(GetParam(), 1).learn())) {
    const std::string message = error_of(
        Code::kDataCorruption, [&] { learn(run.start, run.task, poisoned(run.sources, false), run.recipe, {}); });
    EXPECT_NE(message.find("sample 0"), message.npos) << message;
    return;
  }
  const Learned all = learn(run.start, run.task, poisoned(run.sources, true), run.recipe, {});
  EXPECT_TRUE(equal(all.model.numbers(), start.model.numbers()));
  ASSERT_FALSE(all.history.empty());
  EXPECT_EQ(all.history.front().skipped_steps, 3);
  const Learned one = learn(run.start, run.task, poisoned(run.sources, false), run.recipe, {});
  EXPECT_EQ(one.history.front().skipped_steps, 1);
  EXPECT_FALSE(equal(one.model.numbers(), start.model.numbers())) << "the good steps were lost too";
}

void expect_learns_or_is_refused(const std::shared_ptr<const Backbone>& backbone, const std::string& one,
                                 const std::string& other) {
  SCOPED_TRACE(one + " + " + other);
  const Recipe recipe = toy_recipe(1);
  try {
    const std::vector<PlugSpec> specs = merge_plugs(recipe, {parse_plug(one), parse_plug(other)}, backbone->anatomy());
    const Model model(backbone, compose(specs, backbone->anatomy()), {});
    const Learned learned = learn(model, toy_task(), toy_sources(20), recipe, {});
    EXPECT_NE(one, other) << "the same plug-in twice must be refused";
    const Plug& head = learned.model.recipe().head();
    EXPECT_TRUE(!learned.history.empty() || head.alias() == one || head.alias() == other) << "nothing was learned";
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == Code::kInvalidArgument || error.code() == Code::kUnsupported ||
                error.code() == Code::kAlreadyExists)
        << name(error.code()) << ": " << error.what();
    if (one == other) {
      EXPECT_EQ(error.code(), Code::kAlreadyExists) << error.what();
    }
  }
}

TEST(Pairs, LearnOrFailWithAReason) {
  const std::vector<std::string> names = plug_names();
  const auto vit = toy_backbone(), cnn = toy_cnn_backbone();
  for (std::size_t i = 0; i < names.size(); ++i)
    for (std::size_t j = i; j < names.size(); ++j) {
      expect_learns_or_is_refused(vit, names[i], names[j]);
      if (acts_on_the_network(names[i]) && acts_on_the_network(names[j]))
        expect_learns_or_is_refused(cnn, names[i], names[j]);
    }
}

}  // namespace
}  // namespace recast
