#include "recast/format/positions.h"

#include "recast/base/error.h"

namespace recast {
namespace {

/// More would not fit a positive int64.
constexpr int kMostGroups = 9;

std::size_t mask_bytes(std::int64_t total) { return static_cast<std::size_t>(total / 8 + (total % 8 != 0)); }

/// Seven bits to a byte, the lowest first; the highest bit says that another byte follows.
void append_gap(std::int64_t gap, std::vector<std::uint8_t>& bytes) {
  for (; gap >= 128; gap >>= 7) bytes.push_back(static_cast<std::uint8_t>(gap | 128));
  bytes.push_back(static_cast<std::uint8_t>(gap));
}

std::int64_t take_gap(std::span<const std::uint8_t>& bytes) {
  std::int64_t gap = 0;
  for (int group = 0; group < kMostGroups && !bytes.empty(); ++group) {
    const std::uint8_t byte = bytes.front();
    bytes = bytes.subspan(1);
    gap |= static_cast<std::int64_t>(byte & 127) << (7 * group);
    if (byte & 128) continue;
    if (byte == 0 && group > 0) fail(Code::kDataCorruption, "[positions] a gap in more bytes than it needs");
    return gap;
  }
  fail(Code::kDataCorruption, "[positions] a gap without end");
}

std::vector<std::int64_t> of_mask(std::span<const std::uint8_t> bytes, std::int64_t total) {
  std::vector<std::int64_t> positions;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    for (int bit = 0; bit < 8; ++bit)
      if (bytes[i] >> bit & 1) positions.push_back(static_cast<std::int64_t>(8 * i) + bit);
  if (!positions.empty() && positions.back() >= total)
    fail(Code::kDataCorruption, "[positions] {} is set, there are {}", positions.back(), total);
  return positions;
}

std::vector<std::int64_t> of_gaps(std::span<const std::uint8_t> bytes, std::int64_t total) {
  std::vector<std::int64_t> positions;
  for (std::int64_t next = 0; !bytes.empty(); ++next) {
    const std::int64_t gap = take_gap(bytes);
    if (gap >= total - next)
      fail(Code::kDataCorruption, "[positions] {} positions after {}, there are {} in all", gap, next, total);
    positions.push_back(next += gap);
  }
  return positions;
}

}  // namespace

std::vector<std::uint8_t> encode_positions(std::span<const std::int64_t> positions, std::int64_t total) {
  std::vector<std::uint8_t> gaps;
  std::int64_t next = 0;
  for (const std::int64_t position : positions) {
    RECAST_ASSERT(position >= next && position < total);
    append_gap(position - next, gaps);
    next = position + 1;
  }
  if (gaps.size() < mask_bytes(total)) return gaps;
  std::vector<std::uint8_t> mask(mask_bytes(total));
  for (const std::int64_t position : positions) mask[position / 8] |= static_cast<std::uint8_t>(1 << position % 8);
  return mask;
}

std::vector<std::int64_t> decode_positions(std::span<const std::uint8_t> bytes, std::int64_t total) {
  if (bytes.size() > mask_bytes(total))
    fail(Code::kDataCorruption, "[positions] {} bytes for some of {} positions", bytes.size(), total);
  return bytes.size() == mask_bytes(total) ? of_mask(bytes, total) : of_gaps(bytes, total);
}

}  // namespace recast
