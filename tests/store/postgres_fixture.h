#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "store_place.h"

namespace recast {

/// Short enough for a test to wait for.
inline PostgresTimes quick() {
  PostgresTimes times;
  times.connect = std::chrono::seconds(2);
  times.recovery = std::chrono::milliseconds(600);
  return times;
}

class PostgresStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RECAST_NEED_POSTGRES();
    place_.emplace(StoreKind::kPostgres);
  }
  const StorePlace& place() const { return *place_; }

  std::optional<StorePlace> place_;
};

inline std::unique_ptr<TaskStore> open_url(const std::string& url, bool read_only = false,
                                           const PostgresTimes& times = {}, Verify verify = Verify::kWhole) {
  return open_postgres_store(url, fingerprint_of("base"), read_only, verify, times);
}

}  // namespace recast
