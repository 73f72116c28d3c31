#pragma once
#include <nlohmann/json.hpp>
#include <vector>

#include "cell_record.h"
#include "recast/lab/lab_file.h"

namespace recast {

/// `rows` of docs/lab.schema.json: what the cells of each recipe amount to, tasks that are there at once and streams of
/// classes apart.
nlohmann::json lab_rows(const LabFile& file, const std::vector<CellRecord>& records);

}  // namespace recast
