// What the engine says of an inference, up to the line in the access log.
#include "access_lines.h"
#include "format/temporary_folder.h"
#include "http_fixture.h"
#include "recast/serve/access_log.h"
#include "served_tasks.h"

namespace recast {
namespace {

using testing::MatchesRegex;

TEST(AccessAccount, IsWhatTheEngineKnowsOfAnInference) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "access.log";
  prometheus::Registry registry;
  AccessLog log(file.string(), registry);
  write_toy_model(folder / "toy");
  write_toy_images(folder / "data", {"blue", "green", "red"}, 12);
  const TaskRecord slot = learned_record(folder / "toy", folder / "data", "slot", {"recast"});
  const ModelDirectory directory = ModelDirectory::open(folder / "toy", false);
  for (int i = 0; i < 40; ++i) directory.store().commit(varied(slot, "a-rather-long-name-" + std::to_string(i), 2, 1));
  EngineOptions options;
  options.directories = {folder / "toy"};
  options.workers = 1;
  const auto engine = make_engine(options, &registry);
  const auto account = [&](InferenceRequest request) {
    CallContext context;
    context.account = std::make_shared<InferenceAccount>();
    send(*engine, std::move(request), context).wait();
    return *context.account;
  };
  const InferenceAccount two = account(request_for("slot", {image_file(1), image_file(2)}));
  EXPECT_EQ(two.rows, 2);
  EXPECT_EQ(two.tasks, "toy@slot:1");
  EXPECT_GT(two.compute_ns, 0);
  EXPECT_GE(two.queue_ns, 0);
  EXPECT_EQ(account(request_for("slot", {"no image"})).rows, 1) << "failed, and accounted for";
  EXPECT_EQ(account(request_for("unknown", {image_file(1)})).rows, 0);

  std::vector<std::string> tasks = {"slot", "slot"}, images(42, image_file(1));
  for (int i = 0; i < 40; ++i) tasks.push_back("a-rather-long-name-" + std::to_string(i));
  const InferenceAccount many = account(mixed_request(tasks, images));
  EXPECT_EQ(many.rows, 42);
  EXPECT_LE(many.tasks.size(), 200u + std::string_view(",+30").size());
  EXPECT_THAT(many.tasks, MatchesRegex("toy@slot:1,toy@a-rather-long-name-0:1,.*,\\+[0-9]+"));

  HttpServer http(*engine, quick_options(), registry, nullptr, &log);
  http.start();
  const std::string body = R"({"inputs":[{"name":"image","shape":[1,3,16,16],"datatype":"FP32","data":[)";
  std::string zeros = "0";
  for (int i = 1; i < 768; ++i) zeros += ",0";
  ASSERT_EQ(ask(http.port(), post("/v2/models/slot/infer", body + zeros + "]}]}")).status, 200);
  const nlohmann::json told = wait_for_lines(file, 1).front();
  EXPECT_EQ(told.value("tasks", ""), "toy@slot:1");
  EXPECT_EQ(told.value("rows", 0), 1);
  EXPECT_GT(told.value("compute_ms", 0.0), 0);
  EXPECT_GE(told.value("ms", 0.0), told.value("compute_ms", 1e9));
}

}  // namespace
}  // namespace recast
