// The YAML of --config and of a run folder's settings.
#include "recast/run/settings.h"

#include "target.h"

using namespace recast;

RECAST_FUZZ_TARGET(settings) {
  const auto settings = fuzz::accepted([&] { return parse_settings(std::string(bytes), "settings.yaml"); });
  if (!settings) return;
  const std::string written = settings_yaml(*settings);
  RECAST_FUZZ_CHECK(parse_settings(written, "written") == *settings);
}
