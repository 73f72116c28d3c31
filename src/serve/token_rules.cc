#include <algorithm>

#include "recast/serve/model_name.h"
#include "recast/serve/token_table.h"

namespace recast {

bool grants(Role role, Right right) {
  switch (right) {
    case Right::kInfer:
      return role == Role::kInfer;
    case Right::kDescribe:
      return true;
    case Right::kRead:
      return role == Role::kRead || role == Role::kManage;
    case Right::kManage:
      return role == Role::kManage;
  }
  return false;
}

bool glob_matches(std::string_view glob, std::string_view text) {
  std::size_t g = 0, t = 0, star = glob.npos, from = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      from = t;
    } else if (g < glob.size() && (glob[g] == '?' || glob[g] == text[t])) {
      ++g, ++t;
    } else if (star != glob.npos) {  // the last * takes one character more
      g = star + 1;
      t = ++from;
    } else {
      return false;
    }
  }
  return glob.find_first_not_of('*', g) == glob.npos;
}

bool TokenIdentity::may_use(std::string_view model) const {
  model = model.substr(0, model.find(':'));
  if (model == kMixedModel) return true;
  const auto at = model.find('@');
  const std::string_view task = at == model.npos ? model : model.substr(at + 1);
  return std::ranges::any_of(tasks, [&](const std::string& glob) {
    const bool names_base = glob.find('@') != glob.npos;
    return names_base ? at != model.npos && glob_matches(glob, model) : glob_matches(glob, task);
  });
}

}  // namespace recast
