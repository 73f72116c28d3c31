#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>

#include "recast/method/contract.h"

namespace recast {

// What a head that learns without gradient asks of the rows it learns from, and where it keeps what they teach.

/// Adds rows for new columns to a family of the shared state: creates it, or continues the one that is there. Throws as
/// Context::create().
void append_rows(Context& context, std::string_view family, const at::Tensor& rows);

/// The batch's "features" [B, D]. Throws kDataCorruption naming the sample of the first row with NaN or infinity.
at::Tensor finite_features(std::string_view plug, const Fields& in, const Batch& truth);

/// The batch's "label" [B] int64, each a column of a head of so many classes. Throws kInvalidArgument naming the sample
/// and its label: labels are the columns of the class registry, never ids from outside.
at::Tensor known_columns(std::string_view plug, const Batch& truth, std::int64_t classes);

/// One pass without training over `source`, asked for once in a run: nothing from the second time on. The plug-in
/// declares the family `passed` (kRun, int64) that remembers it.
std::optional<Phase> one_pass(Context& context, std::string name, std::string source = "train_plain");
inline constexpr std::string_view kPassed = "passed";

}  // namespace recast
