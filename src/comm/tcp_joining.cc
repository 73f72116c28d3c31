#include "tcp_joining.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <random>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>
#include <vector>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "tcp_wire.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kIntroduction{5000};  ///< for a connection to say who it is
constexpr milliseconds kGlance{100};
constexpr std::size_t kWordDigits = 32, kRankDigits = 8;
constexpr std::size_t kMostStrangers = 64;  ///< that are listened to at a time, beside the ranks

class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(other.release()) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const { return descriptor_; }
  bool open() const { return descriptor_ >= 0; }
  int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

milliseconds left(Clock::time_point until) {
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(until - Clock::now()));
}

bool ready(int socket, short events, Clock::time_point until) {
  pollfd polled{socket, events, 0};
  int count = 0;
  do count = ::poll(&polled, 1, static_cast<int>(left(until).count()));
  while (count < 0 && errno == EINTR);
  return count > 0;
}

bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

/// Exactly so many bytes, or fewer where the other end is slow or gone.
std::string receive_exactly(int socket, std::size_t size, Clock::time_point until) {
  std::string bytes(size, '\0');
  std::size_t got = 0;
  while (got < size && ready(socket, POLLIN, until)) {
    const ssize_t count = ::recv(socket, bytes.data() + got, size - got, MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) break;
    got += static_cast<std::size_t>(count);
  }
  bytes.resize(got);
  return bytes;
}

struct Addresses {
  addrinfo* first = nullptr;
  Addresses(const std::string& host, std::uint16_t port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    if (const int status = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &first))
      fail(Code::kUnavailable, "[ranks] MASTER_ADDR {}: {}", host, ::gai_strerror(status));
  }
  ~Addresses() { ::freeaddrinfo(first); }
  Addresses(const Addresses&) = delete;
  Addresses& operator=(const Addresses&) = delete;
};

/// At MASTER_ADDR alone, so that no other network of this host reaches it.
Socket listen_at(const std::string& address) {
  const Addresses addresses(address, 0);
  for (const addrinfo* each = addresses.first; each; each = each->ai_next) {
    Socket socket(::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket.open() && ::bind(socket.get(), each->ai_addr, each->ai_addrlen) == 0 &&
        ::listen(socket.get(), SOMAXCONN) == 0)
      return socket;
  }
  fail(Code::kUnavailable, "[ranks] rank 0 cannot listen at MASTER_ADDR {}: {}; it must be an address of its host",
       address, std::strerror(errno));
}

std::uint16_t port_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

std::string random_word() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

std::string introduction(const std::string& word, int rank) { return fmt::format("{}{:0{}}", word, rank, kRankDigits); }

/// A connection that has not said yet who it is.
struct Newcomer {
  Socket socket;
  Clock::time_point until;
  std::string said{};
};

/// Takes what there is to hear of a newcomer. False: of no use any more.
bool hear(Newcomer& newcomer, const std::string& word) {
  char heard[kWordDigits + kRankDigits];
  const ssize_t count = ::recv(newcomer.socket.get(), heard, sizeof heard - newcomer.said.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (count <= 0) return false;
  newcomer.said.append(heard, static_cast<std::size_t>(count));
  return newcomer.said.starts_with(word.substr(0, newcomer.said.size()));
}

/// The connections of all other ranks, by rank. Strangers are heard beside them and hold nobody up.
class Reception {
 public:
  Reception(const Socket& listener, const std::string& word, int size)
      : listener_(listener), word_(word), ranks_(static_cast<std::size_t>(size)), missing_(size - 1) {}

  std::vector<int> receive_all(Clock::time_point until) {
    while (missing_ > 0) {
      if (Clock::now() >= until) missing();
      look();
    }
    std::vector<int> sockets;
    for (Socket& socket : ranks_) sockets.push_back(socket.release());
    return sockets;
  }

 private:
  void look() {
    std::erase_if(newcomers_, [now = Clock::now()](const Newcomer& each) { return now >= each.until; });
    const bool room = newcomers_.size() < kMostStrangers + ranks_.size();
    std::vector<pollfd> polled = {{room ? listener_.get() : -1, POLLIN, 0}};
    for (const Newcomer& each : newcomers_) polled.push_back({each.socket.get(), POLLIN, 0});
    if (::poll(polled.data(), polled.size(), kGlance.count()) <= 0) return;
    std::vector<Newcomer> still;
    for (std::size_t i = 0; i < newcomers_.size(); ++i)
      if (polled[i + 1].revents == 0 || (hear(newcomers_[i], word_) && !admitted(newcomers_[i])))
        still.push_back(std::move(newcomers_[i]));
    newcomers_ = std::move(still);
    if (polled[0].revents != 0) accept();
  }

  void accept() {
    Socket socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket.open())
      newcomers_.push_back({std::move(socket), Clock::now() + kIntroduction});
    else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
      fail(Code::kExhausted, "[ranks] rank 0 cannot take a connection: {}", std::strerror(errno));
  }

  /// Whether it has said all, and is a rank now, or nobody.
  bool admitted(Newcomer& newcomer) {
    if (newcomer.said.size() < kWordDigits + kRankDigits) return false;
    for (std::size_t rank = 1; rank < ranks_.size(); ++rank)
      if (!ranks_[rank].open() && newcomer.said == introduction(word_, static_cast<int>(rank))) {
        ranks_[rank] = std::move(newcomer.socket);
        --missing_;
      }
    return true;
  }

  [[noreturn]] void missing() const {
    std::string who;
    for (std::size_t rank = 1; rank < ranks_.size(); ++rank)
      if (!ranks_[rank].open()) who += fmt::format("{}{}", who.empty() ? "" : ", ", rank);
    fail(Code::kUnavailable, "[ranks] of {} ranks these did not come: {}", ranks_.size(), who);
  }

  const Socket& listener_;
  const std::string& word_;
  std::vector<Socket> ranks_;
  std::vector<Newcomer> newcomers_;
  int missing_;
};

Socket connect_to(const std::string& address, std::uint16_t port, Clock::time_point until) {
  const Addresses addresses(address, port);
  for (;;) {
    for (const addrinfo* each = addresses.first; each; each = each->ai_next) {
      Socket socket(::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (socket.open() && ::connect(socket.get(), each->ai_addr, each->ai_addrlen) == 0) return socket;
    }
    if (Clock::now() >= until)
      fail(Code::kUnavailable, "[ranks] rank 0 at {}, port {}, cannot be reached: {}", address, port,
           std::strerror(errno));
    std::this_thread::sleep_for(milliseconds(100));
  }
}

void hasten(const std::vector<int>& sockets) {
  const int yes = 1;
  for (const int socket : sockets)
    if (socket >= 0) ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

std::vector<int> meet(const Launched& launched, milliseconds patience) {
  const auto until = Clock::now() + patience;
  c10d::TCPStoreOptions options;
  options.port = launched.port;
  options.isServer = launched.rank == 0 && !launched.store_runs;
  options.waitWorkers = false;
  options.timeout = patience;
  c10d::TCPStore store(launched.address, options);
  const std::string key = "recast/" + launched.run;
  if (launched.rank == 0) {
    const Socket listener = listen_at(launched.address);
    const std::string word = random_word(), place = fmt::format("{}{}", word, port_of(listener.get()));
    store.set(key, std::vector<std::uint8_t>(place.begin(), place.end()));
    std::vector<int> sockets = Reception(listener, word, launched.size).receive_all(until);
    store.deleteKey(key);  // a launcher's store outlives this command: the next one's ranks must not find it
    for (const int socket : sockets)
      if (socket >= 0) send_all(socket, "+");  // they may let go of the store
    return sockets;
  }
  const std::vector<std::uint8_t> bytes = store.get(key);
  const std::string place(bytes.begin(), bytes.end()), word = place.substr(0, kWordDigits);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(place.data() + word.size(), place.data() + place.size(), port);
  if (error != std::errc() || end != place.data() + place.size())
    fail(Code::kUnavailable, "[ranks] the store at {}, port {}, is not that of these ranks: it has no place of rank 0",
         launched.address, launched.port);
  Socket socket = connect_to(launched.address, port, until);
  if (!send_all(socket.get(), introduction(word, launched.rank)) || receive_exactly(socket.get(), 1, until) != "+")
    fail(Code::kUnavailable, "[ranks] rank 0 did not take rank {} in: another process has this rank, or not all came",
         launched.rank);
  std::vector<int> sockets(static_cast<std::size_t>(launched.size), -1);
  sockets[0] = socket.release();
  return sockets;
}

}  // namespace

std::unique_ptr<Wire> join_over_tcp(const Launched& launched, milliseconds patience) {
  try {
    std::vector<int> sockets = meet(launched, patience);
    hasten(sockets);
    return tcp_wire(launched.rank, std::move(sockets));
  } catch (const c10::Error& error) {
    log_event(LogLevel::kDebug, "ranks.store_failed", {{"message", std::string_view(error.what())}});
    fail(Code::kUnavailable, "[ranks] rank {} found no store of the launcher at {}, port {} ({})", launched.rank,
         launched.address, launched.port,
         launched.rank == 0 && !launched.store_runs ? "is the port in use?" : "is rank 0 there?");
  }
}

}  // namespace recast
