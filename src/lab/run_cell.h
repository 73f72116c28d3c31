#pragma once
#include <map>
#include <mutex>
#include <string>

#include "cell_record.h"
#include "lab_models.h"
#include "recast/run/image_pool.h"

namespace recast {

/// What the cells of one run of a lab have in common. Threads: cells may run in parallel.
struct CellSurroundings {
  const LabFile& file;
  const std::map<std::string, PreparedModel>& models;
  ImagePool& pool;
  std::string command;  ///< as typed, for the record
  const std::atomic<bool>* stop = nullptr;
};

/// What is found where a cell looks: model and images by content. Remembers the digests of images, since one dataset
/// serves many cells.
class CellInputs {
 public:
  explicit CellInputs(const CellSurroundings& around) : around_(around) {}
  /// {model: fingerprint, data: SHA-256}. Throws as open_images() and prepare_models(), and kCancelled.
  nlohmann::json of(const LabCell& cell);

 private:
  std::string data_digest(const LabTask& task, std::uint64_t seed);
  const CellSurroundings& around_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::uint64_t>, std::string> digests_;  // by task and seed of the split
};

/// Which images a cell is about.
ImageChoice images_of(const LabTask& task, std::uint64_t seed);

/// Does a cell: what is done and still holds is left alone, what was begun goes on, anything else starts afresh. A
/// fault becomes a record of state kFailed. Returns the record that is on disk now, and whether there was anything to
/// do. Throws kCancelled: stopped; the next run goes on.
struct CellOutcome {
  CellRecord record;
  bool worked = false;
  std::string note;  ///< why a cell that was done is done again, or what became of the one before; empty: nothing
};
CellOutcome run_cell(const CellSurroundings& around, CellInputs& inputs, const LabCell& cell, bool force,
                     Listener* listener);

}  // namespace recast
