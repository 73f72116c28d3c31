#pragma once
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <functional>
#include <memory>

namespace recast {

/// Bytes of one connection, plain or through TLS, so that the connection is compiled once for both. Every call is made
/// on the socket's strand and every handler runs there; at most one read and one write at a time.
class HttpStream {
 public:
  using Error = boost::system::error_code;
  using Done = std::function<void(Error, std::size_t)>;
  using Socket = boost::asio::ip::tcp::socket;

  virtual ~HttpStream() = default;
  virtual Socket& socket() = 0;
  virtual bool secure() const = 0;
  virtual void handshake(std::function<void(Error)> done) = 0;
  virtual void read_some(boost::asio::mutable_buffer into, Done done) = 0;
  /// Writes all of both.
  virtual void write(const std::array<boost::asio::const_buffer, 2>& from, Done done) = 0;
  /// Says that nothing more will be sent.
  virtual void finish(std::function<void(Error)> done) = 0;
};

std::unique_ptr<HttpStream> plain_stream(HttpStream::Socket socket);
std::unique_ptr<HttpStream> tls_stream(HttpStream::Socket socket, std::shared_ptr<boost::asio::ssl::context> context);

}  // namespace recast
