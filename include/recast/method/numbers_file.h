#pragma once
#include <string>
#include <string_view>

#include "recast/format/tensor_file.h"
#include "recast/method/state.h"

namespace recast {

/// "task", "shared", "client", "live", "run".
std::string_view name(Scope scope);

/// Adds the numbers of one scope to a file: tensors as "PREFIXplug.family@slot#key", scalars in the metadata entry
/// "PREFIXscalars" as JSON {"plug.family@slot#key": {"integer": 3} | {"real": "0x1.8p+1"} | {"text": "..."}}.
void pack_numbers(const Numbers& numbers, Scope scope, const std::string& prefix, TensorFile& file);
/// The reverse; bit-equal. Throws kDataCorruption on a name without a plug-in or a damaged scalar.
void unpack_numbers(const TensorFile& file, Scope scope, const std::string& prefix, Numbers& numbers);

}  // namespace recast
