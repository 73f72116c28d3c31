#include "grpc_credentials.h"

#include <grpc/grpc_security.h>
#include <grpcpp/version_info.h>

#include <mutex>
#include <string>

#include "recast/base/error.h"

namespace recast {
namespace {

/// What the library's C interface asks before each handshake. Its C++ interface takes certificates once, or watches
/// files by itself, whatever they hold.
class Fetcher {
 public:
  explicit Fetcher(TlsFiles& files) : files_(files) {}

  grpc_server_credentials* credentials() {
    const auto clients = files_.content()->client_ca.empty()
                             ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                             : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, fetch, this));
  }

 private:
  static grpc_ssl_certificate_config_reload_status fetch(void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<Fetcher*>(self)->give(config);
  }
  grpc_ssl_certificate_config_reload_status give(grpc_ssl_server_certificate_config** config) {
    const auto now = files_.content();
    const std::lock_guard lock(mutex_);
    if (now == given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair{now->key.c_str(), now->certificate.c_str()};
    // The library insists on roots, and looks at them only where clients show certificates.
    const std::string& roots = now->client_ca.empty() ? now->certificate : now->client_ca;
    *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
    given_ = now;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  TlsFiles& files_;
  std::mutex mutex_;  // of the next one
  std::shared_ptr<const TlsContent> given_;
};

#if GRPC_CPP_VERSION_MAJOR == 1 && GRPC_CPP_VERSION_MINOR < 60
class Credentials final : public grpc::ServerCredentials {
 public:
  explicit Credentials(TlsFiles& files) : fetcher_(files), made_(fetcher_.credentials()) {}
  ~Credentials() override { grpc_server_credentials_release(made_); }
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    fail(Code::kUnsupported, "[grpc] tokens are checked by our own code");
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), made_);
  }

  Fetcher fetcher_;
  grpc_server_credentials* const made_;
};
#else  // the class holds them itself
class Credentials final : private Fetcher, public grpc::ServerCredentials {
 public:
  explicit Credentials(TlsFiles& files) : Fetcher(files), ServerCredentials(Fetcher::credentials()) {}
};
#endif

}  // namespace

std::shared_ptr<grpc::ServerCredentials> tls_credentials(TlsFiles& files) {
  return std::make_shared<Credentials>(files);
}

}  // namespace recast
