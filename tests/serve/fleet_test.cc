// Servers on one task store in PostgreSQL.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

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
  /// Seconds until `server` is ready for the model; 10: it is not.
  static double seconds_until_ready(const Service& server, const std::string& model, const std::string& version) {
    const auto start = Clock::now();
    const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    while (seconds() < 10) {
      try {
        if (server.model_ready(model, version)) return seconds();
      } catch (const Error&) {  // not yet
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return 10;
  }

  TemporaryFolder folder_;
  std::optional<StorePlace> place_;
  TaskRecord task_;
};

TEST_F(Fleet, TwoServersSeeANewTaskAndANewVersionWithinASecond) {
  const auto one = server(place_->url()), two = server(place_->url());
  commit("first", 1);
  EXPECT_LT(seconds_until_ready(*one, "first", ""), 1);
  EXPECT_LT(seconds_until_ready(*two, "first", ""), 1);
  EXPECT_EQ(answer(*one, "first"), answer(*two, "first"));
  commit("first", 2);
  EXPECT_LT(seconds_until_ready(*one, "first", "2"), 1);
  EXPECT_LT(seconds_until_ready(*two, "first", "2"), 1);
  EXPECT_EQ(answer(*one, "first").substr(0, 2), "2 ");
  EXPECT_EQ(answer(*one, "first"), answer(*two, "first"));
}

TEST_F(Fleet, AServerAnswersForWhatItKnowsWhileTheStoreIsAwayAndComesBackByItself) {
  CuttingProxy proxy(PostgresServer::shared().socket());
  commit("known", 1);
  commit("unknown", 2);
  const auto server = this->server(PostgresServer::shared().url(place_->database(), proxy.folder()));
  const std::string before = answer(*server, "known");
  proxy.refuse();
  proxy.cut_all();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  commit("known", 3);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(answer(*server, "known"), before);
  const auto start = Clock::now();
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { answer(*server, "unknown"); }), HasSubstr("out of reach"));
  EXPECT_LT(Clock::now() - start, std::chrono::milliseconds(500));
  proxy.allow();
  EXPECT_LT(seconds_until_ready(*server, "unknown", ""), 3);
  EXPECT_EQ(answer(*server, "known").substr(0, 2), "2 ") << "what was missed";
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
