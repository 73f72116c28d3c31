#include <gmock/gmock.h>

#include <mutex>

#include "certificates.h"
#include "recast/base/log.h"
#include "recast/format/files.h"
#include "serve/tls.h"

namespace recast {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TlsFilesTest : public CertificateTest {
 protected:
  void SetUp() override {
    CertificateTest::SetUp();
    certify(options_);
    set_log(LogLevel::kInfo, [this](const LogEvent& event) {
      const std::lock_guard lock(mutex_);
      events_.push_back(log_line(event, LogFormat::kText, 0));
    });
  }
  void TearDown() override { set_log(LogLevel::kOff, {}); }

  std::string pem(const std::string& name) const { return read_file(path(name), 1 << 20); }
  /// Those that were not taken yet.
  std::vector<std::string> take_events() {
    const std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }

  PortOptions options_;
  std::mutex mutex_;
  std::vector<std::string> events_;
};

TEST_F(TlsFilesTest, AreReadAgainWhenTheyChange) {
  TlsFiles files(options_, milliseconds(0));
  const auto first = files.content();
  EXPECT_EQ(files.content(), first);
  make("next", "subjectAltName=IP:127.0.0.1");
  replace("server.key", "next.key", "old.key");
  replace("server.pem", "next.pem", "old.pem");
  const auto second = files.content();
  EXPECT_NE(second->context, first->context);
  EXPECT_EQ(second->certificate, pem("server.pem"));
  EXPECT_EQ(second->key, pem("server.key"));
  EXPECT_THAT(take_events(), ElementsAre(HasSubstr("info tls.reread certificate=" + path("server.pem"))));
  write_file_atomically(path("server.pem"), pem("server.pem"));
  EXPECT_EQ(files.content(), second) << "written again with the same content";
  EXPECT_THAT(take_events(), IsEmpty());
}

TEST_F(TlsFilesTest, GoOnWithTheOldOnesWhileTheNewDoNotFitTogether) {
  TlsFiles files(options_, milliseconds(0));
  const auto first = files.content();
  make("next", "subjectAltName=IP:127.0.0.1");
  replace("server.pem", "next.pem", "old.pem");
  EXPECT_EQ(files.content(), first);
  EXPECT_EQ(files.content(), first);
  EXPECT_THAT(take_events(), ElementsAre(HasSubstr("is not the key of the certificate"))) << "said once";
  replace("server.key", "next.key", "old.key");
  EXPECT_NE(files.content(), first);
  EXPECT_THAT(take_events(), ElementsAre(HasSubstr("tls.reread")));
}

TEST_F(TlsFilesTest, GoOnWithTheOldOnesWhileAFileIsAwayOrBroken) {
  options_.client_ca = path("client.pem");
  TlsFiles files(options_, milliseconds(0));
  const auto first = files.content();
  EXPECT_EQ(first->client_ca, pem("client.pem"));
  for (const char* name : {"server.pem", "server.key", "client.pem"}) {
    const std::string good = pem(name);
    std::filesystem::remove(path(name));
    EXPECT_EQ(files.content(), first) << name;
    EXPECT_THAT(take_events(), ElementsAre(HasSubstr("no such file")));
    write_file_atomically(path(name), good.substr(0, good.size() / 2));
    EXPECT_EQ(files.content(), first) << name;
    EXPECT_THAT(take_events(), ElementsAre(HasSubstr("warn tls.kept_old")));
    write_file_atomically(path(name), good);
    EXPECT_EQ(files.content(), first) << name;
  }
}

TEST_F(TlsFilesTest, AskNobodyForAPassphrase) {
  TlsFiles files(options_, milliseconds(0));
  const auto first = files.content();
  const Outcome locked = run_program(
      {"openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", path("server.key"), "-out", path("locked.key")});
  ASSERT_EQ(locked.status, 0) << locked.text;
  replace("server.key", "locked.key", "old.key");
  EXPECT_EQ(files.content(), first);
  EXPECT_THAT(take_events(), ElementsAre(HasSubstr("without a passphrase")));
}

}  // namespace
}  // namespace recast
