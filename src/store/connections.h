#pragma once
#include <condition_variable>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "file_look.h"
#include "recast/base/error.h"
#include "sqlite.h"
#include "store_view.h"

namespace recast {

/// A connection and what it shows. One thread at a time.
struct StoreConnection {
  StoreConnection(Database opened, const std::filesystem::path& blobs, const std::string& fingerprint)
      : database(std::move(opened)), view(database, blobs, fingerprint) {}

  /// What `work` makes of one state of the store. Where it finds damage, and another process has committed meanwhile,
  /// that may have erased what was being read: then it begins anew.
  template <class Work>
  auto read(const Work& work);

  Database database;
  StoreView view;
  StoreLook look;  ///< before it was opened
};

/// Connections that read one store, for as many threads; opened when they are needed and kept.
/// Threads  all calls may run in parallel; beyond the limit they wait.
class Connections {
 public:
  /// Opens one; throws what `open` throws. It may give a database that is not live: of an absent store, of a file that
  /// cannot change, or a copy. Such a one is opened again when the files of the store have changed.
  Connections(std::filesystem::path path, std::function<std::unique_ptr<StoreConnection>()> open);

  /// Throws kUnavailable too: the file was replaced.
  template <class Work>
  auto read(const Work& work);

 private:
  using Connection = std::unique_ptr<StoreConnection>;
  static constexpr int kAttempts = 3;

  /// A connection that comes back by itself.
  class Lease {
   public:
    explicit Lease(Connections& home) : home_(home), connection_(home.take()) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { home_.give_back(std::move(connection_)); }
    StoreConnection& operator*() const { return *connection_; }

   private:
    Connections& home_;
    Connection connection_;
  };

  Connection take();
  Connection open();
  void give_back(Connection connection) noexcept;
  bool is_current(const StoreConnection& connection) const;
  [[noreturn]] void fail_restless() const;

  const std::filesystem::path path_;
  const std::function<Connection()> open_;
  std::mutex mutex_;
  std::condition_variable freed_;
  // Guarded by mutex_.
  std::vector<Connection> free_;
  std::size_t used_ = 0, limit_ = 1;
  FileLook file_;  // that all live connections have open; not there: none has
};

template <class Work>
auto StoreConnection::read(const Work& work) {
  constexpr int kAttempts = 4;
  for (int attempt = 1;; ++attempt) {
    std::int64_t seen = 0;
    try {
      const Transaction transaction(database, Database::Access::kRead);
      seen = database.data_version();
      return work(view);
    } catch (const Error& error) {
      if (error.code() != Code::kDataCorruption || attempt == kAttempts || database.data_version() == seen) throw;
    }
  }
}

template <class Work>
auto Connections::read(const Work& work) {
  for (int attempt = 1; attempt <= kAttempts; ++attempt) {
    const Lease connection(*this);
    auto result = (*connection).read(work);
    if (is_current(*connection)) return result;
  }
  fail_restless();
}

}  // namespace recast
