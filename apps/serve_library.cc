#include "serve_library.h"

#include <dlfcn.h>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

void* serve_symbol(const std::string& name) {
  static void* const library = ::dlopen(RECAST_SERVE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  void* const symbol = library ? ::dlsym(library, name.c_str()) : nullptr;
  if (symbol) return symbol;
  fail(Code::kUnavailable,
       "[serve] the server's library cannot be loaded: {}; docs/install.md tells where it is sought",
       printable(::dlerror()));
}

}  // namespace recast
