// A set of positions. The input: three bytes with the total, the set's bytes.
#include "recast/format/positions.h"

#include "target.h"

using namespace recast;

RECAST_FUZZ_TARGET(positions) {
  if (bytes.size() < 3) return;
  const auto byte = [&](std::size_t i) { return static_cast<std::int64_t>(static_cast<unsigned char>(bytes[i])); };
  const std::int64_t total = byte(0) << 16 | byte(1) << 8 | byte(2);
  const std::span set(reinterpret_cast<const std::uint8_t*>(bytes.data()) + 3, bytes.size() - 3);
  const auto positions = fuzz::accepted([&] { return decode_positions(set, total); });
  if (!positions) return;
  std::int64_t next = 0;
  for (const std::int64_t position : *positions) {
    RECAST_FUZZ_CHECK(position >= next && position < total);
    next = position + 1;
  }
  const std::vector<std::uint8_t> again = encode_positions(*positions, total);
  RECAST_FUZZ_CHECK(again.size() <= set.size());
  RECAST_FUZZ_CHECK(decode_positions(again, total) == *positions);
}
