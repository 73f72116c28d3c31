#include "ranks_options.h"

namespace recast {

void RanksFlags::declare(Command& command) {
  command
      .option("--ranks", ranks,
              "auto: share the work with the processes that mpirun or torchrun started beside this one; alone: do not",
              "WHO")
      .one_of({"auto", "alone"});
  command.option("--rank-timeout", timeout, "seconds without a sign of life after which a rank is lost (default: 30)",
                 "SECONDS");
}

std::unique_ptr<Ranks> RanksFlags::open() const {
  if (ranks == "alone") return std::make_unique<Ranks>();
  RanksOptions options;
  if (timeout) {
    if (!(*timeout >= 0.1 && *timeout <= 3600))
      fail(Code::kInvalidArgument, "[ranks] --rank-timeout must lie in 0.1..3600, got {}", *timeout);
    options.silence = std::chrono::milliseconds(static_cast<std::int64_t>(*timeout * 1000));
  }
  return open_ranks(options);
}

}  // namespace recast
