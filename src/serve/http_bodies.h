#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <string>

namespace recast {

/// The bytes that are held for bodies that are being received or parsed, of all connections. A caller holds a fair
/// share of them at most. Threads: all calls in parallel.
class HttpBodies {
 public:
  explicit HttpBodies(std::size_t limit) : limit_(limit) {}

  /// Those of one body, until it is destroyed. One thread at a time.
  class Held {
   public:
    Held(HttpBodies& of, std::string caller) : of_(of), caller_(std::move(caller)) {}
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() { of_.give_back(caller_, bytes_); }

    /// Whether that is within the limits. They count in any case, since they are there.
    bool grow_to(std::size_t bytes);

   private:
    HttpBodies& of_;
    const std::string caller_;
    std::size_t bytes_ = 0;
  };

 private:
  bool take(const std::string& caller, std::size_t bytes);
  void give_back(const std::string& caller, std::size_t bytes);

  const std::size_t limit_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::map<std::string, std::size_t> by_caller_;
  std::size_t bytes_ = 0;
};

}  // namespace recast
