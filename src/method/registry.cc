#include "recast/method/registry.h"

namespace recast {
namespace {

std::vector<std::string>& duplicates() {
  static std::vector<std::string> names;
  return names;
}

}  // namespace

const Family* MethodInfo::family(std::string_view wanted) const {
  for (const Family& family : families)
    if (family.name == wanted) return &family;
  return nullptr;
}

Scope MethodInfo::class_scope() const {
  for (const Family& family : families)
    if (family.rows == Rows::kPerClass) return family.scope;
  return Scope::kTask;
}

Registry& Registry::mutable_instance() {
  static Registry registry;
  return registry;
}

const Registry& Registry::instance() {
  // A throw during static initialisation could not be caught, so that a duplicate speaks up at the first use.
  if (!duplicates().empty())
    fail(Code::kInternal, "[registry] two plug-ins are registered as '{}': rename one", duplicates().front());
  return mutable_instance();
}

bool Registry::add(MethodInfo info) {
  const std::string name = info.name;
  if (!mutable_instance().methods_.emplace(name, std::move(info)).second) duplicates().push_back(name);
  return true;
}

const MethodInfo& Registry::find(const std::string& name) const {
  const auto found = methods_.find(name);
  if (found != methods_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, info] : methods_) names.push_back(known);
  const std::string near = nearest(name, names);
  fail(Code::kInvalidArgument, "[plug] no plug-in '{}'{} ('recast methods' lists all {})", name,
       near.empty() ? "" : ", did you mean '" + near + "'?", names.size());
}

std::vector<const MethodInfo*> Registry::all() const {
  std::vector<const MethodInfo*> all;
  for (const auto& [name, info] : methods_) all.push_back(&info);
  return all;
}

}  // namespace recast
