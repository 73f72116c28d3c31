// The YAML of --config, of a run folder's settings and of lab files.
#include "recast/run/settings.h"

#include "recast/run/settings_tree.h"
#include "target.h"

using namespace recast;

namespace {

void check_tree(std::string_view bytes) {
  const auto tree = fuzz::accepted([&] { return parse_settings_tree(std::string(bytes), "lab.yaml"); });
  if (!tree || tree->kind != SettingsTree::Kind::kMap) return;
  RECAST_FUZZ_CHECK(parse_settings_tree(settings_yaml(*tree), "written") == *tree);
}

}  // namespace

RECAST_FUZZ_TARGET(settings) {
  check_tree(bytes);
  const auto settings = fuzz::accepted([&] { return parse_settings(std::string(bytes), "settings.yaml"); });
  if (!settings) return;
  const std::string written = settings_yaml(*settings);
  RECAST_FUZZ_CHECK(parse_settings(written, "written") == *settings);
}
