#include "http_connections.h"

#include <algorithm>

#include "fair_share.h"
#include "http_connection.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;

/// How long a connection must have waited for a request before it makes room for one whose address has no fewer.
constexpr std::chrono::seconds kIdleEnough{1};

}  // namespace

void HttpConnections::add(const std::shared_ptr<HttpConnection>& connection, const std::string& peer) {
  const std::lock_guard lock(mutex_);
  const auto of = peers_.try_emplace(peer).first;
  ++of->second;
  open_.emplace(connection.get(), Entry{connection, of});
}

void HttpConnections::remove(const HttpConnection* connection) {
  std::shared_ptr<HttpConnection> removed;  // destroyed after the lock is gone
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(connection);
  if (found == open_.end()) return;
  set(found, Awaits::kNothing);
  if (--found->second.peer->second == 0) peers_.erase(found->second.peer);
  removed = std::move(found->second.connection);
  open_.erase(found);
  if (open_.empty()) none_.notify_all();
}

void HttpConnections::set(const HttpConnection* connection, Awaits what) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(connection);
  if (found != open_.end()) set(found, what);
}

void HttpConnections::set(ByPointer::iterator entry, Awaits what) {
  Entry& of = entry->second;
  if (of.awaits == what) return;
  if (of.awaits != Awaits::kNothing) line(of.awaits).erase(of.place);
  of.awaits = what;
  if (what != Awaits::kNothing) of.place = line(what).insert(line(what).end(), {entry->first, of.peer, Clock::now()});
}

std::size_t HttpConnections::size() const {
  const std::lock_guard lock(mutex_);
  return open_.size();
}

std::vector<std::shared_ptr<HttpConnection>> HttpConnections::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<HttpConnection>> list;
  for (const auto& [key, entry] : open_) list.push_back(entry.connection);
  return list;
}

bool HttpConnections::has_room_for(const std::string& peer, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  if (open_.size() >= limit) return false;
  const auto listed = peers_.find(peer);
  if (listed == peers_.end()) return true;
  return is_fair_share(listed->second + 1, limit - open_.size() - 1);
}

std::shared_ptr<HttpConnection> HttpConnections::take_room_for(const std::string& peer) {
  const std::lock_guard lock(mutex_);
  const auto listed = peers_.find(peer);
  const std::size_t own = listed == peers_.end() ? 0 : listed->second;
  const auto count = [](const Waiting& waiting) { return waiting.peer->second; };
  const Waiting* chosen = nullptr;
  for (const Line* line : {&idle_, &receiving_}) {
    const auto most = std::ranges::max_element(*line, {}, count);
    if (most != line->end() && count(*most) >= own + 2 && (!chosen || count(*most) > count(*chosen))) chosen = &*most;
  }
  if (!chosen) {
    const auto before = Clock::now() - kIdleEnough;
    const auto found = std::ranges::find_if(
        idle_, [&](const Waiting& waiting) { return waiting.since <= before && count(waiting) >= own; });
    if (found == idle_.end()) return nullptr;
    chosen = &*found;
  }
  const auto entry = open_.find(chosen->connection);
  set(entry, Awaits::kNothing);
  return entry->second.connection;
}

bool HttpConnections::wait_until_none(std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock lock(mutex_);
  return none_.wait_until(lock, deadline, [this] { return open_.empty(); });
}

}  // namespace recast
