#include <memory>

#include "command_line.h"
#include "recast/serve/server.h"
#include "serve_library.h"

namespace recast {

void add_token(CommandLine& line) {
  auto request = std::make_shared<TokenRequest>();
  auto file = std::make_shared<std::string>();
  Command& command = line.add("token", "make a token for clients of the server",
                              "recast token tokens.yaml ci --role infer --tasks 'cars*'");
  command.option("file", *file, "the token file; it is made if there is none, and keeps no token").required();
  command.option("name", request->name, "what logs call the token").required();
  command.option("--role", request->roles, "what it allows; several times for more", "ROLE")
      .one_of({"infer", "read", "manage"})
      .required();
  command.option("--tasks", request->tasks, "for which tasks, * and ? stand for any text (default: '*'); several times",
                 "GLOB");
  command.option("--expires", request->expires, "until when, as 2027-01-31T00:00:00Z (default: for ever)", "TIME");
  command.on([&line, request, file] {
    request->file = *file;
    if (request->tasks.empty()) request->tasks = {"*"};
    const auto add = *static_cast<const RecastAddToken*>(serve_symbol("recast_add_token"));
    const std::string token = add(*request);
    line.print({{"file", *file}, {"name", request->name}, {"token", token}},
               [](const nlohmann::json& made) { return made["token"].get<std::string>() + "\n"; });
  });
}

}  // namespace recast
