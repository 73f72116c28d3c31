#include <thread>

#include "certificates.h"
#include "grpc_fixture.h"
#include "recast/format/files.h"

namespace recast {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

class GrpcTls : public CertificateTest {
 protected:
  void SetUp() override {
    CertificateTest::SetUp();
    certify(options_);
  }
  std::string pem(const std::string& name) const { return read_file(path(name), 1 << 20); }
  grpc::SslCredentialsOptions tls(const std::string& root, const std::string& key = "",
                                  const std::string& chain = "") const {
    return {pem(root), key, chain};
  }
  static StatusCode live(const GrpcTestServer& at, const grpc::SslCredentialsOptions& options) {
    Stub stub(connect(at.server.port(), grpc::SslCredentials(options)));
    inference::ServerLiveResponse answer;
    return call(stub, &Stub::ServerLive, inference::ServerLiveRequest(), answer).error_code();
  }

  GrpcOptions options_ = any_port();
};

TEST_F(GrpcTls, ServesClientsThatTrustTheCertificate) {
  GrpcTestServer at(options_);
  EXPECT_EQ(live(at, tls("server.pem")), StatusCode::OK);
  EXPECT_EQ(live(at, tls("client.pem")), StatusCode::UNAVAILABLE);
  inference::ServerLiveResponse answer;
  EXPECT_EQ(call(*at.stub, &Stub::ServerLive, inference::ServerLiveRequest(), answer).error_code(),
            StatusCode::UNAVAILABLE)
      << "without TLS";
}

TEST_F(GrpcTls, AsksClientsForACertificateWhereThatIsSaid) {
  options_.client_ca = path("client.pem");
  GrpcTestServer at(options_);
  EXPECT_EQ(live(at, tls("server.pem")), StatusCode::UNAVAILABLE);
  EXPECT_EQ(live(at, tls("server.pem", pem("client.key"), pem("client.pem"))), StatusCode::OK);
}

TEST_F(GrpcTls, ShowsANewCertificateFromTheNextConnectionsOn) {
  GrpcTestServer at(options_);
  EXPECT_EQ(live(at, tls("server.pem")), StatusCode::OK);
  make("next", "subjectAltName=IP:127.0.0.1");
  replace("server.key", "next.key", "old.key");
  EXPECT_EQ(live(at, tls("server.pem")), StatusCode::OK) << "a key that does not fit yet";
  replace("server.pem", "next.pem", "old.pem");
  for (int i = 0; i < 300 && live(at, tls("server.pem")) != StatusCode::OK; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(live(at, tls("server.pem")), StatusCode::OK);
  EXPECT_EQ(live(at, tls("old.pem")), StatusCode::UNAVAILABLE);
}

TEST_F(GrpcTls, NamesTheFileThatIsWrong) {
  LinearService service({{"pair", 2}});
  prometheus::Registry registry;
  GrpcOptions wrong = options_;
  wrong.key = path("client.key");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { GrpcServer(service, wrong, registry); }), HasSubstr("client.key"));
  wrong.key = path("none.key");
  EXPECT_THAT(error_of(Code::kNotFound, [&] { GrpcServer(service, wrong, registry); }), HasSubstr("none.key"));
}

}  // namespace
}  // namespace recast
