#include "completion.h"

#include <fmt/format.h>

#include <functional>
#include <vector>

namespace recast {
namespace {

enum class Kind { kFlag, kWords, kFolder, kFile, kOther };

Kind kind_of(const nlohmann::json& option) {
  const std::string value = option["value"], name = option["names"][0];
  if (value.empty()) return Kind::kFlag;
  if (!option["choices"].empty()) return Kind::kWords;
  if (value == "DIR" || name == "dir") return Kind::kFolder;
  if (value == "FILE" || value == "PATH" || name == "file" || name == "images" || name == "checkpoint")
    return Kind::kFile;
  return Kind::kOther;
}

std::string spaced(const nlohmann::json& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : " ") + word.get<std::string>();
  return out;
}

nlohmann::json names_of(const nlohmann::json& commands) {
  nlohmann::json names = nlohmann::json::array();
  for (const auto& command : commands) names.push_back(command["name"]);
  return names;
}

/// Calls `visit` with "learn", "tasks", "tasks list", ...; a verb has its command's options too.
void each_command(const nlohmann::json& program,
                  const std::function<void(const std::string& path, const nlohmann::json& command)>& visit) {
  for (const auto& command : program["commands"]) {
    visit(command["name"], command);
    for (nlohmann::json verb : command["commands"]) {
      for (const auto& option : command["options"]) verb["options"].push_back(option);
      visit(command["name"].get<std::string>() + " " + verb["name"].get<std::string>(), verb);
    }
  }
}

/// In single quotes for a shell.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// ---- bash ----

std::string bash_value(const nlohmann::json& option) {
  switch (kind_of(option)) {
    case Kind::kWords:
      return "words " + spaced(option["choices"]);
    case Kind::kFolder:
      return "folder";
    case Kind::kFile:
      return "file";
    default:
      return "other";
  }
}

constexpr const char* kBashBody = R"bash(
_recast() {
  local cur=${COMP_WORDS[COMP_CWORD]} flag= path= count=0 kind= i word
  local -a words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
  COMPREPLY=()
  # "--flag=value" reaches us as three words.
  if [[ $cur == "=" ]]; then cur=; fi
  if ((${#words[@]} > 0)) && [[ ${words[-1]} == "=" ]]; then unset 'words[-1]'; fi
  for ((i = 0; i < ${#words[@]}; ++i)); do
    word=${words[i]}
    if [[ -n $flag ]]; then flag=; [[ $word == "=" ]] && flag=again
    elif [[ $word == -* ]]; then [[ -n $(_recast_value "$path $word") ]] && flag=$word
    elif [[ " $(_recast_commands "$path") " == *" $word "* ]]; then path=${path:+$path }$word count=0
    else ((++count)); fi
  done
  if [[ -n $flag ]]; then kind=$(_recast_value "$path $flag")
  elif [[ $cur == -* ]]; then kind="words $(_recast_flags "$path")"
  else
    kind=$(_recast_value "$path $count")
    local commands=$(_recast_commands "$path")
    [[ -z $commands ]] || COMPREPLY=($(compgen -W "$commands" -- "$cur"))
  fi
  case $kind in
    words\ *) COMPREPLY+=($(compgen -W "${kind#words }" -- "$cur")) ;;
    folder) compopt -o filenames 2> /dev/null; while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -d -- "$cur") ;;
    file) compopt -o filenames 2> /dev/null; while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$cur") ;;
  esac
}
complete -F _recast recast
)bash";

// ---- zsh ----

/// In a specification of _arguments, inside single quotes.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ':' || c == '[' || c == ']' || c == '\\') out += '\\';
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return out;
}

std::string zsh_action(const nlohmann::json& option) {
  switch (kind_of(option)) {
    case Kind::kWords:
      return "(" + spaced(option["choices"]) + ")";
    case Kind::kFolder:
      return "_files -/";
    case Kind::kFile:
      return "_files";
    default:
      return " ";
  }
}

std::string zsh_options(const nlohmann::json& command) {
  std::string out;
  for (const auto& option : command["options"])
    for (const auto& name : option["names"]) {
      out += fmt::format("    '{}[{}]", name.get<std::string>(), zsh_text(option["help"]));
      if (kind_of(option) != Kind::kFlag) out += fmt::format(":{}:{}", zsh_text(option["value"]), zsh_action(option));
      out += "' \\\n";
    }
  for (const auto& positional : command["positionals"])
    out += fmt::format("    '{}:{}:{}' \\\n", positional["names"][0] == "images" ? "*" : "",
                       zsh_text(positional["names"][0]), zsh_action(positional));
  return out;
}

std::string zsh_descriptions(const nlohmann::json& commands) {
  std::string out;
  for (const auto& command : commands)
    out += fmt::format("    '{}:{}'\n", command["name"].get<std::string>(), zsh_text(command["summary"]));
  return out;
}

std::string zsh_function(const nlohmann::json& command) {
  const std::string name = command["name"];
  std::string out = fmt::format("_recast_{}() {{\n  _arguments -s \\\n{}", name, zsh_options(command));
  if (command["commands"].empty()) return out + "    && return\n}\n";
  out += "    '1:verb:_recast_" + name + "_verbs' '*:: :->rest' && return\n";
  // Inside a verb the words before it are gone.
  std::string cases;
  for (const auto& verb : command["commands"])
    cases += fmt::format("    {}) _arguments -s \\\n{}    && return ;;\n", verb["name"].get<std::string>(),
                         zsh_options(verb));
  return fmt::format("_recast_{0}_verbs() {{\n  local -a verbs=(\n{1}  )\n  _describe verb verbs\n}}\n", name,
                     zsh_descriptions(command["commands"])) +
         fmt::format(
             "_recast_{0}() {{\n  local state\n  _arguments -C -s \\\n{1}    ':verb:_recast_{0}_verbs' "
             "'*:: :->rest' && return\n  case $words[1] in\n{2}  esac\n}}\n",
             name, zsh_options(command), cases);
}

// ---- fish ----

std::string fish_value(const nlohmann::json& option) {
  switch (kind_of(option)) {
    case Kind::kFlag:
      return "";
    case Kind::kWords:
      return " -x -a " + quoted(spaced(option["choices"]));
    case Kind::kFolder:
      return " -x -a '(__fish_complete_directories)'";
    case Kind::kFile:
      return " -r -F";
    default:
      return " -x";
  }
}

std::string fish_option(const std::string& condition, const nlohmann::json& option) {
  std::string out = "complete -c recast -n " + quoted(condition);
  for (const auto& each : option["names"]) {
    const std::string name = each;
    out += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  }
  return out + fish_value(option) + " -d " + quoted(option["help"]) + "\n";
}

}  // namespace

std::string bash_completion(const nlohmann::json& program) {
  std::string commands = fmt::format("    '') echo '{}' ;;\n", spaced(names_of(program["commands"])));
  std::string flags = "    '') echo '--help --version' ;;\n", values;
  each_command(program, [&](const std::string& path, const nlohmann::json& command) {
    if (!command["commands"].empty())
      commands += fmt::format("    '{}') echo '{}' ;;\n", path, spaced(names_of(command["commands"])));
    std::string known;
    for (const auto& option : command["options"])
      for (const auto& name : option["names"]) {
        known += (known.empty() ? "" : " ") + name.get<std::string>();
        if (kind_of(option) != Kind::kFlag)
          values += fmt::format("    '{} {}') echo '{}' ;;\n", path, name.get<std::string>(), bash_value(option));
      }
    flags += fmt::format("    '{}') echo '{}' ;;\n", path, known);
    int place = 0;
    for (const auto& positional : command["positionals"]) {
      const bool many = positional["names"][0] == "images";
      values += fmt::format("    '{} '{}) echo '{}' ;;\n", path, many ? "[0-9]*" : std::to_string(place++),
                            bash_value(positional));
    }
  });
  return "# bash completion for recast, made by 'recast completion bash'\n_recast_commands() {\n  case $1 in\n" +
         commands + "  esac\n}\n_recast_flags() {\n  case $1 in\n" + flags +
         "  esac\n}\n_recast_value() {\n  case $1 in\n" + values + "  esac\n}" + kBashBody;
}

std::string zsh_completion(const nlohmann::json& program) {
  std::string out = "#compdef recast\n# made by 'recast completion zsh'\n", cases;
  for (const auto& command : program["commands"]) {
    out += zsh_function(command);
    cases += fmt::format("    {0}) _recast_{0} ;;\n", command["name"].get<std::string>());
  }
  out += fmt::format("_recast_commands() {{\n  local -a commands=(\n{}  )\n  _describe command commands\n}}\n",
                     zsh_descriptions(program["commands"]));
  return out +
         "_recast() {\n  local curcontext=$curcontext state line\n  _arguments -C '(- *)'{-h,--help}'[show help]' "
         "'(- *)--version[show the version]' ':command:_recast_commands' '*:: :->rest' && return\n"
         "  case $words[1] in\n" +
         cases + "  esac\n}\nif [[ $funcstack[1] == _recast ]]; then _recast \"$@\"; else compdef _recast recast; fi\n";
}

std::string fish_completion(const nlohmann::json& program) {
  std::string out = "# fish completion for recast, made by 'recast completion fish'\ncomplete -c recast -f\n";
  for (const auto& command : program["commands"]) {
    const std::string name = command["name"], seen = "__fish_seen_subcommand_from " + name;
    out += fmt::format("complete -c recast -n __fish_use_subcommand -a {} -d {}\n", name, quoted(command["summary"]));
    for (const auto& option : command["options"]) out += fish_option(seen, option);
    for (const auto& positional : command["positionals"])
      out += fmt::format("complete -c recast -n '{}'{}\n", seen, fish_value(positional));
    for (const auto& verb : command["commands"]) {
      const std::string verb_name = verb["name"];
      out += fmt::format("complete -c recast -n '{}; and not __fish_seen_subcommand_from {}' -a {} -d {}\n", seen,
                         spaced(names_of(command["commands"])), verb_name, quoted(verb["summary"]));
      const std::string inside = seen + "; and __fish_seen_subcommand_from " + verb_name;
      for (const auto& option : verb["options"]) out += fish_option(inside, option);
      for (const auto& positional : verb["positionals"])
        if (kind_of(positional) != Kind::kOther)
          out += fmt::format("complete -c recast -n '{}'{}\n", inside, fish_value(positional));
    }
  }
  return out;
}

}  // namespace recast
