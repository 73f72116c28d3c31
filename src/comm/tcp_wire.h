#pragma once
#include <memory>
#include <vector>

#include "wire.h"

namespace recast {

/// Over connected sockets, which become the wire's: sockets[r] leads to rank r, -1 where there is none. A message is 1
/// byte of kind, 8 bytes of length (little endian), and its bytes.
std::unique_ptr<Wire> tcp_wire(int rank, std::vector<int> sockets);

}  // namespace recast
