#include "http_bodies.h"

#include "fair_share.h"

namespace recast {

bool HttpBodies::Held::grow_to(std::size_t bytes) {
  if (bytes <= bytes_) return true;
  const bool taken = of_.take(caller_, bytes - bytes_);
  bytes_ = bytes;
  return taken;
}

bool HttpBodies::take(const std::string& caller, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const std::size_t own = by_caller_[caller] += bytes;  // first: it may have no memory
  bytes_ += bytes;
  return bytes_ <= limit_ && is_fair_share(own, limit_ - bytes_);
}

void HttpBodies::give_back(const std::string& caller, std::size_t bytes) {
  if (bytes == 0) return;
  const std::lock_guard lock(mutex_);
  bytes_ -= bytes;
  const auto own = by_caller_.find(caller);
  own->second -= bytes;
  if (own->second == 0) by_caller_.erase(own);
}

}  // namespace recast
