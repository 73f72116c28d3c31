#include "tcp_wire.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <mutex>

#include "recast/base/error.h"
#include "recast/comm/ranks.h"

namespace recast {
namespace {

static_assert(std::endian::native == std::endian::little);
constexpr std::size_t kHeaderBytes = 1 + sizeof(std::uint64_t);
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 34;

class TcpWire final : public Wire {
 public:
  TcpWire(int rank, std::vector<int> sockets) : rank_(rank), ends_(sockets.size()) {
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      ends_[i].socket = sockets[i];
      if (sockets[i] >= 0) ::fcntl(sockets[i], F_SETFL, ::fcntl(sockets[i], F_GETFL) | O_NONBLOCK);
    }
  }
  ~TcpWire() override { close(false); }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(ends_.size()); }
  std::string name() const override { return "TCP"; }

  void send(int to, MessageKind kind, std::string bytes) override {
    if (bytes.size() > kMostBytes) fail(Code::kExhausted, "[ranks] a message of {} bytes is too long", bytes.size());
    const std::lock_guard lock(mutex_);
    End& end = ends_[static_cast<std::size_t>(to)];
    if (end.socket < 0) return;
    queue(end, kind, bytes);
    write(end);
  }

  bool idle() override {
    const std::lock_guard lock(mutex_);
    for (const End& end : ends_)
      if (end.socket >= 0 && !end.out.empty()) return false;
    return true;
  }

  std::optional<Message> next(std::chrono::milliseconds wait) override {
    if (auto message = arrived()) return message;
    std::vector<pollfd> polled;
    std::vector<std::size_t> whose;
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t i = 0; i < ends_.size(); ++i) {
        if (ends_[i].socket < 0) continue;
        const short events = static_cast<short>(POLLIN | (ends_[i].out.empty() ? 0 : POLLOUT));
        polled.push_back({ends_[i].socket, events, 0});
        whose.push_back(i);
      }
    }
    if (::poll(polled.data(), polled.size(), static_cast<int>(wait.count())) <= 0) return {};
    for (std::size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      const std::lock_guard lock(mutex_);
      End& end = ends_[whose[i]];
      if (polled[i].revents & POLLOUT) write(end);
      if (polled[i].revents & ~POLLOUT) read(static_cast<int>(whose[i]));
    }
    return arrived();
  }

  void pulse() override {
    const std::lock_guard lock(mutex_);
    for (End& end : ends_) {
      if (end.socket < 0 || !end.out.empty()) continue;
      queue(end, MessageKind::kPulse, {});
      write(end);
    }
  }

  void close(bool) override {
    const std::lock_guard lock(mutex_);
    for (End& end : ends_) {
      if (end.socket >= 0) ::close(end.socket);
      end.socket = -1;
    }
  }

 private:
  struct End {
    int socket = -1;
    std::string out, in;
    std::size_t written = 0;  ///< of `out`
  };

  static void queue(End& end, MessageKind kind, const std::string& bytes) {
    const std::uint64_t size = bytes.size();
    end.out += static_cast<char>(kind);
    end.out.append(reinterpret_cast<const char*>(&size), sizeof size);
    end.out += bytes;
  }

  /// What the kernel takes at once. A broken connection shows where it is read.
  static void write(End& end) {
    while (end.written < end.out.size()) {
      const ssize_t count =
          ::send(end.socket, end.out.data() + end.written, end.out.size() - end.written, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (count < 0) break;
      end.written += static_cast<std::size_t>(count);
    }
    end.out.clear();
    end.written = 0;
  }

  void read(int from) {
    End& end = ends_[static_cast<std::size_t>(from)];
    char buffer[1 << 16];
    for (;;) {
      const ssize_t count = ::recv(end.socket, buffer, sizeof buffer, 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      if (count <= 0) {
        parse(from);
        ::close(end.socket);
        end.socket = -1;
        messages_.push_back({from, MessageKind::kGone, {}});
        return;
      }
      end.in.append(buffer, static_cast<std::size_t>(count));
    }
    parse(from);
  }

  void parse(int from) {
    std::string& in = ends_[static_cast<std::size_t>(from)].in;
    std::size_t at = 0;
    while (in.size() - at >= kHeaderBytes) {
      std::uint64_t size = 0;
      std::memcpy(&size, in.data() + at + 1, sizeof size);
      const auto kind = static_cast<MessageKind>(in[at]);
      if (size > kMostBytes || kind > MessageKind::kBye)
        throw RanksParted(Code::kInternal, fmt::format("[ranks] rank {} sent what is no message", from));
      if (in.size() - at - kHeaderBytes < size) break;
      messages_.push_back({from, kind, in.substr(at + kHeaderBytes, size)});
      at += kHeaderBytes + size;
    }
    in.erase(0, at);
  }

  std::optional<Message> arrived() {
    const std::lock_guard lock(mutex_);
    if (messages_.empty()) return {};
    Message message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

  const int rank_;
  std::mutex mutex_;  // guards all below
  std::vector<End> ends_;
  std::deque<Message> messages_;
};

}  // namespace

std::unique_ptr<Wire> tcp_wire(int rank, std::vector<int> sockets) {
  return std::make_unique<TcpWire>(rank, std::move(sockets));
}

}  // namespace recast
