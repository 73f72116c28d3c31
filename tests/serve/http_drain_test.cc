// What had arrived when the end was asked for, and was not read yet.
#include <future>

#include "http_fixture.h"
#include "recast/base/log.h"

namespace recast {
namespace {

using testing::ElementsAre;

/// Holds up the thread that reports the next request, and with it all connections where it is the only one.
class HoldUp {
 public:
  HoldUp() {
    set_log(LogLevel::kDebug, [this](const LogEvent& event) {
      if (event.name != "http.request" || held_.exchange(true)) return;
      holds_.set_value();
      let_go_.wait();
    });
  }
  ~HoldUp() { set_log(LogLevel::kOff, {}); }
  void wait() { holds_.get_future().wait(); }
  void end() { go_.set_value(); }

 private:
  std::atomic<bool> held_{false};
  std::promise<void> holds_, go_;
  std::shared_future<void> let_go_ = go_.get_future().share();
};

TEST(HttpDrain, AnswersRequestsThatHadArrivedAndConnectionsThatHadKnocked) {
  HttpOptions options = quick_options();
  options.io_threads = 1;
  TestServer at(options);
  HttpClient kept(at.server.port());
  EXPECT_THAT(logits_of(kept.ask(infer_pair())), ElementsAre(6, 12));
  std::this_thread::sleep_for(50ms);  // its own report is over
  HoldUp hold_up;
  EXPECT_EQ(at.ask(get("/v2/health/live")).status, 200);
  hold_up.wait();
  kept.send(infer_pair());
  HttpClient knocks(at.server.port()), silent(at.server.port());  // the system takes them
  knocks.send(infer_pair());
  auto drained =
      std::async(std::launch::async, [&] { return at.server.drain(std::chrono::steady_clock::now() + 20s); });
  std::this_thread::sleep_for(100ms);
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
