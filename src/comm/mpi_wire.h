#pragma once
#include <memory>

#include "wire.h"

namespace recast {

/// Open MPI, opened now: in the process of one of mpirun's ranks, once. Throws kUnsupported: there is none, it is
/// another MPI, or it lets only one thread call it.
std::unique_ptr<Wire> open_mpi_wire();

}  // namespace recast
