#pragma once
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "tls.h"

namespace recast {

/// TLS for a gRPC server, each connection by what `files` say when it begins; they must outlive the server.
std::shared_ptr<grpc::ServerCredentials> tls_credentials(TlsFiles& files);

}  // namespace recast
