#pragma once
#include <boost/asio/ssl/context.hpp>
#include <filesystem>
#include <memory>

namespace recast {

/// TLS 1.2 and 1.3 for a server. `client_ca` empty: clients need no certificate. Throws kNotFound: a file is not there;
/// kDataCorruption: one is not what it should be; kInvalidArgument: the key is not that of the certificate.
std::unique_ptr<boost::asio::ssl::context> tls_context(const std::filesystem::path& certificate,
                                                       const std::filesystem::path& key,
                                                       const std::filesystem::path& client_ca);

}  // namespace recast
