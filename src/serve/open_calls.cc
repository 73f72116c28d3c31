#include "open_calls.h"

#include "fair_share.h"

namespace recast {

OpenCalls::OpenCalls(std::size_t most, std::chrono::milliseconds tick)
    : most_(most), tick_(tick), thread_([this](const std::stop_token& stop) { watch(stop); }) {}

OpenCalls::~OpenCalls() = default;

bool OpenCalls::add(const std::shared_ptr<TimedCall>& call, const std::string& client) {
  std::unique_lock lock(mutex_);
  const auto found = clients_.find(client);
  const std::size_t own = 1 + (found == clients_.end() ? 0 : found->second);
  const bool room = counted_ < most_ && (own == 1 || is_fair_share(own, most_ - counted_ - 1));
  Entry& entry = calls_.emplace(call.get(), Entry{call, clients_.end()}).first->second;
  if (room) {
    entry.client = clients_.insert_or_assign(client, own).first;
    ++counted_;
  }
  if (calls_.size() == 1) changed_.notify_all();
  const bool closed = closed_;
  lock.unlock();
  if (closed) call->closing();
  return room;
}

std::shared_ptr<TimedCall> OpenCalls::remove(const TimedCall* call) {
  const std::lock_guard lock(mutex_);
  auto kept = calls_.extract(call);
  if (const auto client = kept.mapped().client; client != clients_.end()) {
    --counted_;
    if (--client->second == 0) clients_.erase(client);
  }
  if (calls_.empty()) changed_.notify_all();
  return std::move(kept.mapped().call);
}

void OpenCalls::close() {
  std::vector<std::shared_ptr<TimedCall>> all;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (const auto& [key, entry] : calls_) all.push_back(entry.call);
  }
  for (const auto& call : all) call->closing();
}

void OpenCalls::wait_until_none() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return calls_.empty(); });
}

std::vector<std::shared_ptr<TimedCall>> OpenCalls::late() const {
  const auto now = TimedCall::Clock::now().time_since_epoch().count();
  std::vector<std::shared_ptr<TimedCall>> late;
  for (const auto& [key, entry] : calls_) {
    if (entry.call->expires_ <= now) late.push_back(entry.call);
  }
  return late;
}

void OpenCalls::watch(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !calls_.empty(); })) {
    changed_.wait_for(lock, stop, tick_, [] { return false; });
    if (stop.stop_requested()) return;
    std::vector<std::shared_ptr<TimedCall>> calls = late();
    lock.unlock();
    for (const auto& call : calls) call->expired();
    calls.clear();
    lock.lock();
  }
}

}  // namespace recast
