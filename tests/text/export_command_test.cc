// `recast export`, and the journals of `recast learn`, as users meet them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recast/format/tensor_file.h"
#include "run/toy_model.h"
#include "text/run_recast.h"

namespace recast {
namespace {
using ::testing::HasSubstr;
using ::testing::Not;

class ExportCommand : public ::testing::Test {
 protected:
  ExportCommand() {
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "red"}, 8);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Answer recast(std::vector<std::string> words, const RunningRecast::Environment& more = {}) const {
    return RunningRecast(output_.path(), std::move(words), more).wait();
  }
  Answer learn(std::vector<std::string> more, const RunningRecast::Environment& environment = {}) const {
    std::vector<std::string> words = {"learn",      path("model"), "--task", "colours",   "--data",
                                      path("data"), "--epochs",    "1",      "--no-test", "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    return recast(std::move(words), environment);
  }

  TemporaryFolder folder_, output_;
};

TEST_F(ExportCommand, WritesAGraphAndTheInputsOfItsTasks) {
  ASSERT_EQ(learn({"--plug", "recast:grain=head"}).status, 0);
  const Answer graph = recast({"export", path("model"), "--onnx", path("model.onnx")});
  ASSERT_EQ(graph.status, 0) << graph.err;
  EXPECT_THAT(graph.out, AllOf(HasSubstr("[batch, 3, 16, 16]"), HasSubstr("coefficients"),
                               HasSubstr("tasks that are inputs of it: colours")));
  const Answer inputs =
      recast({"export", path("model"), "--onnx-inputs", path("colours.safetensors"), "--task", "colours", "--json"});
  ASSERT_EQ(inputs.status, 0) << inputs.err;
  const TensorFile file = read_tensor_file(path("colours.safetensors"));
  EXPECT_EQ(file.tensors.at("coefficients").numel(), inputs.json()["coefficients"].get<std::int64_t>());
  EXPECT_EQ(file.tensors.at("head_weight").sizes(), (std::vector<std::int64_t>{2, 32}));
  EXPECT_EQ(file.metadata.at("labels"), R"(["blue","red"])");
  EXPECT_EQ(recast({"export", path("model"), "--onnx", path("model.onnx")}).status, 2);
  EXPECT_EQ(recast({"export", path("model"), "--onnx", path("model.onnx"), "--task", "colours", "--force"}).status, 0);
}

TEST_F(ExportCommand, SaysWhatItNeeds) {
  EXPECT_THAT(recast({"export", path("model")}).err, HasSubstr("--onnx-inputs FILE --task NAME"));
  EXPECT_THAT(recast({"export", path("model"), "--onnx-inputs", path("x")}).err, HasSubstr("needs --task NAME"));
  const Answer none = recast({"export", path("model"), "--onnx", path("x.onnx")});
  EXPECT_EQ(none.status, 4);
  EXPECT_THAT(none.err, HasSubstr("learn one first"));
}

TEST_F(ExportCommand, LearnWritesToTheStoreThatMlflowsVariableNames) {
  const Answer answer = learn({"--tensorboard", "--mlflow"},
                              {{"MLFLOW_TRACKING_URI", "file:" + path("store")}, {"MLFLOW_EXPERIMENT_NAME", "pets"}});
  ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_TRUE(std::filesystem::exists(path("model") + "/runs/colours/v1/events.out.tfevents.recast"));
  EXPECT_TRUE(std::filesystem::exists(path("store") + "/0/meta.yaml"));
  EXPECT_THAT(text_of(path("model") + "/runs/colours/v1/config.yaml"),
              AllOf(HasSubstr("tensorboard: true"), HasSubstr("mlflow: true")));
}

TEST_F(ExportCommand, LearnRefusesAServerBeforeItReadsAnImage) {
  const Answer answer = learn({"--mlflow"}, {{"MLFLOW_TRACKING_URI", "https://anna:secret@logs"}});
  EXPECT_NE(answer.status, 0);
  EXPECT_THAT(answer.err, AllOf(HasSubstr("'https'"), Not(HasSubstr("secret"))));
}

}  // namespace
}  // namespace recast
