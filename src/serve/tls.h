#pragma once
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "recast/serve/server_port.h"
#include "reread_files.h"

namespace recast {

/// What a port's files of TLS said when they were read, and fit together.
struct TlsContent {
  std::string certificate, key, client_ca;  ///< PEM; client_ca empty: clients need no certificate
  /// TLS 1.2 and 1.3 for a server.
  std::shared_ptr<boost::asio::ssl::context> context;
};

/// The files of TLS of a port, which are read again when they change: while they cannot be read, or do not fit together
/// as between two files of a new pair, what was read last goes on (event tls.kept_old), and tls.reread tells of new
/// ones. Threads  all calls in parallel.
class TlsFiles {
 public:
  /// Of a port that has a certificate. Throws kNotFound: a file is not there;  kDataCorruption: one is not what it
  /// should be;  kInvalidArgument: the key is not that of the certificate.
  explicit TlsFiles(const PortOptions& options, std::chrono::milliseconds every = std::chrono::seconds(1));

  /// For a connection that begins now.
  std::shared_ptr<const TlsContent> content();

 private:
  std::shared_ptr<const TlsContent> read() const;
  std::shared_ptr<const TlsContent> reread(const TlsContent& old) const;

  const std::filesystem::path certificate_, key_, client_ca_;
  RereadFiles<const TlsContent> files_;
};

}  // namespace recast
