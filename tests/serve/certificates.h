#pragma once
// Certificates of a test's own.
#include <gtest/gtest.h>

#include <string>

#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/serve/server_port.h"

namespace recast {

/// Makes server.pem and server.key, for 127.0.0.1, and client.pem and client.key, an authority and a client in one.
/// Skips where openssl is missing: a SetUp() that builds on this one looks at IsSkipped().
class CertificateTest : public testing::Test {
 protected:
  void SetUp() override {
    need("openssl");
    if (IsSkipped() || HasFatalFailure()) return;
    make("server", "subjectAltName=IP:127.0.0.1");
    make("client", "basicConstraints=critical,CA:TRUE");
  }

  static void need(const std::string& program) {
    if (run_program({"sh", "-c", "command -v " + program}).status == 0) return;
    if (on_ci()) FAIL() << program << " is missing";
    GTEST_SKIP() << program << " is missing";
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void certify(PortOptions& options) const {
    options.certificate = path("server.pem");
    options.key = path("server.key");
  }

  void make(const std::string& name, const std::string& extension) const {
    const Outcome made = run_program(
        {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=" + name, "-addext", extension, "-keyout", path(name + ".key"), "-out", path(name + ".pem")});
    ASSERT_EQ(made.status, 0) << made.text;
  }
  /// A file takes the place of another, which is kept as `kept`.
  void replace(const std::string& old, const std::string& by, const std::string& kept) const {
    std::filesystem::copy_file(path(old), path(kept));
    std::filesystem::rename(path(by), path(old));
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace recast
