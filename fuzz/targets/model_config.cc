// config.json of a model directory.
#include "recast/format/canonical_json.h"
#include "recast/model/config.h"
#include "target.h"

using namespace recast;

RECAST_FUZZ_TARGET(model_config) {
  const auto config =
      fuzz::accepted([&] { return ModelConfig::from_json(parse_json(bytes, "config.json"), "config.json"); });
  if (!config) return;
  RECAST_FUZZ_CHECK(fault_of(config->network).empty());
  const nlohmann::json written = config->to_json();
  const ModelConfig again = ModelConfig::from_json(parse_json(written.dump(2), "written"), "written");
  RECAST_FUZZ_CHECK(canonical_json(again.to_json()) == canonical_json(written));
}
