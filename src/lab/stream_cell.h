#pragma once
#include <nlohmann/json.hpp>

#include "recast/lab/lab_file.h"

namespace recast {

/// Learns the classes of a cell step by step and measures after each; each step is stored, so that a request that
/// resumes goes on from the last one. Returns results.json of a stream. Throws as stream_task().
nlohmann::json learn_stream_cell(const LearnRequest& request, const LabStream& stream);

/// docs/lab.schema.json, "stream_result".
nlohmann::json stream_result(const LabRecipe& recipe, const nlohmann::json& streamed);

}  // namespace recast
