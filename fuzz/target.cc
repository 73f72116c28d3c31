#include "target.h"

namespace recast::fuzz {

static std::vector<Target>& registered() {
  static std::vector<Target> all;
  return all;
}

const std::vector<Target>& targets() { return registered(); }

Registration::Registration(const char* name, void (*run)(std::string_view)) { registered().push_back({name, run}); }

}  // namespace recast::fuzz
