#pragma once
#include <string>
#include <string_view>

#include "recast/base/error.h"

namespace recast {

/// What ended a piece of work, in words for users: one line.
struct Failure {
  Code code;
  std::string message;
};

/// The exception being handled, in the words and codes of users: ours as they are, those of libtorch, of memory, files
/// and threads by what they mean, everything else as kInternal. Call it in a catch block. `less_memory`: what the user
/// may lower where memory was short, "--batch-size or --image-size"; empty: nothing.
Failure failure_at_hand(std::string_view less_memory = {});

}  // namespace recast
