// What comes in while the server is busy taking connections.
#include <future>
#include <semaphore>

#include "http_fixture.h"

namespace recast {
namespace {

/// live() is asked on the thread that moves bytes: each time it waits to be let go.
class HeldUp final : public LinearService {
 public:
  HeldUp() : LinearService({{"pair", 2}}) {}

  bool live() const override {
    asked_.release();
    go_.acquire();
    return true;
  }
  void wait_until_asked() { asked_.acquire(); }
  void let_go() { go_.release(); }

 private:
  mutable std::counting_semaphore<> asked_{0}, go_{0};
};

TEST(HttpAccept, AnswersWhoIsBeingTakenWhenTheEndIsAskedFor) {
  HttpOptions options = quick_options();
  options.io_threads = 1;
  prometheus::Registry registry;
  HeldUp service;
  HttpServer server(service, options, registry);
  server.start();
  const std::string live = get("/v2/health/live");
  HttpClient first(server.port()), second(server.port());
  std::this_thread::sleep_for(100ms);  // both are taken
  first.send(live);
  service.wait_until_asked();
  // While the only thread is held up, both of these become ready; it learns of them at once, in this order.
  second.send(live);
  HttpClient knocks(server.port());
  knocks.send(infer_pair());
  service.let_go();
  service.wait_until_asked();
  auto drained = std::async(std::launch::async, [&] { return server.drain(std::chrono::steady_clock::now() + 20s); });
  std::this_thread::sleep_for(100ms);  // the end stands in line, behind the taking and before what comes of it
  service.let_go();
  EXPECT_EQ(first.read().status, 200);
  EXPECT_EQ(second.read().status, 200);
  EXPECT_EQ(knocks.read().status, 200);
  for (HttpClient* client : {&first, &second, &knocks}) client->close();
  EXPECT_TRUE(drained.get());
}

TEST(HttpAccept, TakesNoRoomFromWhoHasJustAsked) {
  HttpOptions options = quick_options();
  options.io_threads = 1;
  options.connections = 2;
  prometheus::Registry registry;
  HeldUp service;
  HttpServer server(service, options, registry);
  server.start();
  HttpClient holds(server.port()), idle(server.port(), "127.0.0.2");
  std::this_thread::sleep_for(1100ms);
  holds.send(get("/v2/health/live"));
  service.wait_until_asked();
  // While the only thread is held up somebody comes, for whom `idle` is to make room, and then that one asks.
  HttpClient knocks(server.port(), "127.0.0.3");
  idle.send(infer_pair());
  service.let_go();
  EXPECT_EQ(idle.read().status, 200);
  EXPECT_EQ(holds.read().status, 200);
  EXPECT_EQ(knocks.ask(infer_pair()).status, 200);
}

}  // namespace
}  // namespace recast
