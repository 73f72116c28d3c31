#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "postgres_rows.h"
#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

/// Of a blob, in one row: whole ones would have to lie in memory several times, and end at 1 GiB.
constexpr std::size_t kPartBytes = 8 << 20;

constexpr const char* kBlobColumns = "fingerprint, state, tensor, shape, bytes, sha256, seal";
constexpr int kBlobWidth = 6;

}  // namespace

std::int64_t PostgresStateStorage::write(const PackedState& state) {
  PostgresRows next = database_.query("SELECT nextval('recast.state_ids')");
  next.step();
  const std::int64_t id = next.integer(0);
  PostgresValues values;
  values.add(id).add(fingerprint_).add(sha256_hex(state.file)).add_seal("states");
  database_.query("INSERT INTO recast.states (id, fingerprint, sha256, seal, file) VALUES ($1, $2, $3, $4, $5)",
                  values.add_bytes(state.file));
  for (const Blob& blob : state.blobs) write_blob(id, blob);
  return id;
}

void PostgresStateStorage::write_blob(std::int64_t id, const Blob& blob) {
  static const std::string sql =
      fmt::format("INSERT INTO recast.blobs ({}) VALUES ($1, $2, $3, $4, $5, $6, $7)", kBlobColumns);
  place(blob);
  PostgresValues values;
  values.add(fingerprint_).add(id).add(blob.tensor);
  values.add(canonical_json(blob.bytes.sizes().vec()));
  values.add(static_cast<std::int64_t>(blob.bytes.nbytes())).add(blob.sha256).add_seal("blobs");
  database_.query(sql, values);
}

void PostgresStateStorage::place(const Blob& blob) {
  if (has(blob)) return;
  database_.query("DELETE FROM recast.contents WHERE fingerprint = $1 AND sha256 = $2", key(blob.sha256));
  const std::string_view bytes = bytes_of(blob.bytes);
  for (std::size_t at = 0; at < bytes.size(); at += kPartBytes) {
    const auto part = static_cast<std::int64_t>(at / kPartBytes);
    database_.query("INSERT INTO recast.contents (fingerprint, sha256, part, bytes) VALUES ($1, $2, $3, $4)",
                    key(blob.sha256).add(part).add_bytes(bytes.substr(at, kPartBytes)));
  }
}

/// Part by part, since no value of the database may be larger than 1 GiB.
bool PostgresStateStorage::has(const Blob& blob) const {
  PostgresRows parts = database_.query(
      "SELECT encode(sha256(bytes), 'hex') FROM recast.contents WHERE fingerprint = $1 AND sha256 = $2 ORDER BY part",
      key(blob.sha256));
  const std::string_view bytes = bytes_of(blob.bytes);
  std::size_t at = 0;
  for (; parts.step(); at += kPartBytes) {
    if (at >= bytes.size() || parts.text(0) != sha256_hex(bytes.substr(at, kPartBytes))) return false;
  }
  return at >= bytes.size();
}

std::optional<StateRow> PostgresStateStorage::row(std::int64_t id, bool with_file) const {
  PostgresRows row = database_.query(
      fmt::format("SELECT id, fingerprint, sha256, seal{} FROM recast.states WHERE id = $1", with_file ? ", file" : ""),
      PostgresValues().add(id));
  if (!row.step()) return {};
  row.require_seal("states", 0, 3);
  return StateRow{with_file ? row.text(4) : "", row.text(2)};
}

std::vector<BlobRow> PostgresStateStorage::blob_rows(std::int64_t id) const {
  static const std::string sql =
      fmt::format("SELECT {} FROM recast.blobs WHERE state = $1 ORDER BY tensor", kBlobColumns);
  std::vector<BlobRow> found;
  PostgresRows rows = database_.query(sql, PostgresValues().add(id));
  while (rows.step()) {
    rows.require_seal("blobs", 0, kBlobWidth);
    found.push_back({rows.text(2), rows.text(3), rows.text(5), rows.integer(4)});
  }
  return found;
}

/// There is no second index to ask.
void PostgresStateStorage::require_no_other_blob(std::int64_t, const std::set<std::string>&) const {}

std::string PostgresStateStorage::origin_of(const BlobRow& blob) const {
  return fmt::format("{}: blob {}", shown(), blob.sha256);
}

void PostgresStateStorage::read_blob(const BlobRow& blob, const Allocate& allocate) const {
  PostgresRows sizes = database_.query(
      "SELECT length(bytes)::bigint FROM recast.contents WHERE fingerprint = $1 AND sha256 = $2 ORDER BY part",
      key(blob.sha256));
  std::vector<std::int64_t> parts;
  std::int64_t total = 0;
  for (; sizes.step(); total += parts.back()) parts.push_back(sizes.integer(0));
  if (total != blob.bytes) {
    fail(Code::kDataCorruption, "[store] {}: has {} bytes, expected {}; restore it from a copy", origin_of(blob), total,
         blob.bytes);
  }
  std::span<std::byte> left = allocate();
  for (std::size_t part = 0; part < parts.size(); ++part) {
    PostgresRows row = database_.query(
        "SELECT bytes FROM recast.contents WHERE fingerprint = $1 AND sha256 = $2 ORDER BY part OFFSET $3 LIMIT 1",
        key(blob.sha256).add(static_cast<std::int64_t>(part)));
    const std::string_view bytes = row.step() ? row.bytes(0) : std::string_view();
    RECAST_ASSERT(bytes.size() == static_cast<std::size_t>(parts[part]));  // one state of the database throughout
    std::memcpy(left.data(), bytes.data(), bytes.size());
    left = left.subspan(bytes.size());
  }
}

void PostgresStateStorage::erase_unnamed() {
  database_.query(
      "DELETE FROM recast.states s WHERE fingerprint = $1 AND NOT EXISTS (SELECT 1 FROM recast.versions WHERE state = "
      "s.id) AND NOT EXISTS (SELECT 1 FROM recast.shared_versions WHERE state = s.id)",
      PostgresValues(fingerprint_));
  sweep();
}

std::int64_t PostgresStateStorage::sweep() {
  PostgresRows swept = database_.query(
      "WITH gone AS (DELETE FROM recast.contents c WHERE fingerprint = $1 AND NOT EXISTS (SELECT 1 FROM recast.blobs "
      "WHERE fingerprint = $1 AND sha256 = c.sha256) RETURNING length(bytes) AS bytes) SELECT "
      "coalesce(sum(bytes), 0)::bigint FROM gone",
      PostgresValues(fingerprint_));
  return swept.step() ? swept.integer(0) : 0;
}

}  // namespace recast
