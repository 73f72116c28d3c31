// Servers on one task store in PostgreSQL.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/becomes_true.h"
#include "format/expect_error.h"
#include "public_error.h"
#include "serve/served_tasks.h"
#include "store/cutting_proxy.h"
#include "store/store_place.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

class Fleet : public ::testing::Test {
 protected:
  void SetUp() override {
    RECAST_NEED_POSTGRES();
    place_.emplace(StoreKind::kPostgres);
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 12);
    task_ = learned_record(folder_ / "model", folder_ / "data", "colours", {"recast"});
  }
  std::unique_ptr<Service> server(const std::string& url) const {
    EngineOptions options;
    options.directories = {folder_ / "model"};
    options.store = url;
    options.mixing = Mixing::kGrouped;  // equal bits, whoever answers
    options.workers = 1;
    return make_engine(options, nullptr);
  }
  void commit(const std::string& name, std::uint64_t seed) const {
    open_store({}, place_->url(), task_.fingerprint, false)->commit(varied(task_, name, 3, seed));
  }
  static std::string answer(Service& server, const std::string& model) {
    const InferenceResponse response = send(server, request_for(model, {image_file(1)})).get();
    return response.version + " " + output(response, "logits").bytes;
  }
  static bool answers_with(Service& server, const std::string& model, int version) {
    return answer(server, model).starts_with(std::to_string(version) + " ");
  }
  static bool out_of_reach(const Service& server) {
    try {
      server.model_ready("unknown", "");
      return false;
    } catch (const Error& error) {
      return error.code() == Code::kUnavailable;
    }
  }

  TemporaryFolder folder_;
  std::optional<StorePlace> place_;
  TaskRecord task_;
};

TEST_F(Fleet, TwoServersSeeANewTaskAtOnceAndANewVersionWithinASecond) {
  const auto one = server(place_->url()), two = server(place_->url());
  commit("first", 1);
  EXPECT_EQ(answer(*one, "first"), answer(*two, "first"));
  Clock::duration least = Clock::duration::max();  // of several: a busy machine may hold up any one
  for (int version = 2; version <= 5; ++version) {
    commit("first", static_cast<std::uint64_t>(version));
    const auto start = Clock::now();
    for (Service* server : {one.get(), two.get()})
      ASSERT_TRUE(becomes_true([&] { return answers_with(*server, "first", version); }));
    least = std::min(least, Clock::now() - start);
    EXPECT_EQ(answer(*one, "first"), answer(*two, "first"));
  }
  EXPECT_LT(least, 1s);
}

TEST_F(Fleet, AServerAnswersForWhatItKnowsWhileTheStoreIsAwayAndComesBackByItself) {
  CuttingProxy proxy(PostgresServer::shared().socket());
  commit("known", 1);
  commit("unknown", 2);
  const auto server = this->server(PostgresServer::shared().url(place_->database(), proxy.folder()));
  const std::string before = answer(*server, "known");
  proxy.shut();
  ASSERT_TRUE(becomes_true([&] { return out_of_reach(*server); }));
  commit("known", 3);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(answer(*server, "known"), before);
  const auto start = Clock::now();
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { answer(*server, "unknown"); }), HasSubstr("out of reach"));
  EXPECT_LT(Clock::now() - start, 4s) << "it does not wait for the store";
  proxy.allow();
  EXPECT_TRUE(becomes_true([&] { return !out_of_reach(*server) && answers_with(*server, "known", 2); }))
      << "what was missed";
  EXPECT_TRUE(answers_with(*server, "unknown", 1));
}

TEST(FleetError, TellsClientsNothingOfTheDatabase) {
  try {
    fail(Code::kUnavailable, "[store] postgresql://me@db.example/fleet: out of reach: connection refused");
  } catch (const Error&) {
    const PublicError told = public_error();
    EXPECT_EQ(told.code, Code::kUnavailable);
    EXPECT_THAT(told.message, AllOf(HasSubstr("log has the details"), Not(HasSubstr("db.example"))));
  }
}

}  // namespace
}  // namespace recast
