// The entry point that libFuzzer calls. An exception that leaves it ends the process: libFuzzer keeps the input.
#include <cstddef>
#include <cstdint>

#include "target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  recast::fuzz::targets().front().run({reinterpret_cast<const char*>(data), size});
  return 0;
}
