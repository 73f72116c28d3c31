#include "tls.h"

#include <openssl/ssl.h>

#include <boost/system/error_code.hpp>
#include <string_view>

#include "recast/base/error.h"

namespace recast {
namespace {

namespace ssl = boost::asio::ssl;
using ErrorCode = boost::system::error_code;

void need_file(const std::filesystem::path& file, std::string_view what) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored))
    fail(Code::kNotFound, "[tls] {}: no such file, expected {} in PEM", file.string(), what);
}

void check(const ErrorCode& error, const std::filesystem::path& file, std::string_view what) {
  if (error) fail(Code::kDataCorruption, "[tls] {}: expected {} in PEM: {}", file.string(), what, error.message());
}

/// Of the protocols that a client offers, the one that is spoken here; one who offers others only is not refused, as
/// RFC 7301 would have it, since old clients offer "http/1.0" alone and speak 1.1 all the same.
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* length, const unsigned char* offered,
                    unsigned int offered_length, void*) {
  static constexpr unsigned char kOurs[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  const int found =
      SSL_select_next_proto(const_cast<unsigned char**>(chosen), length, kOurs, sizeof kOurs, offered, offered_length);
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

}  // namespace

std::unique_ptr<ssl::context> tls_context(const std::filesystem::path& certificate, const std::filesystem::path& key,
                                          const std::filesystem::path& client_ca) {
  need_file(certificate, "a certificate");
  need_file(key, "a private key");
  auto context = std::make_unique<ssl::context>(ssl::context::tls_server);
  SSL_CTX* native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  // Renegotiation is work that a client can ask for without end; tickets would outlive a change of the certificate.
  SSL_CTX_set_options(
      native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_alpn_select_cb(native, choose_protocol, nullptr);
  ErrorCode error;
  context->use_certificate_chain_file(certificate.string(), error);
  check(error, certificate, "a certificate");
  context->use_private_key_file(key.string(), ssl::context::pem, error);
  if (error && SSL_CTX_check_private_key(native) != 1 && error.message().find("mismatch") != std::string::npos)
    fail(Code::kInvalidArgument, "[tls] {} is not the key of the certificate {}", key.string(), certificate.string());
  check(error, key, "a private key without a passphrase");
  if (SSL_CTX_check_private_key(native) != 1)
    fail(Code::kInvalidArgument, "[tls] {} is not the key of the certificate {}", key.string(), certificate.string());
  if (client_ca.empty()) return context;
  need_file(client_ca, "the certificate of an authority");
  context->load_verify_file(client_ca.string(), error);
  check(error, client_ca, "the certificate of an authority");
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
  return context;
}

}  // namespace recast
