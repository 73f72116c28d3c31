#pragma once
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "format/temporary_folder.h"
#include "recast/base/error.h"

namespace recast {

/// Stands between clients and a PostgreSQL on a socket, and passes its messages on one by one, until one at which it
/// cuts the connection. It takes connections on a socket of its own folder, as many as come.
class CuttingProxy {
 public:
  enum class Side { kClient, kServer };  ///< whose messages are counted
  enum class Cut { kBefore, kAfter };    ///< whether the message itself is still passed on

  explicit CuttingProxy(std::string server_socket) : server_socket_(std::move(server_socket)) {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(socket());
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 64) != 0)
      fail(Code::kUnavailable, "[test] no socket for the proxy");
    acceptor_ = std::thread([this] { accept_all(); });
  }
  CuttingProxy(const CuttingProxy&) = delete;
  CuttingProxy& operator=(const CuttingProxy&) = delete;
  ~CuttingProxy() {
    over_ = true;
    acceptor_.join();
    while (open_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ::close(listener_);
  }

  std::string folder() const { return folder_.path().string(); }

  /// The n-th message from now on, 1 being the next, of whatever connection; 0: none.
  void cut_at(Side side, Cut cut, int n) {
    const std::lock_guard lock(mutex_);
    side_ = side;
    cut_ = cut;
    left_ = n;
  }
  /// Whether the message has not come yet.
  bool waiting() {
    const std::lock_guard lock(mutex_);
    return left_ > 0;
  }
  /// Cuts the connection at the COMMIT of a transaction that has written; then nobody is let in until allow().
  void cut_at_commit(Cut cut) {
    const std::lock_guard lock(mutex_);
    at_commit_ = true;
    cut_ = cut;
  }
  /// Cuts what is open, and lets nobody in until allow().
  void shut() {
    door_ = Door::kShut;
    ++generation_;
    while (open_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  /// Who comes is let in and hears nothing.
  void keep_silent() { door_ = Door::kSilent; }
  /// Who comes hears nothing any more once it has begun a transaction.
  void swallow_transactions() { swallowing_ = true; }
  void allow() {
    door_ = Door::kOpen;
    swallowing_ = false;
  }
  /// Who comes finds nobody, and goes to the next host of its URL. What is open stays.
  void hide() { std::filesystem::rename(socket(), folder_ / "hidden"); }
  void show() { std::filesystem::rename(folder_ / "hidden", socket()); }
  /// Called when a COMMIT of a transaction that has written was passed on.
  void on_commit(std::function<void()> call) {
    const std::lock_guard lock(mutex_);
    on_commit_ = std::move(call);
  }

 private:
  enum class Door { kOpen, kShut, kSilent };

  struct Stream {
    int from, to;
    Side side;
    bool begun;  ///< a client's first message has no type
    std::string bytes = {};
    bool wrote = false;
  };

  std::string socket() const { return (folder_ / ".s.PGSQL.5432").string(); }
  static sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
  }

  void accept_all() {
    while (!over_) {
      pollfd ready{listener_, POLLIN, 0};
      if (::poll(&ready, 1, 20) <= 0) continue;
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) continue;
      ++open_;
      std::thread([this, client] { serve(client); }).detach();
    }
  }

  void serve(int client) {
    const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(server_socket_);
    const int born = generation_;
    while (door_ == Door::kSilent && !over_ && generation_ == born)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (door_ == Door::kOpen && generation_ == born &&
        ::connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      Stream up{client, server, Side::kClient, false}, down{server, client, Side::kServer, true};
      while (!over_ && generation_ == born && pass(up, down)) {
      }
    }
    ::close(client);
    ::close(server);
    --open_;
  }

  /// False: the connection ends.
  bool pass(Stream& up, Stream& down) {
    std::array<pollfd, 2> ready{{{up.from, POLLIN, 0}, {down.from, POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), 20) <= 0) return true;
    return (ready[0].revents == 0 || pass(up)) && (ready[1].revents == 0 || pass(down));
  }

  bool pass(Stream& stream) {
    std::array<char, 1 << 16> piece;
    const ssize_t got = ::read(stream.from, piece.data(), piece.size());
    if (got <= 0) return false;
    stream.bytes.append(piece.data(), static_cast<std::size_t>(got));
    while (const std::size_t length = message_length(stream)) {
      if (!pass_message(stream, stream.bytes.substr(0, length))) return false;
      stream.bytes.erase(0, length);
      stream.begun = true;
    }
    return true;
  }

  /// Of the first message; 0: it is not whole yet.
  static std::size_t message_length(const Stream& stream) {
    const std::size_t type = stream.begun ? 1 : 0;
    if (stream.bytes.size() < type + 4) return 0;
    std::uint32_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(stream.bytes[type + i]);
    return stream.bytes.size() >= type + length ? type + length : 0;
  }

  bool pass_message(Stream& stream, const std::string& message) {
    if (stream.side == Side::kClient && message.find("BEGIN") != message.npos) {
      while (swallowing_ && !over_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const bool commits = stream.wrote && message.find("COMMIT") != message.npos;
    if (stream.side == Side::kClient && message.find("recast.commits (id") != message.npos) stream.wrote = true;
    if (commits) stream.wrote = false;
    const bool cut = counts(stream.side) || cuts_at(commits);
    if (cut && cut_ == Cut::kBefore) return false;
    for (std::size_t sent = 0; sent < message.size();) {
      const ssize_t got = ::send(stream.to, message.data() + sent, message.size() - sent, MSG_NOSIGNAL);
      if (got <= 0) return false;
      sent += static_cast<std::size_t>(got);
    }
    if (commits) call_on_commit();
    return !cut;
  }

  bool counts(Side side) {
    const std::lock_guard lock(mutex_);
    return side == side_ && left_ > 0 && --left_ == 0;
  }

  bool cuts_at(bool commits) {
    const std::lock_guard lock(mutex_);
    if (!commits || !at_commit_) return false;
    at_commit_ = false;
    door_ = Door::kShut;
    return true;
  }

  void call_on_commit() {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex_);
      call = on_commit_;
    }
    if (call) call();
  }

  const std::string server_socket_;
  TemporaryFolder folder_;
  int listener_ = -1;
  std::atomic<bool> over_{false}, swallowing_{false};
  std::atomic<Door> door_{Door::kOpen};
  std::atomic<int> generation_{0}, open_{0};
  std::mutex mutex_;
  // Guarded by mutex_.
  Side side_ = Side::kClient;
  std::atomic<Cut> cut_{Cut::kBefore};
  int left_ = 0;
  bool at_commit_ = false;
  std::function<void()> on_commit_;

  std::thread acceptor_;
};

}  // namespace recast
