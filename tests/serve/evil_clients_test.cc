// Clients that mean no good against the real program, and good ones beside them. Evil comes from 127.0.0.2.
#include <sys/resource.h>

#include "base/sanitizer.h"
#include "http2_frames.h"
#include "toy_directory.h"

namespace recast {
namespace {

constexpr const char* kEvil = "127.0.0.2";
constexpr std::int64_t kMiB = 1 << 20;

class EvilClients : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    toy_ = new ToyDirectory;
    server_ = new ToyServer(toy_->path());
  }
  static void TearDownTestSuite() {
    if (server_) {
      EXPECT_EQ(server_->program().stop().status, 0);
    }
    delete std::exchange(server_, nullptr);
    delete std::exchange(toy_, nullptr);
  }
  void SetUp() override {
    ASSERT_TRUE(server_) << "the server did not start";
    expect_served(1);  // and everything that the first request makes is there
    memory_before_ = server_->memory_bytes();
  }

  /// By new connections, over HTTP and gRPC.
  static void expect_served(int times) {
    for (int i = 0; i < times; ++i) {
      const HttpReply reply = server_->ask(ask_for("flowers"));
      EXPECT_EQ(reply.status, 200) << reply.body;
      grpc::ClientContext context;
      context.set_wait_for_ready(true);  // a handshake may be late on a busy machine; clients try again
      const grpc::Status status = server_->call(message_for("flowers", {image_file(1)}), &context);
      EXPECT_TRUE(status.ok()) << status.error_message();
    }
  }
  /// More than before the test. A sanitizer keeps what is freed, and adds to what is not.
  void expect_memory_below(std::int64_t bytes) const {
    if (!kSanitized) {
      EXPECT_LT(server_->memory_bytes() - memory_before_, bytes);
    }
  }
  static std::uint16_t grpc_port() { return static_cast<std::uint16_t>(server_->program().grpc_port()); }

  static inline ToyDirectory* toy_ = nullptr;
  static inline ToyServer* server_ = nullptr;
  std::int64_t memory_before_ = 0;
};

/// So many connections, each with these bytes sent.
class EvilConnections {
 public:
  EvilConnections(std::uint16_t port, int count, const std::string& bytes) {
    for (int i = 0; i < count; ++i) {
      clients_.push_back(std::make_unique<HttpClient>(port, kEvil));
      clients_.back()->send(bytes);
    }
  }
  /// One byte more by each that is still let in.
  void drip() {
    for (const auto& client : clients_) client->send("x");
  }
  HttpReply answer_to_last() const { return clients_.back()->read(); }

 private:
  std::vector<std::unique_ptr<HttpClient>> clients_;
};

/// Lets this process open so many files. False: the system does not.
bool may_open(rlim_t files) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < files) return false;
  limit.rlim_cur = std::max(limit.rlim_cur, files);
  return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

TEST_F(EvilClients, TenThousandIdleConnectionsLeaveRoomAndMemoryForOthers) {
  constexpr int kIdle = 10'000;
  // One here and one in the server, which raises its own limit up to the same bound.
  if (!may_open(kIdle + 500)) GTEST_SKIP() << "the system allows no " << kIdle + 500 << " open files in a process";
  HttpClient kept(server_->http());
  EXPECT_EQ(kept.ask(ask_for("flowers")).status, 200);
  {
    const EvilConnections idle(server_->http(), kIdle, "");
    expect_served(20);
    EXPECT_EQ(kept.ask(ask_for("flowers")).status, 200) << "who has one connection does not give it up for those";
    expect_memory_below(64 * kMiB);
  }
  {
    const EvilConnections idle(grpc_port(), kIdle, kHttp2Preface);
    expect_served(20);
    expect_memory_below(kIdle * 40 * 1024);
  }
  expect_served(1);
}

TEST_F(EvilClients, WhoSendsSlowlyFromAllConnectionsKeepsNobodyOut) {
  const std::string request = ask_for("flowers");
  for (const std::string& part :
       {std::string("GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: "), request.substr(0, request.size() - 100)}) {
    ASSERT_TRUE(becomes_true([] { return server_->metric("recast_http_connections_open") <= 1; })) << "who asks";
    EvilConnections slow(server_->http(), 1'100, part);  // three quarters of 1,024 may be open
    for (int i = 0; i < 10; ++i) {
      slow.drip();
      expect_served(2);
    }
    const HttpReply refused = slow.answer_to_last();
    EXPECT_EQ(refused.status, 503) << "who came last found no room";
    EXPECT_EQ(refused.field("retry-after"), "1");
  }
  const std::string call = kHttp2Preface + http2_frame(Http2Frame::kHeaders, kEndHeaders, 1,
                                                       grpc_headers("/inference.GRPCInferenceService/ModelInfer"));
  for (const std::string& part : {kHttp2Preface.substr(0, 20), call.substr(0, 60), call}) {
    EvilConnections slow(grpc_port(), 300, part);
    expect_served(5);
  }
}

TEST_F(EvilClients, WhoEndsConnectionsAndCallsByTheThousandDoesNotStopTheServer) {
  const std::string request = ask_for("flowers");
  for (std::size_t i = 0; i < 3'000; ++i) {
    HttpClient client(i % 3 == 0 ? grpc_port() : server_->http(), kEvil);
    client.send(i % 3 == 0 ? kHttp2Preface : request.substr(0, i % 2 == 0 ? request.size() : i % request.size()));
    client.reset();
    if (i % 300 == 0) expect_served(1);
  }
  // Rapid reset (CVE-2023-44487): calls that are ended as soon as they begin.
  HttpClient rapid(grpc_port(), kEvil);
  rapid.send(kHttp2Preface);
  bool taken = true;
  for (std::uint32_t stream = 1; stream < 20'000 && taken; stream += 2) {
    taken = rapid.send(http2_frame(Http2Frame::kHeaders, kEndHeaders, stream,
                                   grpc_headers("/inference.GRPCInferenceService/ModelInfer")) +
                       http2_frame(Http2Frame::kReset, 0, stream, std::string("\0\0\0\x8", 4)));
    if (stream % 200 == 1) rapid.read_until("", 1ms);
  }
  expect_served(5);
  EXPECT_TRUE(becomes_true([] { return server_->metric("recast_http_connections_open") <= 1; })) << "the one that asks";
  EXPECT_TRUE(becomes_true([] { return server_->metric("recast_grpc_calls_open") == 0; }));
  expect_memory_below(256 * kMiB);
}

/// A PNG that says so in its header, whose checksum is right.
std::string enormous_image() {
  return image_file(1).replace(16, 17, std::string("\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0\x39\x67\x4e\x07", 17));
}

// ---- bodies --------------------------------------------------------------------------------------------------------

TEST_F(EvilClients, BodiesThatAreTooLargeLieOrAreCompressedAreRefused) {
  const std::string infer = "POST /v2/models/flowers/infer HTTP/1.1\r\nHost: localhost\r\n";
  const std::string good = ask_for("flowers"), body = good.substr(good.find("\r\n\r\n") + 4);
  const auto with = [&](const std::string& fields, const std::string& bytes) {
    return infer + fields + "\r\n" + bytes;
  };
  const std::string length = fmt::format("Content-Length: {}\r\n", body.size());
  struct Case {
    const char* what;
    int status;
    std::string request;
  };
  const Case cases[] = {
      {"announces more than it may", 413, with("Content-Length: 67108865\r\n", "")},
      {"announces more than 64 bits hold", 400, with("Content-Length: 99999999999999999999\r\n", "")},
      {"announces less than nothing", 400, with("Content-Length: -1\r\n", body)},
      {"announces two lengths", 400, with(length + "Content-Length: 3\r\n", body)},
      {"announces a length and chunks", 400, with(length + "Transfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"has a chunk of less than nothing", 400, with("Transfer-Encoding: chunked\r\n", "-2\r\nab\r\n0\r\n\r\n")},
      {"has a chunk of 16 EiB", 400, with("Transfer-Encoding: chunked\r\n", "ffffffffffffffff1\r\nab\r\n")},
      {"says that more of it is JSON than there is", 400,
       with("Inference-Header-Content-Length: 99999\r\n" + length, body)},
      {"announces half of what it sends", 400, with(fmt::format("Content-Length: {}\r\n", body.size() / 2), body)},
      {"is compressed by gzip", 415, with("Content-Encoding: gzip\r\n" + length, body)},
      {"is compressed by deflate", 415, with("Content-Encoding: deflate\r\n" + length, body)},
      {"is compressed by br", 415, with("Content-Encoding: br\r\n" + length, body)},
      {"is compressed on the way", 501, with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")},
      {"has a row that is no image", 415, ask_for("flowers", {"not an image"})},
      {"has a damaged image", 400, ask_for("flowers", {image_file(1).substr(0, 100)})},
      {"has an image of 65,535 x 65,535 pixels", 413, ask_for("flowers", {enormous_image()})},
  };
  for (const Case& one : cases) EXPECT_EQ(server_->ask(one.request).status, one.status) << one.what;

  HttpClient cut(server_->http());
  cut.send(good.substr(0, good.size() - 1));
  cut.finish_sending();
  EXPECT_EQ(cut.read().status, 400) << "announces more than it sends";

  grpc::ClientContext compressed;
  compressed.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  EXPECT_EQ(server_->call(message_for("flowers", {std::string(1 << 20, 'x')}), &compressed).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  inference::ModelInferRequest short_of = message_for("flowers", {image_file(1)});
  short_of.mutable_raw_input_contents(0)->pop_back();
  EXPECT_EQ(server_->call(short_of).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  // A message of 1 GiB, by its own account: what of it never comes is not waited for by anybody else.
  HttpClient liar(grpc_port(), kEvil);
  liar.send(kHttp2Preface +
            http2_frame(Http2Frame::kHeaders, kEndHeaders, 1,
                        grpc_headers("/inference.GRPCInferenceService/ModelInfer") + http2_header("te", "trailers")) +
            http2_frame(Http2Frame::kData, 0, 1, std::string("\0\x40\0\0\0", 5)));
  expect_served(5);
  expect_memory_below(64 * kMiB);
}

}  // namespace
}  // namespace recast
