// The real program with more to do than it can, and when it is to end meanwhile.
#include "toy_directory.h"

namespace recast {
namespace {

using testing::Each;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr int kRows = 1'024;  // of a request at most
constexpr int kQueue = 4'096;
constexpr auto kPatience = 60s;
constexpr const char* kWaiting = R"(recast_kept{base="",what="waiting_rows"})";

class UnderLoad : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { toy_ = new ToyDirectory; }
  static void TearDownTestSuite() { delete std::exchange(toy_, nullptr); }

  /// Images of a few kilobytes at most that take long, at 1,500 px some 20 ms each: what waits goes on waiting while a
  /// test looks at it.
  static std::vector<std::string> images(int rows, std::int64_t side_px = 1'500) {
    return std::vector<std::string>(static_cast<std::size_t>(rows),
                                    encode_png(at::zeros({3, side_px, side_px}, at::kByte)));
  }
  static std::string many() { return ask_for("flowers", images(kRows)); }

  static inline ToyDirectory* toy_ = nullptr;
};

double rows_computed(const ToyServer& server) {
  double rows = 0;
  for (const char* way : {"made", "templates", "direct"})
    rows += server.metric(fmt::format("recast_rows_total{{way=\"{}\"}}", way));
  return rows;
}

TEST_F(UnderLoad, AFullQueueIsBoundedSaidAndNoOneCallersAlone) {
  ToyServer server(toy_->path(), {"--threads", "1"});
  const std::string request = many();
  std::vector<std::unique_ptr<HttpClient>> greedy;
  for (int i = 0; i < 3; ++i) {
    greedy.push_back(std::make_unique<HttpClient>(server.http()));
    greedy.back()->send(request);
  }
  ASSERT_TRUE(becomes_true([&] { return server.metric(kWaiting) > 2 * kRows; }));
  const HttpReply full = server.ask(request);
  EXPECT_EQ(full.status, 503) << full.body;
  EXPECT_EQ(full.field("retry-after"), "1");
  EXPECT_THAT(full.body, HasSubstr("wait already"));
  EXPECT_LE(server.metric(kWaiting), kQueue * 3 / 4) << "of one address";

  grpc::ClientContext context;
  EXPECT_EQ(server.call(message_for("flowers", images(kRows)), &context).error_code(), grpc::StatusCode::UNAVAILABLE);
  const auto pushback = context.GetServerTrailingMetadata().find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, context.GetServerTrailingMetadata().end());
  EXPECT_EQ(pushback->second, "1000");

  HttpClient other(server.http(), "127.0.0.2");
  EXPECT_EQ(other.ask(ask_for("flowers")).status, 200) << "its turn comes before those of who came first";
  EXPECT_GT(server.metric(kWaiting), 0);
}

TEST_F(UnderLoad, WhatNobodyWaitsForIsNotComputed) {
  ToyServer server(toy_->path(), {"--threads", "1"});
  HttpClient closes(server.http()), resets(server.http());
  closes.send(many());
  resets.send(many());
  grpc::ClientContext context;
  std::jthread cancelled([&] {
    EXPECT_EQ(server.call(message_for("flowers", images(kRows)), &context).error_code(), grpc::StatusCode::CANCELLED);
  });
  ASSERT_TRUE(becomes_true([&] { return server.metric(kWaiting) > 2 * kRows; }));
  closes.close();
  resets.reset();
  context.TryCancel();
  EXPECT_TRUE(becomes_true([&] { return server.metric(kWaiting) == 0; }));
  EXPECT_EQ(server.ask(ask_for("flowers")).status, 200);
  EXPECT_LT(rows_computed(server), kRows) << "of three requests";
}

// ---- the end -------------------------------------------------------------------------------------------------------

/// What became of requests: when each had been sent whole, when it was over, and how it was answered (0: not at all).
class Record {
 public:
  struct Request {
    Clock::time_point sent, over;
    int status = 0;
  };
  void add(Clock::time_point sent, int status) {
    const std::lock_guard lock(mutex_);
    requests_.push_back({sent, Clock::now(), status});
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return requests_.size();
  }
  /// The statuses of those that were sent before.
  std::vector<int> statuses(Clock::time_point before) const {
    std::vector<int> all;
    for (const Request& request : requests_)
      if (request.sent < before) all.push_back(request.status);
    return all;
  }
  /// How many were answered with that status after `told`.
  std::int64_t answered_after(Clock::time_point told, int status) const {
    return std::ranges::count_if(
        requests_, [&](const Request& request) { return request.over > told && request.status == status; });
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
};

/// Asks until there is no answer.
void ask_over_one_connection(HttpClient& client, const std::string& request, Record& record) {
  for (bool goes_on = true; goes_on;) {
    client.send(request);
    const auto sent = Clock::now();
    const HttpReply reply = client.read(false, kPatience);
    record.add(sent, reply.status);
    goes_on = reply.status != 0 && reply.field("connection") != "close";
  }
}

/// Until nobody listens any more.
void ask_over_new_connections(std::uint16_t port, const std::string& request, Record& record) {
  for (;;) try {
      HttpClient client(port);
      client.send(request);
      const auto sent = Clock::now();
      record.add(sent, client.read(false, kPatience).status);
    } catch (const Error&) {
      return;
    }
}

/// The first call, which makes the connection, is not recorded.
void call_until_it_ends(const ToyServer& server, const inference::ModelInferRequest& request, Record& record) {
  const auto stub = server.grpc_stub();
  grpc::Status status;
  for (bool first = true; status.ok(); first = false) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    inference::ModelInferResponse answer;
    const auto begun = Clock::now();
    status = stub->ModelInfer(&context, request, &answer);
    if (!first) record.add(begun, status.error_code());
  }
}

TEST_F(UnderLoad, SigtermLeavesNothingUnansweredThatWasSentBefore) {
  ToyServer server(toy_->path());
  Record http, calls;
  const std::string request = ask_for("flowers", images(2, 300));
  const inference::ModelInferRequest message = message_for("flowers", images(2, 300));
  std::vector<std::unique_ptr<HttpClient>> kept;
  std::vector<std::jthread> clients;
  for (int i = 0; i < 4; ++i) {
    kept.push_back(std::make_unique<HttpClient>(server.http()));
    clients.emplace_back([&, client = kept.back().get()] { ask_over_one_connection(*client, request, http); });
    clients.emplace_back([&] { ask_over_new_connections(server.http(), request, http); });
    clients.emplace_back([&] { call_until_it_ends(server, message, calls); });
  }
  EXPECT_TRUE(becomes_true([&] { return http.size() > 32 && calls.size() > 16; }, kPatience));
  const auto told = Clock::now();
  const Answer end = server.program().stop();
  clients.clear();
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_THAT(http.statuses(told), Each(200));
  EXPECT_GT(http.answered_after(told, 200), 0);
  // gRPC's client sends from a thread of its own: a call has certainly left a while after it was begun.
  EXPECT_THAT(calls.statuses(told - 1s), Each(int{grpc::StatusCode::OK}));
  EXPECT_GT(calls.answered_after(told, grpc::StatusCode::OK), 0);
}

TEST_F(UnderLoad, ASecondSignalEndsItAtOnce) {
  ToyServer server(toy_->path());
  HttpClient half(server.http());
  half.send(ask_for("flowers").substr(0, 200));
  ASSERT_TRUE(becomes_true([&] { return server.metric("recast_http_connections_open") == 2; })) << "and who asks";
  server.program().signal(SIGTERM);
  ASSERT_TRUE(becomes_true([&] { return server.program().err_so_far() != ""; })) << "it says that it ends";
  std::this_thread::sleep_for(300ms);
  EXPECT_FALSE(server.program().over()) << "it waits for the rest of a body, 30 s at most";
  const auto told = Clock::now();
  const Answer end = server.program().stop();
  EXPECT_EQ(end.status, 128 + SIGTERM);
  EXPECT_LT(Clock::now() - told, 15s);
}

TEST_F(UnderLoad, ItsEndWaitsNoLongerThanItIsTold) {
  ToyServer server(toy_->path(), {"--drain", "1"});
  HttpClient half(server.http());
  half.send(ask_for("flowers").substr(0, 200));
  ASSERT_TRUE(becomes_true([&] { return server.metric("recast_http_connections_open") == 2; })) << "and who asks";
  const auto told = Clock::now();
  const Answer end = server.program().stop();
  EXPECT_EQ(end.status, 1) << end.err;
  EXPECT_THAT(end.err, HasSubstr("--drain SECONDS gives more time"));
  EXPECT_GE(Clock::now() - told, 1s);
  EXPECT_LT(Clock::now() - told, 28s) << "and not the usual 30";
}

}  // namespace
}  // namespace recast
