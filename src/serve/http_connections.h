#pragma once
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace recast {

class HttpConnection;

/// What a connection waits for: nothing (it is the server's turn), a request, or the rest of one.
enum class Awaits { kNothing, kRequest, kRest };

/// The connections that are open, by their clients (network_of() their addresses), and which of them can make room for
/// others.
/// Threads: all calls in parallel.
class HttpConnections {
 public:
  void add(const std::shared_ptr<HttpConnection>& connection, const std::string& peer);
  void remove(const HttpConnection* connection);
  void set(const HttpConnection* connection, Awaits what);
  std::size_t size() const;
  std::vector<std::shared_ptr<HttpConnection>> all() const;
  /// Whether a new connection of `peer` is within `limit` and, unless it is its only one, within its fair share of it.
  bool has_room_for(const std::string& peer, std::size_t limit) const;
  /// Who has to go for a new connection of `peer`. Of the address that has most among those that wait, if it has two
  /// more than `peer` or better: the one that waits longest for a request, else for the rest of one. Otherwise the one
  /// that has waited for a request longest, a second or more, of an address that has as many as `peer`. It waits for
  /// nothing any more. Null: nobody.
  std::shared_ptr<HttpConnection> take_room_for(const std::string& peer);
  bool wait_until_none(std::chrono::steady_clock::time_point deadline) const;

 private:
  struct Entry;
  using ByPointer = std::unordered_map<const HttpConnection*, Entry>;
  using Peers = std::map<std::string, std::size_t>;  // connections of an address
  /// In the order in which they began to wait.
  struct Waiting {
    const HttpConnection* connection;
    Peers::iterator peer;
    std::chrono::steady_clock::time_point since;
  };
  using Line = std::list<Waiting>;
  struct Entry {
    std::shared_ptr<HttpConnection> connection;
    Peers::iterator peer;
    Awaits awaits = Awaits::kNothing;
    Line::iterator place = {};
  };

  Line& line(Awaits what) { return what == Awaits::kRequest ? idle_ : receiving_; }
  void set(ByPointer::iterator entry, Awaits what);

  mutable std::mutex mutex_;
  mutable std::condition_variable none_;
  // Guarded by mutex_.
  ByPointer open_;
  Peers peers_;
  Line idle_, receiving_;
};

}  // namespace recast
