#include "http_stream.h"

#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <utility>

namespace recast {
namespace {

namespace asio = boost::asio;

class PlainStream final : public HttpStream {
 public:
  explicit PlainStream(Socket socket) : socket_(std::move(socket)) {}

  Socket& socket() override { return socket_; }
  bool secure() const override { return false; }
  void handshake(std::function<void(Error)> done) override { done({}); }
  void read_some(asio::mutable_buffer into, Done done) override { socket_.async_read_some(into, std::move(done)); }
  void write(const std::array<asio::const_buffer, 2>& from, Done done) override {
    asio::async_write(socket_, from, std::move(done));
  }
  void finish(std::function<void(Error)> done) override {
    Error error;
    socket_.shutdown(Socket::shutdown_send, error);
    done(error);
  }

 private:
  Socket socket_;
};

class TlsStream final : public HttpStream {
 public:
  TlsStream(Socket socket, std::shared_ptr<asio::ssl::context> context)
      : context_(std::move(context)), stream_(std::move(socket), *context_) {}

  Socket& socket() override { return stream_.next_layer(); }
  bool secure() const override { return true; }
  void handshake(std::function<void(Error)> done) override {
    stream_.async_handshake(asio::ssl::stream_base::server, std::move(done));
  }
  void read_some(asio::mutable_buffer into, Done done) override { stream_.async_read_some(into, std::move(done)); }
  void write(const std::array<asio::const_buffer, 2>& from, Done done) override {
    asio::async_write(stream_, from, std::move(done));
  }
  void finish(std::function<void(Error)> done) override { stream_.async_shutdown(std::move(done)); }

 private:
  const std::shared_ptr<asio::ssl::context> context_;
  asio::ssl::stream<Socket> stream_;
};

}  // namespace

std::unique_ptr<HttpStream> plain_stream(HttpStream::Socket socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

std::unique_ptr<HttpStream> tls_stream(HttpStream::Socket socket, std::shared_ptr<asio::ssl::context> context) {
  return std::make_unique<TlsStream>(std::move(socket), std::move(context));
}

}  // namespace recast
