// What had arrived when the end was asked for, and was not read yet.
#include <future>

#include "http_fixture.h"
#include "recast/base/log.h"

namespace recast {
namespace {

using testing::ElementsAre;

/// Holds up the thread that reports a question for health, and with it all connections where it is the only one.
class HoldUp {
 public:
  HoldUp() {
    set_log(LogLevel::kDebug, [this](const LogEvent& event) {
      if (event.name == "http.draining") draining_.set_value();
      if (event.name != "http.request" || !is_health(event)) return;
      holds_.set_value();
      let_go_.wait();
    });
  }
  ~HoldUp() { set_log(LogLevel::kOff, {}); }
  void wait() { holds_.get_future().wait(); }
  void wait_for_drain() { draining_.get_future().wait(); }
  void end() { go_.set_value(); }

 private:
  static bool is_health(const LogEvent& event) {
    return std::ranges::any_of(event.fields, [](const LogField& field) {
      const auto* path = std::get_if<std::string_view>(&field.value);
      return field.key == "path" && path && *path == "/v2/health/live";
    });
  }

  std::promise<void> holds_, draining_, go_;
  std::shared_future<void> let_go_ = go_.get_future().share();
};

TEST(HttpDrain, AnswersRequestsThatHadArrivedAndConnectionsThatHadKnocked) {
  HttpOptions options = quick_options();
  options.io_threads = 1;
  TestServer at(options);
  HttpClient kept(at.server.port());
  EXPECT_THAT(logits_of(kept.ask(infer_pair())), ElementsAre(6, 12));
  HoldUp hold_up;
  EXPECT_EQ(at.ask(get("/v2/health/live")).status, 200);
  hold_up.wait();
  kept.send(infer_pair());
  HttpClient knocks(at.server.port()), silent(at.server.port());  // the system takes them
  knocks.send(infer_pair());
  auto drained =
      std::async(std::launch::async, [&] { return at.server.drain(std::chrono::steady_clock::now() + 20s); });
  hold_up.wait_for_drain();
  hold_up.end();
  for (HttpClient* client : {&kept, &knocks}) {
    const HttpReply reply = client->read();
    ASSERT_EQ(reply.status, 200);
    EXPECT_THAT(logits_of(reply), ElementsAre(6, 12));
    EXPECT_EQ(reply.field("connection"), "close");
    client->close();
  }
  EXPECT_TRUE(silent.ends()) << "who asked for nothing is not waited for";
  EXPECT_TRUE(drained.get());
}

}  // namespace
}  // namespace recast
