#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "command_line.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/run/task_commands.h"
#include "table.h"

namespace recast {
namespace {

constexpr const char* kReference = "NAME, NAME:VERSION or NAME:TAG";

struct TasksFlags {
  std::string directory, store, task, other, file, as, version, tag, format = "recast", names, base_model, labels;
  bool all = false, purge = false, force = false, remove = false;
};

std::vector<std::string> summary_row(const nlohmann::json& task) {
  return {task["task"].get<std::string>() + (task["removed"].get<bool>() ? " (removed)" : ""),
          std::to_string(task["version"].get<std::int64_t>()),
          task["tags"].empty() ? "-" : joined(task["tags"]),
          std::to_string(task["classes"].get<std::int64_t>()),
          share_or_dash(task["validation_top1"]),
          share_or_dash(task["test_top1"]),
          std::to_string(task["state_bytes"].get<std::int64_t>()),
          task["created_utc"].get<std::string>(),
          joined(task["plugs"], " + ")};
}

std::string summaries_text(const nlohmann::json& tasks) {
  if (tasks.empty()) return "no tasks yet: 'recast learn' makes one\n";
  Table table({"task", "version", "tags", "classes", "validation top1", "test top1", "bytes", "created", "plug-ins"});
  for (const auto& task : tasks) table.add(summary_row(task));
  return table.text();
}

std::string values_text(const nlohmann::json& number) {
  constexpr std::size_t kShown = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, number["values"].size()); ++i) {
    const auto& value = number["values"][i];
    text += (i > 0 ? " " : "") + (value.is_number_float() ? fmt::format("{:.4g}", value.get<double>()) : value.dump());
  }
  return number["values"].size() > kShown ? text + " ..." : text;
}

/// The first labels, as many as fit, and how many there are besides.
std::string labels_text(const nlohmann::json& labels) {
  constexpr std::size_t kShownBytes = 400;
  std::string text;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const std::string label = printable(labels[i].get<std::string>());
    if (text.size() + label.size() > kShownBytes) return text + fmt::format(", and {} more", labels.size() - i);
    text += (i > 0 ? ", " : "") + label;
  }
  return text;
}

std::string show_text(const nlohmann::json& task) {
  std::string out =
      fmt::format("task {} version {}, {}\nplug-ins: {}\nlabels ({}): {}\n", task["task"].get<std::string>(),
                  task["version"].get<std::int64_t>(), task["created_utc"].get<std::string>(),
                  joined(task["plugs"], " + "), task["labels"].size(), labels_text(task["labels"]));
  if (task["data"].is_object() && task["data"].contains("path") && task["data"]["path"].is_string())
    out += "learned from " + printable(task["data"]["path"].get<std::string>(), 4096) + "\n";
  if (!task["follows"].is_null())
    out += fmt::format("follows shared state {} version {}\n", task["follows"]["name"].get<std::string>(),
                       task["follows"]["version"].get<std::int64_t>());
  Table table({"plug-in", "scope", "number", "dtype", "shape", "values"});
  for (const auto& number : task["numbers"])
    table.add({number["plug"].get<std::string>(), number["scope"].get<std::string>(), number["name"].get<std::string>(),
               number["dtype"].get<std::string>(), number.contains("shape") ? number["shape"].dump() : "",
               values_text(number)});
  return out + "\n" + table.text();
}

std::string diff_text(const nlohmann::json& diff) {
  if (diff["equal"].get<bool>()) return "equal\n";
  std::string out = fmt::format("labels {}, plug-ins {}\n", diff["labels_equal"].get<bool>() ? "equal" : "differ",
                                diff["plugs_equal"].get<bool>() ? "equal" : "differ");
  Table table({"plug-in", "number", "in", "largest difference"});
  for (const auto& number : diff["numbers"])
    if (!number["equal"].get<bool>())
      table.add({number["plug"].get<std::string>(), number["name"].get<std::string>(), number["in"].get<std::string>(),
                 number["largest_difference"].is_null()
                     ? "-"
                     : fmt::format("{:.6g}", number["largest_difference"].get<double>())});
  return out + table.text();
}

std::string tags_text(const nlohmann::json& tags) {
  if (tags["tags"].empty()) return "no tags\n";
  Table table({"tag", "version"});
  for (const auto& tag : tags["tags"])
    table.add({tag["tag"].get<std::string>(), std::to_string(tag["version"].get<std::int64_t>())});
  return table.text();
}

std::string tagged_text(const nlohmann::json& tag) {
  const std::string name = tag["task"].get<std::string>() + ":" + tag["tag"].get<std::string>();
  if (tag.contains("removed")) return fmt::format("tag {} removed\n", name);
  return fmt::format("{} is version {}\n", name, tag["version"].get<std::int64_t>());
}

using Verb = std::function<void(const ModelDirectory&)>;

/// A verb below `tasks`, which goes on understanding the flags of `tasks`.
Command& add_verb(Command& tasks, const std::shared_ptr<TasksFlags>& flags, const std::string& name,
                  const std::string& summary, bool writes, Verb run) {
  Command& verb = tasks.add(name, summary);
  verb.on([flags, writes, run = std::move(run)] {
    run(ModelDirectory::open(flags->directory, !writes, at::kCPU, flags->store));
  });
  return verb;
}

std::string exported_text(const nlohmann::json& report) {
  std::string out =
      fmt::format("{}: task {} version {}, {}\n", report["file"].get<std::string>(), report["task"].get<std::string>(),
                  report["version"].get<std::int64_t>(), bytes_text(report["bytes"].get<double>()));
  if (!report.contains("format")) return out;
  out += fmt::format("an adapter folder of PEFT: {} modules as {} names them, base model {}\n",
                     report["modules"].get<std::int64_t>(), report["names"].get<std::string>(),
                     printable(report["base_model"].get<std::string>(), 200));
  for (const auto& note : report["notes"]) out += "note: " + note.get<std::string>() + "\n";
  return out;
}

std::string imported_text(const nlohmann::json& report) {
  std::string out = fmt::format("task {} version {}: {} classes\n", report["task"].get<std::string>(),
                                report["version"].get<std::int64_t>(), report["classes"].get<std::int64_t>());
  if (!report.contains("format")) return out;
  out += fmt::format("an adapter of PEFT: {} modules as {} names them, base model {}{}\n",
                     report["modules"].get<std::int64_t>(), report["names"].get<std::string>(),
                     report["base_model"] == "" ? "not named" : report["base_model"].get<std::string>(),
                     report["head"] == "adapter" ? "" : ", classifier of the task 'pretrained'");
  if (!report["ignored"].empty())
    out += "note: fields of its config that are not known here were left out: " + joined(report["ignored"]) + "\n";
  return out;
}

void add_export(CommandLine& line, Command& tasks, const std::shared_ptr<TasksFlags>& flags) {
  auto& out = add_verb(
      tasks, flags, "export", "write a task to one file, or to an adapter folder of PEFT", false,
      [&line, flags](auto& d) {
        const bool peft = flags->format == "peft";
        if (!peft && !(flags->names.empty() && flags->base_model.empty()))
          fail(Code::kInvalidArgument, "[usage] --names and --base-model need --format peft");
        line.print(peft ? export_peft_folder(d, flags->task, flags->file, flags->names, flags->base_model, line.force())
                        : export_task(d, flags->task, flags->file, line.force()),
                   exported_text);
      });
  out.option("task", flags->task, kReference).required();
  out.option("file", flags->file, "the .safetensors file to write, or the folder").required();
  out.option("--format", flags->format, "recast: a task file; peft: adapter_config.json and adapter_model.safetensors",
             "NAME")
      .one_of({"recast", "peft"});
  out.option("--names", flags->names, "whose module names; transformers4: those before version 5", "LIBRARY")
      .one_of({"timm", "transformers", "transformers4"});
  out.option("--base-model", flags->base_model, "what the folder names as its base model", "ID");
}

void add_reading_verbs(CommandLine& line, Command& tasks, const std::shared_ptr<TasksFlags>& flags) {
  auto& list = add_verb(tasks, flags, "list", "the newest version of every task", false, [&line, flags](auto& d) {
    line.print(list_tasks(d, flags->all), [](const auto& j) { return summaries_text(j["tasks"]); });
  });
  list.flag("--all", flags->all, "removed ones too");
  auto& show = add_verb(tasks, flags, "show", "all that is stored of a task", false,
                        [&line, flags](auto& d) { line.print(show_task(d, flags->task), show_text); });
  show.option("task", flags->task, kReference).required();
  auto& log = add_verb(tasks, flags, "log", "all versions of a task", false, [&line, flags](auto& d) {
    line.print(log_task(d, flags->task), [](const auto& j) { return summaries_text(j["versions"]); });
  });
  log.option("task", flags->task, "the task").required();
  auto& diff = add_verb(tasks, flags, "diff", "compare two tasks or versions", false,
                        [&line, flags](auto& d) { line.print(diff_tasks(d, flags->task, flags->other), diff_text); });
  diff.option("a", flags->task, kReference).required();
  diff.option("b", flags->other, kReference).required();
  add_export(line, tasks, flags);
}

void add_tag(CommandLine& line, Command& tasks, const std::shared_ptr<TasksFlags>& flags) {
  Command& tag = tasks.add("tag", "name a version; without TAG, list a task's tags");
  tag.on([&line, flags] {
    if (flags->tag.empty() && flags->remove) fail(Code::kInvalidArgument, "[usage] tag --remove needs the tag's name");
    const ModelDirectory directory = ModelDirectory::open(flags->directory, flags->tag.empty(), at::kCPU, flags->store);
    if (flags->tag.empty()) {
      line.print(list_tags(directory, flags->task), tags_text);
    } else {
      line.print(flags->remove ? untag_task(directory, flags->task, flags->tag)
                               : tag_task(directory, flags->task, flags->tag, line.force()),
                 tagged_text);
    }
  });
  tag.option("task", flags->task,
             std::string(kReference) + ": the version to be named (default: the newest); to list or remove, the task")
      .required();
  tag.option("tag", flags->tag, "1 to 128 of A-Z a-z 0-9 . _ - and not digits alone; --force moves it");
  tag.flag("--remove", flags->remove, "remove the tag; the version stays");
}

void add_writing_verbs(CommandLine& line, Command& tasks, const std::shared_ptr<TasksFlags>& flags) {
  auto& in = add_verb(tasks, flags, "import", "take a task in from a file or from an adapter folder of PEFT", true,
                      [&line, flags](auto& d) {
                        line.print(import_task_file(d, flags->file, flags->as, flags->labels), imported_text);
                      });
  in.option("file", flags->file, "what 'tasks export' wrote, or a folder with adapter_config.json").required();
  in.option("--as", flags->as, "another name for it here", "NAME");
  in.option("--labels", flags->labels, "names of a folder's classes, one a line", "FILE");
  auto& back = add_verb(tasks, flags, "rollback", "make an old version the newest, or show a removed task again", true,
                        [&line, flags](auto& d) {
                          line.print(rollback_task(d, flags->task, flags->version), [](const auto& j) {
                            return fmt::format(
                                "task {}: version {} is a copy of version {}\n", j["task"].template get<std::string>(),
                                j["version"].template get<std::int64_t>(), j["copy_of"].template get<std::int64_t>());
                          });
                        });
  back.option("task", flags->task, "the task").required();
  back.option("version", flags->version, "the version, or its tag, to go back to (default: the newest)");
  auto& remove =
      add_verb(tasks, flags, "remove", "hide a task; rollback brings it back", true, [&line, flags](auto& d) {
        line.print(remove_task(d, flags->task, flags->purge), [](const auto& j) {
          return fmt::format("task {} {}\n", j["task"].template get<std::string>(),
                             j["purged"].template get<bool>() ? "erased with all versions" : "removed");
        });
      });
  remove.option("task", flags->task, "the task").required();
  remove.flag("--purge", flags->purge, "erase it with all versions, for good");
  add_verb(tasks, flags, "gc", "remove files that no version needs", true, [&line](auto& d) {
    line.print(collect_garbage(d),
               [](const auto& j) { return bytes_text(j["bytes"].template get<double>()) + " freed\n"; });
  });
}

}  // namespace

void add_tasks(CommandLine& line) {
  auto flags = std::make_shared<TasksFlags>();
  Command& tasks = line.add("tasks", "list, show, tag, export, import, remove and roll back tasks",
                            "recast tasks model list\n  recast tasks model export pets pets.safetensors\n"
                            "  recast tasks model export pets pets-lora --format peft --names transformers");
  tasks.option("dir", flags->directory, "the model directory").required();
  tasks.store(flags->store);
  add_reading_verbs(line, tasks, flags);
  add_writing_verbs(line, tasks, flags);
  add_tag(line, tasks, flags);
}

}  // namespace recast
