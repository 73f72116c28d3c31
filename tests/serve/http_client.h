#pragma once
// A client that sends exactly the bytes it is given, as no library would.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "recast/base/error.h"

namespace recast {

struct HttpReply {
  int status = 0;                             // 0: the connection ended, or nothing came in time
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;
  int interim = 0;  // 1xx before it

  std::string field(const std::string& name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? "" : found->second;
  }
};

class HttpClient {
 public:
  /// `from`: an address of this machine (127.0.0.2), for who is to be somebody else.
  explicit HttpClient(std::uint16_t port, const char* from = nullptr) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    // The port is chosen when it connects: one that was bound alone is taken for all servers until long after the end.
    const int yes = 1;
    ::setsockopt(socket_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (from != nullptr && (::inet_pton(AF_INET, from, &address.sin_addr) != 1 ||
                            ::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0))
      give_up(from);
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      give_up(fmt::format("port {}", port));
  }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient() { close(); }

  /// Whether all went out.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void finish_sending() { ::shutdown(socket_, SHUT_WR); }
  /// Ends with a reset, as a process that dies with bytes unread.
  void reset() {
    const linger now{1, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  /// `head`: of the answer to HEAD, which has no body whatever its length says.
  HttpReply read(bool head = false, std::chrono::milliseconds within = std::chrono::seconds(20)) {
    const auto deadline = std::chrono::steady_clock::now() + within;
    HttpReply reply;
    for (;;) {
      const std::string text = take_head(deadline);
      if (text.empty()) return {};
      parse(text, reply);
      if (reply.status >= 200) break;
      ++reply.interim;
      reply.fields.clear();
    }
    const std::string length = reply.field("content-length");
    if (head || length.empty()) return reply;
    const std::size_t bytes = std::stoul(length);
    while (unread_.size() < bytes)
      if (!more(deadline)) return {};
    reply.body = unread_.substr(0, bytes);
    unread_.erase(0, bytes);
    return reply;
  }

  HttpReply ask(std::string_view request) {
    send(request);
    return read(request.starts_with("HEAD "));
  }

  /// All that comes up to this text, or to the end of the connection or of the time; "": up to these.
  std::string read_until(std::string_view text, std::chrono::milliseconds within) {
    const auto deadline = std::chrono::steady_clock::now() + within;
    while ((text.empty() || unread_.find(text) == unread_.npos) && more(deadline)) {
    }
    return std::exchange(unread_, {});
  }
  bool ended() const { return ended_; }

  /// Whether the server ends the connection, within that time, without another byte.
  bool ends(std::chrono::milliseconds within = std::chrono::seconds(20)) {
    const auto deadline = std::chrono::steady_clock::now() + within;
    return unread_.empty() && !more(deadline) && ended_;
  }

 private:
  [[noreturn]] void give_up(std::string_view what) {
    const int why = errno;
    close();
    fail(Code::kUnavailable, "[test] cannot connect: {}, errno {}", what, why);
  }

  std::string take_head(std::chrono::steady_clock::time_point deadline) {
    std::size_t end;
    while ((end = unread_.find("\r\n\r\n")) == unread_.npos)
      if (!more(deadline)) return "";
    const std::string text = unread_.substr(0, end + 2);
    unread_.erase(0, end + 4);
    return text;
  }

  static void parse(std::string_view text, HttpReply& reply) {
    reply.status = std::stoi(std::string(text.substr(9, 3)));
    text.remove_prefix(text.find("\r\n") + 2);
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find("\r\n"));
      std::string name(line.substr(0, line.find(": ")));
      for (char& c : name) c = static_cast<char>(std::tolower(c));
      reply.fields[name] = line.substr(line.find(": ") + 2);
      text.remove_prefix(line.size() + 2);
    }
  }

  bool more(std::chrono::steady_clock::time_point deadline) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waiting{socket_, POLLIN, 0};
    if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) return false;
    char piece[65536];
    const ssize_t got = ::recv(socket_, piece, sizeof piece, 0);
    ended_ = got <= 0;
    if (ended_) return false;
    unread_.append(piece, static_cast<std::size_t>(got));
    return true;
  }

  int socket_;
  std::string unread_;
  bool ended_ = false;
};

inline std::string get(std::string_view path, std::string_view more = "") {
  return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, more);
}
inline std::string post(std::string_view path, std::string_view body, std::string_view more = "") {
  return fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{}\r\n{}", path, body.size(), more,
                     body);
}
inline HttpReply ask(std::uint16_t port, std::string_view request) { return HttpClient(port).ask(request); }

}  // namespace recast
