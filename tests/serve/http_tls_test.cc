#include <fstream>
#include <future>
#include <thread>

#include "certificates.h"
#include "http_fixture.h"

namespace recast {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// Clients are curl and openssl.
class HttpTls : public CertificateTest {
 protected:
  void SetUp() override {
    need("curl");
    if (!IsSkipped() && !HasFatalFailure()) CertificateTest::SetUp();
    certify(options_);
  }

  Outcome curl(const TestServer& at, std::vector<std::string> words, const std::string& where = "/v2") const {
    std::vector<std::string> all = {"curl", "--silent", "--show-error", "--max-time", "20"};
    all.insert(all.end(), words.begin(), words.end());
    all.push_back(fmt::format("https://127.0.0.1:{}{}", at.server.port(), where));
    return run_program(all);
  }

  HttpOptions options_ = quick_options();
};

TEST_F(HttpTls, ServesClientsThatTrustTheCertificate) {
  TestServer at(options_);
  const Outcome trusted = curl(at, {"--cacert", path("server.pem")});
  EXPECT_EQ(trusted.status, 0) << trusted.text;
  EXPECT_THAT(trusted.text, HasSubstr("\"recast\""));
  EXPECT_NE(curl(at, {}).status, 0) << "whoever does not know it is warned by his client";
  const Outcome inferred = curl(at, {"--cacert", path("server.pem"), "--json", kBody}, "/v2/models/pair/infer");
  EXPECT_THAT(inferred.text, HasSubstr("\"data\":[6,12]"));
}

TEST_F(HttpTls, CarriesLargeBodies) {
  TestServer at(options_);
  const std::string json = fmt::format(R"({{"inputs":[{{"name":"x","shape":[1,{0}],"datatype":"FP32","parameters":{{)"
                                       R"("binary_data_size":{1}}}}}]}})",
                                       1 << 20, 4 << 20);
  {
    FILE* file = std::fopen(path("body").c_str(), "wb");
    const std::string body = json + std::string(4 << 20, '\0');
    ASSERT_EQ(std::fwrite(body.data(), 1, body.size(), file), body.size());
    std::fclose(file);
  }
  const Outcome outcome =
      curl(at,
           {"--cacert", path("server.pem"), "-H", "Content-Type: application/octet-stream", "-H",
            fmt::format("Inference-Header-Content-Length: {}", json.size()), "--data-binary", "@" + path("body")},
           "/v2/models/pair/infer");
  EXPECT_THAT(outcome.text, HasSubstr("\"data\":[0,0]"));
}

TEST_F(HttpTls, SpeaksNothingOlderThan12) {
  TestServer at(options_);
  for (const char* version : {"-tls1_2", "-tls1_3"}) {
    const Outcome outcome = run_program(
        {"sh", "-c", fmt::format("openssl s_client {} -connect 127.0.0.1:{} </dev/null", version, at.server.port())});
    EXPECT_THAT(outcome.text, AllOf(HasSubstr("Cipher is "), Not(HasSubstr("Cipher is (NONE)")))) << version;
  }
  const Outcome old =
      run_program({"sh", "-c",
                   fmt::format("openssl s_client -tls1_1 -cipher ALL:@SECLEVEL=0 -connect 127.0.0.1:{} </dev/null",
                               at.server.port())});
  EXPECT_THAT(old.text, HasSubstr("Cipher is (NONE)"));
}

TEST_F(HttpTls, AsksClientsForACertificateWhereThatIsSaid) {
  options_.client_ca = path("client.pem");
  TestServer at(options_);
  EXPECT_NE(curl(at, {"--cacert", path("server.pem")}).status, 0);
  const Outcome known =
      curl(at, {"--cacert", path("server.pem"), "--cert", path("client.pem"), "--key", path("client.key")});
  EXPECT_EQ(known.status, 0) << known.text;
  const Outcome stranger =
      curl(at, {"--cacert", path("server.pem"), "--cert", path("server.pem"), "--key", path("server.key")});
  EXPECT_NE(stranger.status, 0);
}

TEST_F(HttpTls, ShowsANewCertificateFromTheNextConnectionsOn) {
  TestServer at(options_);
  const auto trusted = [&](const std::string& root) { return curl(at, {"--cacert", path(root)}).status == 0; };
  EXPECT_TRUE(trusted("server.pem"));
  make("next", "subjectAltName=IP:127.0.0.1");
  replace("server.key", "next.key", "old.key");
  replace("server.pem", "next.pem", "old.pem");
  for (int i = 0; i < 300 && !trusted("server.pem"); ++i) std::this_thread::sleep_for(50ms);
  EXPECT_TRUE(trusted("server.pem"));
  EXPECT_FALSE(trusted("old.pem"));
}

TEST_F(HttpTls, EndsHandshakesThatDoNotBegin) {
  options_.header_timeout = 300ms;
  TestServer at(options_);
  HttpClient silent(at.server.port());
  EXPECT_TRUE(silent.ends());
  HttpClient plain(at.server.port());
  plain.send(get("/v2"));
  EXPECT_EQ(plain.read().status, 0);
  EXPECT_TRUE(at.becomes("recast_http_connections_open", 0));
}

TEST_F(HttpTls, NoticesWhoGoes) {
  RECAST_NEED_PYTHON("ssl");
  TestServer at(options_);
  at.service.hold();
  const std::string script =
      "import os, socket, ssl, sys, time\n"
      "trust = ssl.create_default_context(cafile=sys.argv[1])\n"
      "plain = socket.create_connection(('127.0.0.1', int(sys.argv[2])))\n"
      "with trust.wrap_socket(plain, server_hostname='127.0.0.1') as s:\n"
      "  s.sendall(sys.argv[3].encode())\n"
      "  while not os.path.exists(sys.argv[4]): time.sleep(0.01)\n";
  auto client = std::async(std::launch::async, [&] {
    return run_program({python_path(), "-c", script, path("server.pem"), std::to_string(at.server.port()), infer_pair(),
                        path("taken")});
  });
  EXPECT_TRUE(at.service.wait_for(1));
  std::ofstream(path("taken")) << "";
  const Outcome gone = client.get();
  EXPECT_EQ(gone.status, 0) << gone.text;
  EXPECT_TRUE(at.service.wait_for_cancelled());
  at.service.release();
  EXPECT_TRUE(at.server.drain(std::chrono::steady_clock::now() + 30s));
}

TEST_F(HttpTls, NamesTheFileThatIsWrong) {
  LinearService service({{"pair", 2}});
  prometheus::Registry registry;
  const auto error = [&](Code code) { return error_of(code, [&] { HttpServer(service, options_, registry); }); };
  options_.key = path("client.key");
  EXPECT_THAT(error(Code::kInvalidArgument), HasSubstr("client.key is not the key of the certificate"));
  options_.key = path("server.pem");
  EXPECT_THAT(error(Code::kDataCorruption), HasSubstr("server.pem"));
  options_.key = path("absent.key");
  EXPECT_THAT(error(Code::kNotFound), HasSubstr("absent.key"));
  options_.key = path("server.key");
  options_.certificate = path("server.key");
  EXPECT_THAT(error(Code::kDataCorruption), HasSubstr("server.key"));
  options_.certificate = path("server.pem");
  options_.client_ca = path("server.key");
  EXPECT_THAT(error(Code::kDataCorruption), HasSubstr("server.key"));
}

}  // namespace
}  // namespace recast
