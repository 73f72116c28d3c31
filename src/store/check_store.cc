#include "recast/store/check_store.h"

#include <set>

#include "disk.h"
#include "recast/format/printable.h"
#include "sqlite.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::size_t kMostFaults = 20;

std::int64_t file_bytes(const fs::path& file) {
  std::error_code absent;
  const auto bytes = fs::file_size(file, absent);
  return absent ? 0 : static_cast<std::int64_t>(bytes);
}

std::vector<std::string> faults_of(Database& database) {
  std::vector<std::string> faults;
  Statement pages(database, "PRAGMA integrity_check(20)");
  while (pages.step())
    if (const std::string fault = pages.text(0); fault != "ok") faults.push_back(printable(fault, 200));
  Statement keys(database, "PRAGMA foreign_key_check");
  while (faults.size() < kMostFaults && keys.step())
    faults.push_back(fmt::format("row {} of {} refers to a row of {} that is not there", keys.integer(1),
                                 printable(keys.text(0)), printable(keys.text(2))));
  return faults;
}

std::vector<std::string> strays_of(Database& database, const fs::path& folder) {
  std::set<std::string> named;
  Statement blobs(database, "SELECT DISTINCT sha256 FROM blobs");
  while (blobs.step()) named.insert(blobs.text(0));
  std::vector<std::string> strays;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder, absent))
    if (const std::string name = entry.path().filename().string(); named.count(name) == 0) strays.push_back(name);
  return strays;
}

}  // namespace

StoreCheck check_store(const fs::path& directory) {
  const fs::path file = directory / "tasks.db";
  StoreCheck check;
  check.network = network_file_system(directory);
  if (std::error_code absent; !fs::exists(file, absent)) return check;
  Database database = Database::for_reading(file);
  check.present = true;
  check.schema = database.integer("PRAGMA user_version");
  check.faults = faults_of(database);
  if (check.schema > 0) check.strays = strays_of(database, directory / "blobs");
  check.bytes = file_bytes(file) + file_bytes(file.string() + "-wal");
  return check;
}

SqliteLibrary sqlite_library() {
  const int mode = sqlite3_threadsafe();
  return {sqlite3_libversion(), mode == 0 ? "single-thread" : mode == 1 ? "serialized" : "multi-thread"};
}

}  // namespace recast
