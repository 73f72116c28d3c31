// A whole safetensors file.
#include "safetensors_check.h"

using namespace recast;

RECAST_FUZZ_TARGET(safetensors) {
  const SafetensorsLimits limits;
  const auto header = fuzz::accepted([&] { return fuzz::parse_header(bytes, bytes.size(), limits); });
  if (!header) return;
  const std::string_view probe = bytes.substr(0, kSafetensorsProbeBytes);
  RECAST_FUZZ_CHECK(safetensors_prefix_bytes({reinterpret_cast<const std::byte*>(probe.data()), probe.size()},
                                             bytes.size(), limits, "input") == header->data_begin);
  fuzz::check_layout(*header, bytes.size(), limits);
  fuzz::check_rewriting(*header);
}
