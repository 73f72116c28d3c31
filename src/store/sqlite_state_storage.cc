#include "sqlite_state_storage.h"

#include <fmt/format.h>

#include <system_error>

#include "disk.h"
#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "seals.h"

namespace recast {
namespace {

/// When a flush has failed nobody knows what the disk holds, and asking again would say that all is well.
template <class Flush>
void flush(const Database& database, const Flush& work) try {
  work();
} catch (...) {
  database.distrust();
  throw;
}

}  // namespace

std::int64_t SqliteStateStorage::write(const PackedState& state) {
  if (!state.blobs.empty()) {
    make_folder(folder_);
    for (const Blob& blob : state.blobs) place(blob);
    flush(database_, [&] {
      sync_folder(folder_);
      sync_folder(folder_.has_parent_path() ? folder_.parent_path() : ".");
    });
  }
  const std::string digest = sha256_hex(state.file);
  Statement(database_, "INSERT INTO states (file, sha256) VALUES (?, ?)").bind_blob(state.file).bind(digest).run();
  const std::int64_t id = sqlite3_last_insert_rowid(database_.handle());
  for (const Blob& blob : state.blobs) {
    const std::string shape = canonical_json(blob.bytes.sizes().vec());
    Statement(database_, "INSERT INTO blobs (state, tensor, shape, bytes, sha256) VALUES (?, ?, ?, ?, ?)")
        .bind(id)
        .bind(blob.tensor)
        .bind(shape)
        .bind(static_cast<std::int64_t>(blob.bytes.nbytes()))
        .bind(blob.sha256)
        .run();
  }
  return id;
}

void SqliteStateStorage::place(const Blob& blob) {
  const std::filesystem::path path = folder_ / blob.sha256;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored) && sha256_hex_of_file(path) == blob.sha256) return;
  AtomicFile file(path, blob.bytes.nbytes());
  file.write(bytes_of(blob.bytes));
  flush(database_, [&] { file.commit(); });
}

std::optional<StateRow> SqliteStateStorage::row(std::int64_t id, bool with_file) const {
  static const std::string with = fmt::format("SELECT sha256, {}, file FROM states WHERE id = ?", seal_holds("states"));
  static const std::string without = fmt::format("SELECT sha256, {} FROM states WHERE id = ?", seal_holds("states"));
  Statement row(database_, with_file ? with : without, kKept);
  if (!row.bind(id).step()) return {};
  row.require_seal(1);
  return StateRow{with_file ? row.blob(2) : "", row.text(0)};
}

std::vector<BlobRow> SqliteStateStorage::blob_rows(std::int64_t id) const {
  static const std::string sql = fmt::format(
      "SELECT tensor, shape, sha256, bytes, {} FROM blobs WHERE state = ? ORDER BY tensor", seal_holds("blobs"));
  std::vector<BlobRow> found;
  Statement rows(database_, sql, kKept);
  for (rows.bind(id); rows.step();) {
    rows.require_seal(4);
    found.push_back({rows.text(0), rows.text(1), rows.text(2), rows.integer(3)});
  }
  return found;
}

/// A row that was lost is still in the other index.
void SqliteStateStorage::require_no_other_blob(std::int64_t id, const std::set<std::string>& stand_ins) const {
  for (const std::string& name : stand_ins) {
    Statement other(database_, "SELECT 1 FROM blobs INDEXED BY blobs_by_content WHERE state = ? AND tensor = ?");
    if (other.bind(id).bind(name).step()) database_.fail_damaged("two indexes of blobs differ");
  }
}

std::string SqliteStateStorage::origin_of(const BlobRow& blob) const {
  return printable_path(folder_ / blob.sha256);
}

void SqliteStateStorage::read_blob(const BlobRow& blob, const Allocate& allocate) const {
  const std::filesystem::path path = folder_ / blob.sha256;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    fail(Code::kDataCorruption, "[store] {}: is missing, a task needs it; restore it from a copy", origin_of(blob));
  }
  const InputFile file(path);
  if (file.size() != static_cast<std::uint64_t>(blob.bytes)) {
    fail(Code::kDataCorruption, "[store] {}: has {} bytes, expected {}; restore it from a copy", origin_of(blob),
         file.size(), blob.bytes);
  }
  file.read_at(0, allocate());
}

std::set<std::string> SqliteStateStorage::named() const {
  std::set<std::string> names;
  for (Statement rows(database_, "SELECT sha256 FROM blobs"); rows.step();) names.insert(rows.text(0));
  return names;
}

void SqliteStateStorage::erase_unnamed() {
  database_.execute(
      "DELETE FROM states WHERE id NOT IN (SELECT state FROM versions UNION SELECT state FROM shared_versions)");
}

std::int64_t SqliteStateStorage::sweep() {
  namespace fs = std::filesystem;
  const std::set<std::string> keep = named();
  std::error_code error;
  std::int64_t swept = 0;
  for (fs::directory_iterator place(folder_, error), end; !error && place != end; place.increment(error)) {
    const fs::directory_entry& entry = *place;
    const std::string name = entry.path().filename();
    const bool ours = is_sha256(name) || (name.starts_with(".recast-") && name.ends_with(".tmp"));
    std::error_code gone;
    if (!ours || !entry.is_regular_file(gone) || keep.contains(name)) continue;
    const std::uintmax_t bytes = entry.file_size(gone);
    if (!gone && fs::remove(entry.path(), gone)) swept += static_cast<std::int64_t>(bytes);
    if (gone == std::errc::io_error) database_.distrust();
  }
  if (error == std::errc::io_error) database_.distrust();
  if (error && error != std::errc::no_such_file_or_directory) throw fs::filesystem_error("sweep", folder_, error);
  return swept;
}

}  // namespace recast
