// parse_json(): what it accepts has one canonical text, which reads back to the same value.
#include "recast/format/canonical_json.h"
#include "target.h"

using namespace recast;

RECAST_FUZZ_TARGET(json) {
  const JsonLimits limits{.depth = 16, .values = 10'000};
  const auto value = fuzz::accepted([&] { return parse_json(bytes, "input", limits); });
  if (!value) return;
  const std::string text = canonical_json(*value);
  const nlohmann::json again = parse_json(text, "canonical text", limits);
  RECAST_FUZZ_CHECK(again == *value);
  RECAST_FUZZ_CHECK(canonical_json(again) == text);
}
