#include "recast/run/inspect_file.h"

#include <algorithm>
#include <vector>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/format/tensor_file.h"

namespace recast {
namespace {

namespace fs = std::filesystem;

nlohmann::json describe(const std::string& name, const at::Tensor& tensor) {
  const NonFinite found = count_non_finite(tensor);
  return {{"name", name},
          {"dtype", c10::toString(tensor.scalar_type())},
          {"shape", tensor.sizes().vec()},
          {"bytes", tensor.nbytes()},
          {"nan", found.nan},
          {"infinite", found.infinite}};
}

}  // namespace

nlohmann::json inspect_file(const fs::path& file, bool allow_nonfinite) {
  const TensorFile read = read_tensor_file(file);
  if (!allow_nonfinite) require_finite(read.tensors, printable_path(file));
  nlohmann::json tensors = nlohmann::json::array();
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : read.tensors) {
    tensors.push_back(describe(name, tensor));
    bytes += tensor.nbytes();
  }
  return {
      {"file", printable_path(file)}, {"bytes", bytes}, {"metadata", read.metadata}, {"tensors", std::move(tensors)}};
}

nlohmann::json inspect_files(const fs::path& directory, bool allow_nonfinite) {
  std::error_code error;
  if (!fs::is_directory(directory, error))
    fail(Code::kNotFound, "[inspect] {}: no such directory", printable_path(directory));
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
  }
  if (found.empty()) fail(Code::kNotFound, "[inspect] {}: holds no safetensors file", printable_path(directory));
  std::sort(found.begin(), found.end());
  nlohmann::json files = nlohmann::json::array();
  for (const fs::path& file : found) files.push_back(inspect_file(file, allow_nonfinite));
  return {{"directory", printable_path(directory)}, {"files", std::move(files)}};
}

}  // namespace recast
