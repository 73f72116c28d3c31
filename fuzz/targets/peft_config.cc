// adapter_config.json of an adapter folder of HF PEFT, with the expressions in it.
#include "run/peft_config.h"

#include <algorithm>

#include "target.h"

using namespace recast;

RECAST_FUZZ_TARGET(peft_config) {
  const auto config = fuzz::accepted([&] { return parse_peft_config(bytes, "adapter_config.json"); });
  if (!config) return;
  const auto in_range = [](std::int64_t rank, double alpha) {
    return rank >= 1 && rank <= kMostPeftRank && alpha > 0 && alpha <= 1e6;
  };
  RECAST_FUZZ_CHECK(in_range(config->rank, config->alpha));
  const auto rules = fuzz::accepted([&] { return PeftRules(*config, "adapter_config.json"); });
  if (rules) {
    for (const char* module : {"", "q", "blocks.0.attn.qkv", "vit.layers.11.attention.q_proj",
                               "dinov2.encoder.layer.3.attention.attention.query", "a.b.c.d.0.1.2."}) {
      RECAST_FUZZ_CHECK(in_range(rules->rank(module), rules->alpha(module)));
      rules->adapts(module);
    }
  }
  // What is written is what was read; the keys of patterns are then in another order.
  const PeftConfig again = parse_peft_config(encode_peft_config(*config), "written");
  const auto sorted = [](auto pattern) {
    std::ranges::sort(pattern);
    return pattern;
  };
  RECAST_FUZZ_CHECK(again.rank == config->rank && again.alpha == config->alpha);
  RECAST_FUZZ_CHECK(again.rank_stabilised == config->rank_stabilised && again.base_model == config->base_model);
  RECAST_FUZZ_CHECK(sorted(again.rank_pattern) == sorted(config->rank_pattern));
  RECAST_FUZZ_CHECK(sorted(again.alpha_pattern) == sorted(config->alpha_pattern));
  RECAST_FUZZ_CHECK(again.modules_to_save == config->modules_to_save && again.ignored.empty());
}
