#include "recast/comm/ranks.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "recast/base/log.h"
#include "wire.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kGoodbye{3000};  ///< how long the end of the others is waited for
constexpr milliseconds kSlice{100};
/// A process that was stopped with all others wakes up to a long silence that nobody is guilty of.
constexpr Clock::duration kLongestSlice = std::chrono::seconds(1);

template <class T>
std::string bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::string with_lengths(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) {
    const std::uint64_t size = part.size();
    out += bytes_of(std::span(&size, 1)) + part;
  }
  return out;
}

[[noreturn]] void no_list() {
  fail(Code::kShapeMismatch, "[ranks] rank 0 sent no list where one is due: do all ranks run the same command?");
}

std::vector<std::string> without_lengths(std::string_view bytes) {
  std::vector<std::string> parts;
  while (!bytes.empty()) {
    std::uint64_t size = 0;
    if (bytes.size() < sizeof size) no_list();
    std::memcpy(&size, bytes.data(), sizeof size);
    bytes.remove_prefix(sizeof size);
    if (bytes.size() < size) no_list();
    parts.emplace_back(bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
  return parts;
}

}  // namespace

/// Waiting, and knowing who is still there.
class Ranks::Talk {
 public:
  Talk(std::unique_ptr<Wire> wire, milliseconds silence)
      : wire_(std::move(wire)), limit_(silence), peers_(static_cast<std::size_t>(wire_->size())) {
    for (int rank = 0; rank < wire_->size(); ++rank)
      if ((rank == 0) != (wire_->rank() == 0)) others_.push_back(rank);
    pulse_ = std::thread([this, every = std::clamp(limit_ / 10, milliseconds(10), milliseconds(1000))] {
      std::unique_lock lock(mutex_);
      try {
        while (!changed_.wait_for(lock, every, [this] { return over_; })) wire_->pulse();
      } catch (const std::exception& error) {  // the next operation meets it, too
        log_event(LogLevel::kWarn, "ranks.pulse_failed", {{"message", std::string_view(error.what())}});
      }
    });
  }

  ~Talk() {
    bool together = false;
    try {
      together = say_goodbye();
    } catch (const std::exception& error) {
      log_event(LogLevel::kWarn, "ranks.close_failed", {{"message", std::string_view(error.what())}});
    }
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    pulse_.join();
    wire_->close(together);
  }

  const Wire& wire() const { return *wire_; }

  void send(int to, std::string bytes) {
    wire_->send(to, MessageKind::kData, std::move(bytes));
    while (!wire_->idle()) go_on();
  }

  std::string receive(int from) {
    std::deque<std::string>& inbox = peer(from).inbox;
    while (inbox.empty()) {
      if (peer(from).bye) part(from, fmt::format("rank {} has ended early", from));
      go_on();
    }
    std::string bytes = std::move(inbox.front());
    inbox.pop_front();
    return bytes;
  }

  void leave(Code code, const std::string& why) {
    if (!parted_) tell(code, why);
  }

 private:
  struct Peer {
    std::deque<std::string> inbox;
    Clock::duration silent{0};  ///< while this rank waited and looked
    bool gone = false, bye = false;
  };
  Peer& peer(int rank) { return peers_[static_cast<std::size_t>(rank)]; }

  /// Waits a little for whatever comes.
  void go_on() {
    const auto begin = Clock::now();
    auto message = wire_->next(kSlice);
    const auto waited = std::min(Clock::now() - begin, kLongestSlice);
    for (const int rank : others_) peer(rank).silent += waited;
    if (message) take(std::move(*message));
    for (const int rank : others_) {
      if (!parted_ && peer(rank).silent >= limit_) {
        peer(rank).gone = true;
        part(rank, fmt::format("rank {} has not been heard for {:.3g} s: it was stopped, or its network is cut", rank,
                               static_cast<double>(limit_.count()) / 1000));
      }
    }
  }

  void take(Message message) {
    Peer& from = peer(message.from);
    from.silent = {};
    switch (message.kind) {
      case MessageKind::kData:
        from.inbox.push_back(std::move(message.bytes));
        return;
      case MessageKind::kPulse:
        return;
      case MessageKind::kBye:
        from.bye = true;
        return;
      case MessageKind::kPart:
        if (!parted_) follow(message);
        return;
      case MessageKind::kGone:
        from.gone = true;
        if (!parted_ && !from.bye) part(message.from, fmt::format("rank {} is gone: its process ended", message.from));
    }
  }

  /// Rank `lost` takes no part any more.
  [[noreturn]] void part(int lost, const std::string& why) {
    log_event(LogLevel::kError, "ranks.lost", {{"rank", lost}});
    tell(Code::kUnavailable, why);
    throw RanksParted(Code::kUnavailable, "[ranks] " + why);
  }

  [[noreturn]] void follow(const Message& message) {
    const auto code =
        message.bytes.empty() ? Code::kInternal : static_cast<Code>(static_cast<unsigned char>(message.bytes[0]));
    const std::string why = message.bytes.empty() ? "" : message.bytes.substr(1);
    tell(code, why);
    throw RanksParted(code, "[ranks] " + why);
  }

  /// From now on nothing but goodbyes.
  void tell(Code code, const std::string& why) {
    parted_ = true;
    for (const int rank : others_)
      if (!peer(rank).gone) wire_->send(rank, MessageKind::kPart, static_cast<char>(code) + why);
  }

  /// Whether every other rank said it, too.
  bool say_goodbye() {
    const bool first = wire_->rank() == 0, in_order = !parted_;
    const auto all = [&](auto has) { return std::all_of(others_.begin(), others_.end(), has); };
    const auto done = [&](int rank) { return peer(rank).bye || peer(rank).gone; };
    const auto until = Clock::now() + kGoodbye;
    // In order, rank 0 ends last: who has its goodbye knows that everything arrived.
    if (!first || !in_order) send_bye();
    try {
      while (!(all(done) && wire_->idle()) && (in_order || Clock::now() < until)) go_on();
    } catch (const RanksParted&) {
      return false;
    }
    if (first && in_order) {
      send_bye();
      while (!wire_->idle() && Clock::now() < until) go_on();
    }
    return all([&](int rank) { return peer(rank).bye; });
  }

  void send_bye() {
    for (const int rank : others_)
      if (!peer(rank).gone) wire_->send(rank, MessageKind::kBye, "");
  }

  const std::unique_ptr<Wire> wire_;
  const milliseconds limit_;
  std::vector<int> others_;  ///< at the other ends of the wire
  std::vector<Peer> peers_;
  bool parted_ = false;

  std::mutex mutex_;  // guards over_
  std::condition_variable changed_;
  bool over_ = false;
  std::thread pulse_;
};

Ranks::Ranks() = default;
Ranks::~Ranks() = default;

Ranks::Ranks(std::unique_ptr<Wire> wire, const RanksOptions& options) : rank_(wire->rank()), size_(wire->size()) {
  if (options.silence < milliseconds(100))
    fail(Code::kInvalidArgument, "[ranks] a rank may be silent for at least 0.1 s, got {:.3g} s",
         static_cast<double>(options.silence.count()) / 1000);
  talk_ = std::make_unique<Talk>(std::move(wire), options.silence);
  log_event(LogLevel::kInfo, "ranks.joined", {{"rank", rank_}, {"size", size_}, {"carrier", carrier()}});
}

std::string Ranks::carrier() const { return talk_ ? talk_->wire().name() : "none"; }

void Ranks::send(int to, std::string bytes) {
  sent_bytes_ += static_cast<std::int64_t>(bytes.size());
  talk_->send(to, std::move(bytes));
}

std::string Ranks::receive(int from) {
  std::string bytes = talk_->receive(from);
  received_bytes_ += static_cast<std::int64_t>(bytes.size());
  return bytes;
}

template <class T>
void Ranks::sum_all(std::span<T> values) {
  if (alone()) return;
  const auto take = [&](int from, auto use) {
    const std::string bytes = receive(from);
    if (bytes.size() != values.size_bytes())
      fail(Code::kInternal, "[ranks] rank {} sent {} bytes where rank {} expects {}: they are out of step", from,
           bytes.size(), rank_, values.size_bytes());
    for (std::size_t i = 0; i < values.size(); ++i) {
      T value;
      std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
      use(i, value);
    }
  };
  if (!first()) {
    send(0, bytes_of(std::span<const T>(values)));
    return take(0, [&](std::size_t i, T value) { values[i] = value; });
  }
  std::vector<double> sums(values.begin(), values.end());
  for (int rank = 1; rank < size_; ++rank) take(rank, [&](std::size_t i, T value) { sums[i] += value; });
  std::transform(sums.begin(), sums.end(), values.begin(), [](double sum) { return static_cast<T>(sum); });
  broadcast(bytes_of(std::span<const T>(values)));
}

void Ranks::sum(std::span<float> values) { sum_all(values); }
void Ranks::sum(std::span<double> values) { sum_all(values); }

std::string Ranks::broadcast(std::string bytes) {
  if (!first()) return receive(0);
  for (int rank = 1; rank < size_; ++rank) send(rank, bytes);
  return bytes;
}

std::vector<std::string> Ranks::gather(std::string bytes) {
  if (alone()) return {std::move(bytes)};
  if (!first()) {
    send(0, std::move(bytes));
    return without_lengths(receive(0));
  }
  std::vector<std::string> all = {std::move(bytes)};
  for (int rank = 1; rank < size_; ++rank) all.push_back(receive(rank));
  broadcast(with_lengths(all));
  return all;
}

void Ranks::leave(Code code, std::string_view why) noexcept {
  if (!talk_) return;
  try {
    talk_->leave(code, fmt::format("rank {} ended: {}", rank_, why));
  } catch (const std::exception& error) {
    log_event(LogLevel::kWarn, "ranks.leave_failed", {{"message", std::string_view(error.what())}});
  }
}

}  // namespace recast
