#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "recast/data/example.h"
#include "source.h"

namespace recast {

/// Which record goes where. rows[split][i] is the record of examples[split][i].
struct Partition {
  std::vector<std::string> classes;
  std::array<std::vector<Example>, 3> examples;
  std::array<std::vector<std::size_t>, 3> rows;
};

/// Splits as open_dataset() says. `origin` names the dataset in error texts.
Partition partition(const std::vector<Record>& records, std::uint64_t split_seed, const std::string& origin);

/// What orders examples within a class for splits and limits: a SHA-256 of seed and id, in hexadecimal.
std::string split_order(const std::string& id, std::uint64_t split_seed);

}  // namespace recast
