#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>

namespace recast {

/// What this machine offers, what recast will use, and whether a model directory is sound. Reads only.
/// `directory`: empty for the machine alone. `store`: URL of its task store; empty: its own. `environment`: [{variable,
/// value, flag, near}], the variables RECAST_* that are set and the flags that they set. Returns
/// {machine, versions, cuda: {built, devices}, memory_bytes, memory_available_bytes, plugins: count, recipes,
///  libraries: {libtorch, openmp: [paths]}, sqlite: {version, threads}, environment,
///  model: null or {directory, fingerprint, tasks, versions, unfinished: [paths], leftovers: [paths]},
///  checks: [{check, verdict: ok | warn | fail, text, remedy}], healthy: no verdict is fail}.
/// Throws nothing that a finding could say.
nlohmann::json doctor(const std::filesystem::path& directory, const std::string& store,
                      const nlohmann::json& environment);

}  // namespace recast
