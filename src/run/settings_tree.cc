#include "recast/run/settings_tree.h"

#include <set>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/settings.h"
#include "yaml_text.h"

namespace recast {
namespace {

constexpr int kMostLevels = 6;
constexpr int kMostValues = 20'000;

class TreeReader {
 public:
  explicit TreeReader(const std::string& origin) : origin_(origin) {}

  SettingsTree read(const YAML::Node& node, const std::string& key, int level) {
    if (level > kMostLevels)
      fail(Code::kInvalidArgument, "[config] {}: '{}' lies deeper than {} levels", origin_, printable(key),
           kMostLevels);
    count();
    if (!node.IsScalar()) refuse_tag(node, key, origin_);
    SettingsTree tree;
    if (node.IsMap()) {
      std::set<std::string> seen;
      for (const auto& entry : node) {
        const std::string name = key_text(entry.first, origin_);
        if (!seen.insert(name).second)
          fail(Code::kInvalidArgument, "[config] {}: '{}' twice", origin_, printable(name));
        tree.map.emplace_back(name, read(entry.second, name, level + 1));
      }
    } else if (node.IsSequence()) {
      tree.kind = SettingsTree::Kind::kList;
      for (const YAML::Node& value : node) {
        count();
        tree.list.push_back(scalar_text(value, key, origin_));
      }
    } else if (!node.IsNull()) {
      tree.kind = SettingsTree::Kind::kValue;
      tree.value = scalar_text(node, key, origin_);
    }
    return tree;
  }

 private:
  /// Anchors may name what names others in turn.
  void count() {
    if (++values_ > kMostValues) fail(Code::kExhausted, "[config] {}: more than {} values", origin_, kMostValues);
  }

  const std::string& origin_;
  int values_ = 0;
};

std::string list_yaml(const std::vector<std::string>& values) {
  std::string out;
  for (const std::string& value : values) out += (out.empty() ? "" : ", ") + scalar_yaml(value);
  return "[" + out + "]";
}

void write(const SettingsTree& tree, std::size_t indent, std::string& out) {
  for (const auto& [key, entry] : tree.map) {
    out += std::string(indent, ' ') + scalar_yaml(key) + ":";
    switch (entry.kind) {
      case SettingsTree::Kind::kValue:
        out += " " + scalar_yaml(entry.value) + "\n";
        break;
      case SettingsTree::Kind::kList:
        out += " " + list_yaml(entry.list) + "\n";
        break;
      case SettingsTree::Kind::kMap:
        out += entry.map.empty() ? " {}\n" : "\n";
        write(entry, indent + 2, out);
    }
  }
}

}  // namespace

const SettingsTree* SettingsTree::find(std::string_view key) const {
  for (const auto& [name, entry] : map)
    if (name == key) return &entry;
  return nullptr;
}

SettingsTree* SettingsTree::find(std::string_view key) {
  return const_cast<SettingsTree*>(std::as_const(*this).find(key));
}

std::vector<std::string> SettingsTree::keys() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : map) names.push_back(name);
  return names;
}

SettingsTree read_settings_tree(const std::filesystem::path& file) {
  return parse_settings_tree(read_file(file, kMaxConfigBytes), printable_path(file));
}

SettingsTree parse_settings_tree(const std::string& text, const std::string& origin) {
  SettingsTree tree;
  read_yaml(text, origin, [&](const YAML::Node& root) { tree = TreeReader(origin).read(root, "file", 1); });
  return tree;
}

std::string settings_yaml(const SettingsTree& tree) {
  std::string out;
  write(tree, 0, out);
  return out;
}

}  // namespace recast
