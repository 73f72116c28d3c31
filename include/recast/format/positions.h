#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace recast {

/// A set of positions 0 <= p < total in few bytes: one bit each, or the gaps between them where that is shorter. The
/// length tells which; both are in docs/formats.md.
/// positions: ascending, none twice.
std::vector<std::uint8_t> encode_positions(std::span<const std::int64_t> positions, std::int64_t total);

/// The reverse, from bytes that may be anyone's: ascending. `total` >= 0 bounds the memory asked for.
/// Throws kDataCorruption: of another total, a position beyond it, bits beyond it, a gap that is cut or longer than
/// need be.
std::vector<std::int64_t> decode_positions(std::span<const std::uint8_t> bytes, std::int64_t total);

}  // namespace recast
