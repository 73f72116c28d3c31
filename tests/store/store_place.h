#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/becomes_true.h"
#include "format/temporary_folder.h"
#include "recast/store/open_store.h"
#include "store/postgres_server.h"
#include "store/sample_task.h"

namespace recast {

enum class StoreKind { kSqlite, kPostgres };

/// An empty place for one store of a kind, opened as often as a test likes.
class StorePlace {
 public:
  explicit StorePlace(StoreKind kind) : kind_(kind) {
    if (kind == StoreKind::kPostgres) database_ = PostgresServer::shared().new_database();
  }

  std::unique_ptr<TaskStore> open(bool read_only = false, const std::string& backbone = "base",
                                  Verify verify = Verify::kWhole) const {
    return open_store(folder_.path(), url(), fingerprint_of(backbone), read_only, verify);
  }
  std::unique_ptr<TaskStore> serve() const { return open(true, "base", Verify::kAsRead); }

  StoreKind kind() const { return kind_; }
  const TemporaryFolder& folder() const { return folder_; }
  const std::string& database() const { return database_; }
  std::string url() const { return database_.empty() ? "" : PostgresServer::shared().url(database_); }

  /// How many tensors are stored by their content.
  std::size_t blobs() const {
    if (!database_.empty()) return std::stoul(sql("SELECT count(DISTINCT sha256) FROM recast.contents"));
    std::error_code absent;
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder_ / "blobs", absent), {}));
  }
  /// Whether nothing was ever made here.
  bool untouched() const {
    if (!database_.empty()) return sql("SELECT to_regnamespace('recast') IS NULL") == "t";
    return folder_.entries() == 0;
  }
  std::string sql(const std::string& statement) const { return PostgresServer::shared().sql(database_, statement); }

 private:
  const StoreKind kind_;
  TemporaryFolder folder_;
  std::string database_;
};

inline std::vector<std::string> names_of(const std::vector<TaskSummary>& tasks) {
  std::vector<std::string> names;
  for (const TaskSummary& task : tasks) names.push_back(task.name);
  return names;
}

/// Whether changes() gives another number than `before`: at once, or soon where news must travel.
inline bool changes_from(const TaskStore& store, std::int64_t before, StoreKind kind) {
  const auto changed = [&] { return store.changes() != before; };
  return kind == StoreKind::kSqlite ? changed() : becomes_true(changed);
}

/// Tests of what every kind of store promises.
class EveryStore : public ::testing::TestWithParam<StoreKind> {
 protected:
  void SetUp() override {
    if (GetParam() == StoreKind::kPostgres) RECAST_NEED_POSTGRES();
    place_.emplace(GetParam());
  }
  const StorePlace& place() const { return *place_; }

 private:
  std::optional<StorePlace> place_;
};

#define RECAST_FOR_EVERY_STORE(suite)                                                                \
  INSTANTIATE_TEST_SUITE_P(Each, suite, ::testing::Values(StoreKind::kSqlite, StoreKind::kPostgres), \
                           [](const auto& kind) { return kind.param == StoreKind::kSqlite ? "Sqlite" : "Postgres"; })

}  // namespace recast
