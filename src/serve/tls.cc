#include "tls.h"

#include <openssl/ssl.h>

#include <boost/asio/buffer.hpp>
#include <boost/system/error_code.hpp>
#include <string_view>
#include <utility>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/files.h"

namespace recast {
namespace {

namespace ssl = boost::asio::ssl;
using ErrorCode = boost::system::error_code;

void check(const ErrorCode& error, const std::filesystem::path& file, std::string_view what) {
  if (error) fail(Code::kDataCorruption, "[tls] {}: expected {} in PEM: {}", file.string(), what, error.message());
}

/// Nobody is there to be asked, least of all when a new key is read.
int no_passphrase(char*, int, int, void*) { return -1; }

/// Of the protocols that a client offers, the one that is spoken here; one who offers others only is not refused, as
/// RFC 7301 would have it, since old clients offer "http/1.0" alone and speak 1.1 all the same.
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* length, const unsigned char* offered,
                    unsigned int offered_length, void*) {
  static constexpr unsigned char kOurs[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  const int found =
      SSL_select_next_proto(const_cast<unsigned char**>(chosen), length, kOurs, sizeof kOurs, offered, offered_length);
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

std::string pem(const std::filesystem::path& file, std::string_view what) {
  constexpr std::uint64_t kMostBytes = 1 << 20;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored))
    fail(Code::kNotFound, "[tls] {}: no such file, expected {} in PEM", file.string(), what);
  return read_file(file, kMostBytes);
}

}  // namespace

TlsFiles::TlsFiles(const PortOptions& options, std::chrono::milliseconds every)
    : certificate_(options.certificate),
      key_(options.key),
      client_ca_(options.client_ca),
      files_({certificate_, key_, client_ca_}, every, [this] { return read(); }) {}

std::shared_ptr<const TlsContent> TlsFiles::content() {
  return files_.content([this](const TlsContent& old) { return reread(old); },
                        [](const std::exception& error) {
                          log_event(LogLevel::kWarn, "tls.kept_old", {{"reason", std::string_view(error.what())}});
                        });
}

std::shared_ptr<const TlsContent> TlsFiles::reread(const TlsContent& old) const {
  auto fresh = read();
  if (fresh->certificate == old.certificate && fresh->key == old.key && fresh->client_ca == old.client_ca)
    return nullptr;
  log_event(LogLevel::kInfo, "tls.reread", {{"certificate", certificate_.string()}});
  return fresh;
}

std::shared_ptr<const TlsContent> TlsFiles::read() const {
  auto content = std::make_shared<TlsContent>();
  content->certificate = pem(certificate_, "a certificate");
  content->key = pem(key_, "a private key");
  if (!client_ca_.empty()) content->client_ca = pem(client_ca_, "the certificate of an authority");
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  // Renegotiation is work that a client can ask for without end; tickets would outlive a change of the certificate.
  SSL_CTX_set_options(
      native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_alpn_select_cb(native, choose_protocol, nullptr);
  SSL_CTX_set_default_passwd_cb(native, no_passphrase);
  ErrorCode error;
  context->use_certificate_chain(boost::asio::buffer(content->certificate), error);
  check(error, certificate_, "a certificate");
  context->use_private_key(boost::asio::buffer(content->key), ssl::context::pem, error);
  if (error && SSL_CTX_check_private_key(native) != 1 && error.message().find("mismatch") != std::string::npos)
    fail(Code::kInvalidArgument, "[tls] {} is not the key of the certificate {}", key_.string(), certificate_.string());
  check(error, key_, "a private key without a passphrase");
  if (SSL_CTX_check_private_key(native) != 1)
    fail(Code::kInvalidArgument, "[tls] {} is not the key of the certificate {}", key_.string(), certificate_.string());
  if (!client_ca_.empty()) {
    context->add_certificate_authority(boost::asio::buffer(content->client_ca), error);
    check(error, client_ca_, "the certificate of an authority");
    context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
  }
  content->context = std::move(context);
  return content;
}

}  // namespace recast
