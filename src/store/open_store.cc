#include "recast/store/open_store.h"

#include "postgres_url.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

std::unique_ptr<TaskStore> open_store(const std::filesystem::path& directory, const std::string& url,
                                      const std::string& fingerprint, bool read_only, Verify verify) {
  if (!url.empty()) return open_postgres_store(url, fingerprint, read_only, verify);
  return open_sqlite_store(directory, fingerprint, read_only, Disk::kLocal, verify);
}

std::string shown_store(const std::filesystem::path& directory, const std::string& url) {
  if (!url.empty()) return parse_postgres_url(url).shown;
  return printable_path(directory / "tasks.db");
}

void check_store_url(const std::string& url) {
  if (!url.empty()) parse_postgres_url(url);
}

void check_store_argument(const std::string& url) {
  if (url.empty() || parse_postgres_url(url).secrets.empty()) return;
  fail(Code::kInvalidArgument,
       "[store] the URL of the store holds a password, which every user of this machine could read: put it into "
       "~/.pgpass, PGPASSWORD or RECAST_STORE");
}

}  // namespace recast
