#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "recast/lab/lab_file.h"

namespace recast {

/// What is known of a cell: the content of its file.
struct CellRecord {
  enum class State { kMissing, kBegun, kFailed, kDone };
  LabCell cell;
  State state = State::kMissing;
  bool stream = false;    ///< of a task of scenario class-il
  nlohmann::json asked;   ///< settings that decide the result, see asked_of()
  nlohmann::json found;   ///< {model: fingerprint, data: SHA-256 of the images and their splits}
  nlohmann::json where;   ///< {model, data}: paths, by which a begun run can go on
  nlohmann::json result;  ///< kDone; "result" or "stream_result" of docs/lab.schema.json
  nlohmann::json error;   ///< kFailed: {code, message}
  std::string fault;      ///< kMissing because the file cannot be read: why
};
std::string_view name(CellRecord::State state);

/// What the lab file asks of a cell, without paths, labels and what else leaves the result as it is:
/// {task, recipe, models: [the recipe's, then what it is made of], seed, device}.
nlohmann::json asked_of(const LabFile& file, const LabCell& cell);

std::filesystem::path cell_path(const LabFile& file, const LabCell& cell);
/// Its run folder while it learns, and after.
std::filesystem::path run_path(const LabFile& file, const LabCell& cell);

/// A file that is damaged counts as missing, with the reason in `fault`.
CellRecord read_cell(const LabFile& file, const LabCell& cell);
/// Whole or not at all. Throws as AtomicFile.
void write_cell(const LabFile& file, const CellRecord& record);

}  // namespace recast
