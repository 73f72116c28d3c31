#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>

namespace recast {

/// What a safetensors file holds, whoever wrote it, a task file too:
/// {file, bytes, metadata: {key: text}, tensors: [{name, dtype, shape, bytes, nan, infinite}]}; nan and infinite count
/// values. `allow_nonfinite`: show a file with such values instead of refusing it; nothing else reads one.
/// Throws as read_tensor_file(); kDataCorruption: NaN or infinity.
nlohmann::json inspect_file(const std::filesystem::path& file, bool allow_nonfinite);

/// The same for each *.safetensors file of a model directory, which may be one that no other command opens:
/// {directory, files: [...]}. Throws kNotFound: no such directory, or no such file in it.
nlohmann::json inspect_files(const std::filesystem::path& directory, bool allow_nonfinite);

}  // namespace recast
