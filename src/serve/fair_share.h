#pragma once
#include <concepts>

namespace recast {

/// Whether one of many who share something bounded may hold `own` of it where `left` would then be left for all: at
/// most three times what is left (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Trans. Networking 6(2), 1998). So
/// one alone gets three quarters, n who take all they can 3n / (3n + 1), and who comes new always finds room.
/// From 0 on `own` may be any number.
template <std::integral Count>
bool is_fair_share(Count own, Count left) {
  return own / 3 + (own % 3 != 0) <= left;
}

}  // namespace recast
