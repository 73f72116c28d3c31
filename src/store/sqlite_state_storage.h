#pragma once
#include <filesystem>
#include <utility>

#include "sqlite.h"
#include "state_storage.h"

namespace recast {

/// StateStorage in SQLite: rows of the tables `states` and `blobs`, and a file in `folder` for each blob, on the disk
/// before the row that names it is committed. Nobody else sweeps the folder during a SealedTransaction.
/// Owns  nothing; the database outlives it.
class SqliteStateStorage final : public StateStorage {
 public:
  SqliteStateStorage(Database& database, std::filesystem::path folder)
      : database_(database), folder_(std::move(folder)) {}

  std::int64_t write(const PackedState& state) override;
  void erase_unnamed() override;
  std::int64_t sweep() override;

 private:
  std::string shown() const override { return database_.shown(); }
  std::optional<StateRow> row(std::int64_t id, bool with_file) const override;
  std::vector<BlobRow> blob_rows(std::int64_t id) const override;
  void require_no_other_blob(std::int64_t id, const std::set<std::string>& stand_ins) const override;
  std::string origin_of(const BlobRow& blob) const override;
  void read_blob(const BlobRow& blob, const Allocate& allocate) const override;
  void place(const Blob& blob);
  std::set<std::string> named() const;

  Database& database_;
  std::filesystem::path folder_;
};

}  // namespace recast
