#include "change_watch.h"

#include "schema.h"

namespace recast {

std::int64_t ChangeWatch::changes() {
  const std::lock_guard lock(mutex_);
  if (database_) {
    follow_connection();
  } else {
    follow_file();
  }
  return count_;
}

void ChangeWatch::follow_connection() {
  require_same_file(path_, look_.database);
  const std::int64_t version = database_->data_version();
  if (version == version_) return;
  require_known_schema(*database_);
  version_ = version;
  ++count_;
}

/// Until there is a file that can be followed by a connection: the first call, an absent store, one on a read-only
/// disk.
void ChangeWatch::follow_file() {
  const StoreLook look = look_at_store(path_);
  if (count_ > 0 && look == look_) return;
  std::optional<Database> database;
  if (look.database.there()) database = Database::for_reading(path_, Database::Lying::kWatched);
  if (database && database->live()) {
    version_ = database->data_version();
    require_same_file(path_, look.database);
    database_ = std::move(database);
  }
  look_ = look;
  ++count_;
}

}  // namespace recast
