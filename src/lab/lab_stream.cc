#include "lab_stream.h"

#include <algorithm>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

constexpr std::string_view kTask = "task", kClassIl = "class-il";

}  // namespace

const std::vector<std::string>& stream_keys() {
  static const std::vector<std::string> kKeys = {"base",  "increment",  "class-seed",         "stream",
                                                 "share", "unlabelled", "no-forward-transfer"};
  return kKeys;
}

bool asks_for_stream(const SettingsTree& entry, const SettingsTree& defaults, const Place& place) {
  const SettingsTree* own = entry.find("scenario");
  const SettingsTree* said = own ? own : defaults.find("scenario");
  if (!said) return false;
  const Place at = own ? place + ".scenario" : place + ": scenario of the defaults";
  const std::string text = value_at(*said, at);
  if (text != kClassIl && text != kTask) misfit(at, text, "task or class-il");
  return text == kClassIl;
}

void add_stream_keys(SettingTable& table, LabStream& stream) {
  StreamOptions& options = stream.options;
  table.add("base", into(options.base));
  table.add("increment", into(options.increment));
  table.add("class-seed", [&stream](const SettingsTree& entry, const Place& place) {
    const std::string text = value_at(entry, place);
    stream.classes_by_seed = text == "seed";
    if (!stream.classes_by_seed) stream.options.class_seed = count_from(text, place);
  });
  table.add("stream", [&options](const SettingsTree& entry, const Place& place) {
    const std::string text = value_at(entry, place);
    if (text != "disjoint" && text != "mixed" && text != "recurring")
      misfit(place, text, "disjoint, mixed or recurring");
    options.kind = parse_stream_kind(text);
  });
  table.add("share", into(options.share));
  table.add("unlabelled", [&stream](const SettingsTree& entry, const Place& place) {
    stream.unlabelled = value_at(entry, place);
    if (stream.unlabelled != "base" && stream.unlabelled != "all") misfit(place, stream.unlabelled, "base or all");
  });
  table.add("no-forward-transfer", [&stream](const SettingsTree& entry, const Place& place) {
    stream.forward_transfer = !flag_from(value_at(entry, place), place);
  });
}

void refuse_stream_keys(const SettingsTree& entry, const Place& place) {
  for (const std::string& key : stream_keys())
    if (entry.find(key))
      fail(Code::kInvalidArgument, "[lab] {}: '{}' belongs to tasks of scenario: class-il", printable(place, 300), key);
}

void check_lab_stream(const LabStream& stream, const std::vector<std::uint64_t>& seeds, const Place& place) {
  if (stream.options.increment == 0)
    fail(Code::kInvalidArgument, "[lab] {} does not say how many classes each step adds: increment",
         printable(place, 300));
  for (const std::uint64_t seed : seeds) {
    try {
      check(stream_of(stream, seed));
    } catch (const Error& error) {
      fail(error.code(), "[lab] {}: {}", printable(place, 300), error.what());
    }
  }
}

std::string_view scenario_name(const LabTask& task) { return task.stream ? kClassIl : kTask; }

StreamOptions stream_of(const LabStream& stream, std::uint64_t seed) {
  StreamOptions options = stream.options;
  // A seed that is too large becomes one that check() refuses as well.
  if (stream.classes_by_seed)
    options.class_seed = static_cast<std::int64_t>(std::min<std::uint64_t>(seed, std::uint64_t{1} << 32));
  return options;
}

}  // namespace recast
