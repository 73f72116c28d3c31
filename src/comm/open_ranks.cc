#include <charconv>
#include <cstdlib>
#include <limits>
#include <string>

#include "mpi_wire.h"
#include "recast/comm/ranks.h"
#include "tcp_joining.h"

namespace recast {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// A whole number of `least` to `most` in a variable that must be there.
int number(const char* name, int least, int most) {
  const std::string text = variable(name);
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
    fail(Code::kInvalidArgument, "[ranks] the variable {} must be a whole number of {} to {}, got '{}'", name, least,
         most, text);
  return value;
}

bool set(const char* name) { return std::getenv(name) != nullptr; }

/// MPICH and what descends from it.
void refuse_other_mpi() {
  if (!set("PMI_SIZE") || !set("PMI_RANK") || variable("PMI_SIZE") == "1") return;
  fail(
      Code::kUnsupported,
      "[ranks] started by another MPI's launcher than Open MPI's (PMI_SIZE is {}): take Open MPI's mpirun, or give the "
      "ranks torchrun's variables",
      variable("PMI_SIZE"));
}

Launched launched() {
  constexpr int kMost = 1 << 16;
  Launched out;
  out.size = number("WORLD_SIZE", 1, kMost);
  out.rank = number("RANK", 0, out.size - 1);
  if (out.size == 1) return out;
  out.address = variable("MASTER_ADDR");
  if (out.address.empty())
    fail(Code::kInvalidArgument, "[ranks] WORLD_SIZE is {} and MASTER_ADDR is not set: give rank 0's address",
         out.size);
  out.port = static_cast<std::uint16_t>(number("MASTER_PORT", 1, std::numeric_limits<std::uint16_t>::max()));
  out.store_runs = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  out.run = variable("TORCHELASTIC_RUN_ID") + "/" + variable("TORCHELASTIC_RESTART_COUNT");
  return out;
}

}  // namespace

std::unique_ptr<Ranks> open_ranks(const RanksOptions& options) {
  if (set("OMPI_COMM_WORLD_SIZE")) {
    if (variable("OMPI_COMM_WORLD_SIZE") == "1") return std::make_unique<Ranks>();
    return std::make_unique<Ranks>(open_mpi_wire(), options);
  }
  if (set("RANK") && set("WORLD_SIZE")) {
    const Launched found = launched();
    if (found.size == 1) return std::make_unique<Ranks>();
    return std::make_unique<Ranks>(join_over_tcp(found, options.joining), options);
  }
  if (set("MASTER_ADDR") && (set("RANK") || set("WORLD_SIZE")))
    fail(Code::kInvalidArgument, "[ranks] of RANK and WORLD_SIZE only one is set: a launcher sets both");
  refuse_other_mpi();
  return std::make_unique<Ranks>();
}

int processes_led() {
  const bool mpirun = set("OMPI_COMM_WORLD_SIZE");
  if (variable(mpirun ? "OMPI_COMM_WORLD_RANK" : "RANK") != "0") return 1;
  const std::string size = variable(mpirun ? "OMPI_COMM_WORLD_SIZE" : "WORLD_SIZE");
  int count = 1;
  std::from_chars(size.data(), size.data() + size.size(), count);
  return count;
}

}  // namespace recast
