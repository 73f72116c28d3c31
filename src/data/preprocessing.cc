#include "recast/data/preprocessing.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxSizePx = 4096;

void require(bool holds, std::string_view field, std::string_view expected) {
  if (!holds) fail(Code::kInvalidArgument, "[preprocessing] {} must be {}", field, expected);
}

[[noreturn]] void corrupt(std::string_view what, std::string_view expected) {
  fail(Code::kDataCorruption, "[preprocessing] {} must be {}", what, expected);
}

const json& field(const json& j, const char* key) {
  const auto found = j.find(key);
  if (found == j.end()) fail(Code::kDataCorruption, "[preprocessing] {} is missing", key);
  return *found;
}

// json::get() would take true for 1 and cut 224.7 down to 224.
double number(const json& value, const char* key) {
  if (!value.is_number()) corrupt(key, "a number");
  return value.get<double>();
}

std::array<double, 3> triple(const json& j, const char* key) {
  const json& list = field(j, key);
  if (!list.is_array() || list.size() != 3) corrupt(key, "a list of three numbers");
  return {number(list[0], key), number(list[1], key), number(list[2], key)};
}

void refuse_unknown_keys(const json& j) {
  for (const auto& [key, value] : j.items()) {
    if (key != "size_px" && key != "crop_pct" && key != "interpolation" && key != "mean" && key != "std") {
      fail(Code::kDataCorruption, "[preprocessing] '{}' is no key of a preprocessing", printable(key));
    }
  }
}

}  // namespace

void check(const Preprocessing& p) {
  require(p.size_px >= 1 && p.size_px <= kMaxSizePx, "size_px", fmt::format("1 to {}, got {}", kMaxSizePx, p.size_px));
  require(p.crop_pct >= 0.1 && p.crop_pct <= 1, "crop_pct", fmt::format("0.1 to 1, got {}", p.crop_pct));
  require(p.interpolation == "bicubic" || p.interpolation == "bilinear", "interpolation",
          fmt::format("bicubic or bilinear, got '{}'", printable(p.interpolation)));
  for (std::size_t c = 0; c < 3; ++c) {
    require(std::isfinite(p.mean[c]), "mean", fmt::format("finite, got {}", p.mean[c]));
    require(std::isfinite(p.std[c]) && p.std[c] > 0, "std", fmt::format("above 0, got {}", p.std[c]));
  }
}

void to_json(json& j, const Preprocessing& p) {
  j = {{"size_px", p.size_px},
       {"crop_pct", p.crop_pct},
       {"interpolation", p.interpolation},
       {"mean", p.mean},
       {"std", p.std}};
}

void from_json(const json& j, Preprocessing& p) {
  if (!j.is_object()) corrupt("the description", "an object");
  refuse_unknown_keys(j);
  const json &size = field(j, "size_px"), &interpolation = field(j, "interpolation");
  if (!size.is_number_integer() || size < 1 || size > kMaxSizePx) {
    corrupt("size_px", fmt::format("1 to {}, got {}", kMaxSizePx, printable(size.dump())));
  }
  if (!interpolation.is_string()) corrupt("interpolation", "bicubic or bilinear");
  Preprocessing read{size.get<std::int64_t>(), number(field(j, "crop_pct"), "crop_pct"),
                     interpolation.get<std::string>(), triple(j, "mean"), triple(j, "std")};
  try {
    check(read);
  } catch (const Error& e) {
    fail(Code::kDataCorruption, "{}", e.what());
  }
  p = std::move(read);
}

}  // namespace recast
