#include "recast/store/task_header.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "plugs_json.h"
#include "recast/base/utc.h"
#include "recast/format/canonical_json.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using nlohmann::json;

constexpr std::int64_t kFormatVersion = 1;
constexpr std::string_view kNameRule =
    "1 to 128 of the characters A-Z a-z 0-9 . _ -, no dot in front, and none of Windows' device names (con, nul, ...)";
constexpr std::array kKeys{"base_fingerprint", "created_utc", "data",    "follows",        "format",
                           "format_version",   "labels",      "metrics", "parent_version", "plugs",
                           "recipe",           "task",        "version"};
/// Only there where a task has such numbers.
constexpr std::array kOptionalKeys{"scalars", "shared/scalars"};

/// The whole text as a decimal number of at least `low`, written as the writer does, or nothing.
std::optional<std::int64_t> integer_of(std::string_view text, std::int64_t low) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || value < low || std::to_string(value) != text) return {};
  return value;
}

bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

/// What Windows takes for a device whatever follows a dot: con, nul, com1.txt, in upper and lower case.
bool is_device_name(std::string_view name) {
  std::string stem(name.substr(0, name.find('.')));
  for (char& c : stem) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (stem == "con" || stem == "prn" || stem == "aux" || stem == "nul") return true;
  return stem.size() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")) && stem[3] >= '1' && stem[3] <= '9';
}

bool is_fingerprint(std::string_view text) {
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 64 && std::all_of(text.begin(), text.end(), hex);
}

bool is_clean(std::string_view text, std::size_t max_bytes) {
  return !text.empty() && text.size() <= max_bytes && printable(text, text.size() + 1) == text;
}

bool is_plug_name(std::string_view name) {
  return is_clean(name, 128) && name.find_first_of("@#./ ") == std::string_view::npos;
}

bool is_count(const json& value) {
  if (value.is_number_unsigned()) return true;
  return value.is_number_integer() && value.get<std::int64_t>() >= 0;
}
bool is_text(const json& value) { return value.is_string(); }
bool is_number(const json& value) { return value.is_number(); }
bool is_number_or_null(const json& value) { return value.is_number() || value.is_null(); }
bool is_object_or_null(const json& value) { return value.is_object() || value.is_null(); }

/// A key of recipe, metrics or data that others rely on, where it is there; "*" stands for every key of an object.
struct KnownKey {
  const json TaskHeader::*part;
  const char *key, *below;  // below: a key within, or null
  bool (*is_right)(const json&);
  const char* expected;
};
constexpr KnownKey kKnownKeys[] = {
    {&TaskHeader::recipe, "image_size", nullptr, is_count, "recipe.image_size as a whole number"},
    {&TaskHeader::recipe, "seed", nullptr, is_count, "recipe.seed as a whole number"},
    {&TaskHeader::metrics, "validation", nullptr, is_object_or_null, "metrics.validation as an object or null"},
    {&TaskHeader::metrics, "validation", "top1", is_number_or_null, "metrics.validation.top1 as a number or null"},
    {&TaskHeader::metrics, "test", nullptr, is_object_or_null, "metrics.test as an object or null"},
    {&TaskHeader::metrics, "test", "top1", is_number_or_null, "metrics.test.top1 as a number or null"},
    {&TaskHeader::metrics, "seconds", nullptr, is_number, "metrics.seconds as a number"},
    {&TaskHeader::metrics, "run_id", nullptr, is_text, "metrics.run_id as a text"},
    {&TaskHeader::data, "path", nullptr, is_text, "data.path as a text"},
    {&TaskHeader::data, "kind", nullptr, is_text, "data.kind as a text"},
    {&TaskHeader::data, "split_seed", nullptr, is_count, "data.split_seed as a whole number"},
    {&TaskHeader::data, "sha256", nullptr, is_object_or_null, "data.sha256 as an object or null"},
    {&TaskHeader::data, "sha256", "*", is_text, "data.sha256 with texts"},
    {&TaskHeader::data, "counts", nullptr, is_object_or_null, "data.counts as an object or null"},
    {&TaskHeader::data, "counts", "*", is_count, "data.counts with whole numbers"},
    {&TaskHeader::data, "limits", nullptr, is_object_or_null, "data.limits as an object or null"},
    {&TaskHeader::data, "limits", "*", is_count, "data.limits with whole numbers"},
};

/// What writer and reader both insist on; the writer blames its caller, the reader the file.
class Checker {
 public:
  Checker(Code code, std::string_view origin) : code_(code), origin_(origin) {}

  void check(const TaskHeader& task) const {
    require(is_task_name(task.name), task.name, kNameRule);
    require(is_fingerprint(task.fingerprint), task.fingerprint, "a fingerprint of 64 lower-case hexadecimal digits");
    require(task.created_utc.empty() || parse_utc(task.created_utc), task.created_utc,
            "a time as 2026-01-31T23:59:59Z");
    require(task.version >= 0 && task.parent >= 0, std::to_string(task.version), "versions of at least 0");
    if (task.follows) {
      require(is_task_name(task.follows->name) && task.follows->version > 0, task.follows->name,
              "a shared state's name and its version from 1 on");
    }
    for (const json* part : {&task.recipe, &task.metrics, &task.data}) {
      require(part->is_object() || part->is_null(), part->type_name(), "an object as recipe, metrics and data");
    }
    for (const KnownKey& known : kKnownKeys) check_key(task.*known.part, known);
    check_labels(task.labels);
    check_plugs(task.plugs);
  }

  void require(bool good, std::string_view got, std::string_view expected) const {
    if (!good) fail(code_, "[task] {}: got '{}'; expected {}", origin_, printable(got), expected);
  }

 private:
  void check_key(const json& part, const KnownKey& known) const {
    const auto found = part.find(known.key);
    if (found == part.end()) return;
    if (!known.below) return require_kind(*found, known);
    for (const auto& [key, value] : found->items())
      if (key == known.below || std::string_view(known.below) == "*") require_kind(value, known);
  }

  void require_kind(const json& value, const KnownKey& known) const {
    if (known.is_right(value)) return;
    require(false, value.dump(-1, ' ', false, json::error_handler_t::replace), known.expected);
  }

  void check_labels(const std::vector<std::string>& labels) const {
    std::set<std::string_view> seen;
    for (const std::string& label : labels) require(seen.insert(label).second, label, "each label once");
  }

  void check_plugs(const std::vector<PlugSpec>& plugs) const {
    std::set<std::string_view> seen;
    for (const PlugSpec& plug : plugs) {
      const std::string& alias = plug.alias.empty() ? plug.method : plug.alias;
      require(is_plug_name(plug.method), plug.method, "a plug-in's name without any of @ # . / and space");
      require(is_plug_name(alias), alias, "an alias without any of @ # . / and space");
      require(seen.insert(alias).second, alias, "each plug-in's alias once");
    }
  }

  Code code_;
  std::string_view origin_;
};

json follows_json(const std::optional<SharedVersion>& follows) {
  if (!follows) return nullptr;
  return {{"name", follows->name}, {"version", std::to_string(follows->version)}};
}

[[noreturn]] void corrupt(std::string_view origin, std::string_view what) {
  fail(Code::kDataCorruption, "[task] {}: {}; the file is damaged or was not written by recast", origin, what);
}

/// The format comes first: a newer one may have other keys.
void check_format(const TaskMetadata& metadata, std::string_view origin) {
  const auto format = metadata.find("format");
  if (format == metadata.end() || format->second != "recast-task") {
    fail(Code::kUnsupported, "[task] {}: a safetensors file, but no task; expected one that 'tasks export' wrote",
         origin);
  }
  const auto text = metadata.find("format_version");
  const auto version = text == metadata.end() ? std::nullopt : integer_of(text->second, 1);
  if (!version) corrupt(origin, "no format_version");
  if (*version > kFormatVersion) {
    fail(Code::kUnsupported, "[task] {}: has format version {}, this recast reads up to {}; use a newer recast", origin,
         *version, kFormatVersion);
  }
}

void check_keys(const TaskMetadata& metadata, std::string_view origin) {
  for (const char* key : kKeys) {
    if (!metadata.contains(key)) corrupt(origin, fmt::format("its metadata lack '{}'", key));
  }
  for (const auto& [key, value] : metadata) {
    const bool known = std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end() ||
                       std::find(kOptionalKeys.begin(), kOptionalKeys.end(), key) != kOptionalKeys.end();
    if (!known) {
      corrupt(origin, fmt::format("its metadata have an unknown key '{}'", printable(key)));
    }
  }
}

class Reader {
 public:
  Reader(const TaskMetadata& metadata, std::string_view origin) : metadata_(metadata), origin_(origin) {}

  const std::string& text(const char* key) const { return metadata_.at(key); }

  json parsed(const char* key) const { return parse_json(text(key), fmt::format("{}: {}", origin_, key)); }

  std::int64_t version(const char* key) const {
    const auto value = integer_of(text(key), 0);
    if (!value) corrupt(origin_, fmt::format("{} is '{}'; expected a whole number", key, printable(text(key))));
    return *value;
  }

  std::vector<std::string> texts(const char* key) const {
    const json list = parsed(key);
    if (!list.is_array() || !std::all_of(list.begin(), list.end(), is_text)) {
      corrupt(origin_, fmt::format("{} must be a list of texts", key));
    }
    return list;
  }

  std::optional<SharedVersion> follows() const {
    const json value = parsed("follows");
    if (value.is_null()) return {};
    const bool good = value.is_object() && value.size() == 2 && value.contains("name") && value["name"].is_string() &&
                      value.contains("version") && value["version"].is_string();
    const auto version = good ? integer_of(value["version"].get_ref<const std::string&>(), 1) : std::nullopt;
    if (!version) corrupt(origin_, "follows must be null or hold a name and a version");
    return SharedVersion{value["name"], *version};
  }

 private:
  const TaskMetadata& metadata_;
  std::string_view origin_;
};

}  // namespace

bool is_task_name(std::string_view name) {
  const auto allowed = [](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; };
  return !name.empty() && name.size() <= 128 && name.front() != '.' && std::all_of(name.begin(), name.end(), allowed) &&
         !is_device_name(name);
}

void check_task_name(std::string_view name) {
  if (is_task_name(name)) return;
  fail(Code::kInvalidArgument, "[task] '{}' cannot be a task's name; expected {}", printable(name), kNameRule);
}

void check_number_name(std::string_view plug, std::string_view name, Code code, std::string_view origin) {
  const Checker checker(code, origin);
  checker.require(is_plug_name(plug), plug, "a plug-in's name without any of @ # . / and space");
  checker.require(is_clean(name, 383), name, "a number's name: family@slot#key, at most 383 bytes of visible text");
}

TaskMetadata encode_task_header(const TaskHeader& task, std::string_view origin) {
  Checker(Code::kInvalidArgument, origin).check(task);
  return {{"format", "recast-task"},
          {"format_version", std::to_string(kFormatVersion)},
          {"task", task.name},
          {"base_fingerprint", task.fingerprint},
          {"created_utc", task.created_utc},
          {"version", std::to_string(task.version)},
          {"parent_version", std::to_string(task.parent)},
          {"follows", canonical_json(follows_json(task.follows))},
          {"labels", canonical_json(task.labels)},
          {"plugs", encode_plugs(task.plugs)},
          {"recipe", canonical_json(task.recipe)},
          {"metrics", canonical_json(task.metrics)},
          {"data", canonical_json(task.data)}};
}

TaskHeader decode_task_header(const TaskMetadata& metadata, std::string_view origin) {
  check_format(metadata, origin);
  check_keys(metadata, origin);
  const Reader reader(metadata, origin);
  TaskHeader task{.name = reader.text("task"),
                  .fingerprint = reader.text("base_fingerprint"),
                  .plugs = decode_plugs(reader.text("plugs"), origin),
                  .labels = reader.texts("labels"),
                  .recipe = reader.parsed("recipe"),
                  .metrics = reader.parsed("metrics"),
                  .data = reader.parsed("data"),
                  .version = reader.version("version"),
                  .parent = reader.version("parent_version"),
                  .follows = reader.follows(),
                  .created_utc = reader.text("created_utc")};
  Checker(Code::kDataCorruption, origin).check(task);
  return task;
}

}  // namespace recast
