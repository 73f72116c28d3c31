// `recast tasks` as users meet it: versions and their tags, bad names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recast/run/model_directory.h"
#include "run/toy_model.h"
#include "store/sample_task.h"
#include "text/run_recast.h"

namespace recast {
namespace {
using ::testing::HasSubstr;

class TasksCommand : public ::testing::Test {
 protected:
  TasksCommand() {
    write_toy_model(model());
    const auto directory = ModelDirectory::open(model(), false);
    for (std::int64_t seed = 1; seed <= 3; ++seed) {
      TaskRecord task = sample_task("pets", seed);
      task.fingerprint = directory.fingerprint();
      directory.store().commit(task);
    }
  }
  std::string model() const { return (folder_ / "model").string(); }
  Answer tasks(std::vector<std::string> words, const RunningRecast::Environment& more = {}) const {
    words.insert(words.begin(), {"tasks", model()});
    return RunningRecast(output_.path(), std::move(words), more).wait();
  }
  nlohmann::json json(std::vector<std::string> words) const {
    words.push_back("--json");
    const Answer answer = tasks(std::move(words));
    EXPECT_EQ(answer.status, 0) << answer.err;
    return answer.json();
  }

  TemporaryFolder folder_, output_;
};

TEST_F(TasksCommand, NameVersionsAndUseTheirTagsWhereverAVersionStands) {
  EXPECT_EQ(tasks({"tag", "pets:2", "best"}).out, "pets:best is version 2\n");
  EXPECT_EQ(tasks({"tag", "pets", "last"}).out, "pets:last is version 3\n");
  EXPECT_EQ(json({"tag", "pets:best", "paper"})["version"], 2);
  EXPECT_EQ(json({"show", "pets:best"})["version"], 2);
  EXPECT_TRUE(json({"diff", "pets:paper", "pets:2"})["equal"].get<bool>());
  EXPECT_FALSE(json({"diff", "pets:last", "pets:best"})["equal"].get<bool>());
  EXPECT_EQ(json({"export", "pets:best", (folder_ / "best.safetensors").string()})["version"], 2);
  EXPECT_EQ(json({"rollback", "pets", "best"})["copy_of"], 2);
  EXPECT_EQ(json({"rollback", "pets", "1"})["copy_of"], 1);
  EXPECT_EQ(json({"log", "pets"})["versions"][1]["tags"], (nlohmann::json{"best", "paper"}));
  EXPECT_THAT(tasks({"log", "pets"}).out, HasSubstr("best, paper"));
  EXPECT_EQ(json({"tag", "pets"})["tags"].size(), 3u);
  EXPECT_THAT(tasks({"tag", "pets"}).out, HasSubstr("paper"));
}

TEST_F(TasksCommand, MoveATagByForceAndRemoveIt) {
  EXPECT_EQ(tasks({"tag", "pets:1", "best"}).status, 0);
  EXPECT_THAT(tasks({"tag", "pets:2", "best"}).err, HasSubstr("names version 1 already"));
  EXPECT_EQ(json({"tag", "pets:2", "best", "--force"})["version"], 2);
  EXPECT_EQ(tasks({"tag", "pets", "best", "--remove"}).out, "tag pets:best removed\n");
  EXPECT_EQ(tasks({"tag", "pets"}).out, "no tags\n");
  EXPECT_EQ(json({"tag", "pets:1", "first"})["version"], 1);
  EXPECT_EQ(json({"tag", "pets:first"})["task"], "pets");
  EXPECT_EQ(tasks({"tag", "pets:first", "first", "--remove"}).out, "tag pets:first removed\n");
  EXPECT_THAT(tasks({"tag", "pet", "first", "--remove"}).err, HasSubstr("did you mean 'pets'?"));
  const Answer gone = tasks({"show", "pets:best"});
  EXPECT_EQ(gone.status, 4);
  EXPECT_THAT(gone.err, HasSubstr("no tag 'best'"));
  EXPECT_EQ(tasks({"tag", "pets", "--remove"}).status, 2);
}

TEST_F(TasksCommand, ShowLabelsAndPathsWithoutWhatATerminalObeys) {
  const auto directory = ModelDirectory::open(model(), false);
  TaskRecord task = sample_task("strange");
  task.fingerprint = directory.fingerprint();
  task.labels = {"\x1b[2J\nfake line", "dog"};
  for (int i = 0; i < 100; ++i) task.labels.push_back("label" + std::to_string(i));
  task.data = {{"path", "\x1b]0;title\x07\nelsewhere"}};
  task.metrics = {{"validation", {{"top1", 0.5}}}};
  directory.store().commit(task);
  const Answer shown = tasks({"show", "strange"});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_EQ(shown.out.find_first_of("\x1b\x07"), std::string::npos);
  EXPECT_THAT(shown.out, HasSubstr("\\x1b[2J\\x0afake line, dog, label0"));
  EXPECT_THAT(shown.out, HasSubstr("learned from \\x1b]0;title\\x07\\x0aelsewhere\n"));
  EXPECT_THAT(shown.out, HasSubstr(" more\n"));
  EXPECT_EQ(json({"show", "strange"})["labels"][0], "\x1b[2J\nfake line");
}

/// A task of LoRA with random numbers, as if it had been learned.
TaskRecord lora_task(const ModelDirectory& directory) {
  TaskRecord task;
  task.name = "flowers";
  task.fingerprint = directory.fingerprint();
  task.labels = {"rose", "tulip"};
  const auto recipe = compose({parse_plug("lora:rank=2")}, directory.backbone()->anatomy());
  task.plugs = recipe->specs();
  for (int block = 0; block < 4; ++block) {
    const std::string slot = "blocks." + std::to_string(block) + ".attn.qkv";
    task.numbers.at("lora", Scope::kTask).set("a@" + slot, Key(1).fold(slot).normal({2, 32}));
    task.numbers.at("lora", Scope::kTask).set("b@" + slot, Key(2).fold(slot).normal({96, 2}));
  }
  const Plug& head = recipe->head();
  head.roles.head->adopt(Key(3).normal({2, 32}), Key(4).normal({2}), task.numbers.at(head.alias(), Scope::kTask));
  return task;
}

TEST_F(TasksCommand, WriteAndReadAdapterFoldersOfPeft) {
  const auto directory = ModelDirectory::open(model(), false);
  directory.store().commit(lora_task(directory));
  const std::string adapter = (folder_ / "adapter").string();
  const Answer out = tasks({"export", "flowers", adapter, "--format", "peft", "--base-model", "some/base"});
  EXPECT_EQ(out.status, 0) << out.err;
  EXPECT_THAT(out.out, HasSubstr("4 modules as timm names them, base model some/base\n"));
  EXPECT_EQ(tasks({"export", "flowers", adapter, "--format", "peft"}).status, 2) << "it exists";
  EXPECT_EQ(json({"export", "flowers", adapter, "--format", "peft", "--force", "--names", "transformers"})["modules"],
            12);
  const Answer in = tasks({"import", adapter, "--as", "again"});
  EXPECT_EQ(in.status, 0) << in.err;
  EXPECT_THAT(in.out, HasSubstr("task again version 1: 2 classes\nan adapter of PEFT: 12 modules as transformers"));
  EXPECT_EQ(json({"show", "again"})["labels"], (nlohmann::json{"rose", "tulip"}));

  EXPECT_EQ(tasks({"export", "flowers", adapter, "--format", "onnx"}).status, 2);
  EXPECT_EQ(tasks({"export", "flowers", adapter, "--names", "timm"}).status, 2) << "of task files";
  const Answer refused = tasks({"export", "pets", (folder_ / "no").string(), "--format", "peft"});
  EXPECT_NE(refused.status, 0);
  EXPECT_EQ(tasks({"import", folder_.path().string()}).status, 4);
  EXPECT_THAT(tasks({"import", folder_.path().string()}).err, HasSubstr("adapter_config.json"));
}

TEST_F(TasksCommand, BlameTheFileForWhatAFileHolds) {
  const auto import_with = [&](const PlugSpec& plug) {
    TaskRecord task = sample_task("odd");
    task.fingerprint = ModelDirectory::open(model(), false).fingerprint();
    task.plugs = {plug};
    write_text(folder_ / "odd.safetensors", encode_task(task));
    return tasks({"import", (folder_ / "odd.safetensors").string()});
  };
  const Answer method = import_with({"recastt", "recast", {}});
  EXPECT_EQ(method.status, 3);
  EXPECT_THAT(method.err, ::testing::AllOf(HasSubstr("odd.safetensors"), HasSubstr("no plug-in 'recastt'"),
                                           HasSubstr("(unsupported)")));
  const Answer option = import_with({"recast", "recast", {{"grain", "huge"}}});
  EXPECT_EQ(option.status, 3);
  EXPECT_THAT(option.err, ::testing::AllOf(HasSubstr("odd.safetensors"), HasSubstr("grain must be")));
}

TEST_F(TasksCommand, RefuseNamesThatCannotBe) {
  for (const std::string name : {"../x", "con"}) {
    EXPECT_EQ(tasks({"tag", "pets", name}).status, 2) << name;
    EXPECT_EQ(tasks({"show", "pets:" + name}).status, 2) << name;
    EXPECT_EQ(tasks({"show", name}).status, 4) << name;
  }
  EXPECT_EQ(tasks({"tag", "pets", "7"}).status, 2);
  EXPECT_EQ(tasks({"show", "pets:1:2"}).status, 2);
  EXPECT_EQ(tasks({"show", "pets:0"}).status, 2);
  EXPECT_EQ(tasks({"show", "pets:99999999999999999999"}).status, 2);
}

}  // namespace
}  // namespace recast
