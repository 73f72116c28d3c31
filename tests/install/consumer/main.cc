#include <recast/method/registry.h>

#include <cstdio>

int main() {
  for (const recast::MethodInfo* method : recast::Registry::instance().all()) std::puts(method->name.c_str());
}
