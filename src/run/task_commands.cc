#include "recast/run/task_commands.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "peft_task.h"
#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/method/numbers_file.h"

namespace recast {
namespace {

constexpr std::uint64_t kMaxTaskFileBytes = 8ull << 30;
constexpr std::int64_t kShownValues = 16;

nlohmann::json plug_texts(const std::vector<PlugSpec>& plugs) {
  nlohmann::json texts = nlohmann::json::array();
  for (const PlugSpec& plug : plugs) texts.push_back(plug_text(plug));
  return texts;
}

nlohmann::json top1_of(const nlohmann::json& metrics, const char* split) {
  if (!metrics.is_object() || !metrics.contains(split) || !metrics[split].is_object()) return nullptr;
  const auto top1 = metrics[split].find("top1");
  return top1 != metrics[split].end() && top1->is_number() ? *top1 : nlohmann::json();
}

nlohmann::json describe_summary(const TaskSummary& task) {
  return {{"task", task.name},
          {"version", task.version},
          {"versions", task.versions},
          {"tags", task.tags},
          {"removed", task.removed},
          {"classes", task.classes},
          {"plugs", plug_texts(task.plugs)},
          {"state_bytes", task.state_bytes},
          {"file_bytes", task.file_bytes},
          {"created_utc", task.created_utc},
          {"validation_top1", top1_of(task.metrics, "validation")},
          {"test_top1", top1_of(task.metrics, "test")}};
}

nlohmann::json describe_all(const std::vector<TaskSummary>& list) {
  nlohmann::json tasks = nlohmann::json::array();
  for (const TaskSummary& task : list) tasks.push_back(describe_summary(task));
  return {{"tasks", tasks}};
}

/// What is wrong here is wrong with the file: no option, name or path that somebody has typed.
Model model_of_file(const ModelDirectory& directory, const TaskRecord& record, const std::string& origin) {
  try {
    directory.preprocessing(record);
    return directory.model(record);
  } catch (const Error& error) {
    const bool of_another_recast = error.code() == Code::kInvalidArgument || error.code() == Code::kNotFound;
    throw Error(of_another_recast ? Code::kUnsupported : error.code(),
                fmt::format("[tasks] {}: {}", origin, printable(error.what(), 1000)));
  }
}

/// Shapes that only show when the model runs: one black image goes through it, of the backbone's own size, since the
/// file's could ask for any amount of memory.
void require_runs(const ModelDirectory& directory, const TaskRecord& record, const std::string& origin) {
  const at::NoGradGuard no_grad;
  const Model model = model_of_file(directory, record, origin);
  const std::int64_t size = directory.files().config.preprocessing.size_px;
  const Batch batch{{{"input", at::zeros({1, 3, size, size}, at::device(directory.device()))}}, 1};
  const auto misfit = [&](const std::string& why) {
    fail(Code::kShapeMismatch, "[tasks] {}: the numbers of task '{}' do not fit this backbone: {}", origin, record.name,
         printable(why.substr(0, why.find('\n')), 200));
  };
  at::Tensor logits;
  try {
    logits = model.forward(batch, {}).at("logits");
  } catch (const c10::Error& error) {
    misfit(error.what_without_backtrace());
  } catch (const Error& error) {  // a plug-in misses a number, or finds one of another shape
    if (error.code() != Code::kShapeMismatch && error.code() != Code::kNotFound) throw;
    misfit(error.what());
  }
  const auto labels = static_cast<std::int64_t>(record.labels.size());
  if (logits.dim() != 2 || logits.size(1) != labels)
    fail(Code::kShapeMismatch, "[tasks] {}: the head gives {} classes, the file names {} labels", origin,
         logits.size(-1), labels);
}

nlohmann::json describe_number(const Number& number) {
  if (const auto* value = std::get_if<std::int64_t>(&number)) return {{"dtype", "integer"}, {"values", {*value}}};
  if (const auto* value = std::get_if<double>(&number)) return {{"dtype", "real"}, {"values", {*value}}};
  if (const auto* value = std::get_if<std::string>(&number)) return {{"dtype", "text"}, {"values", {*value}}};
  const at::Tensor& tensor = std::get<at::Tensor>(number);
  const at::Tensor first = tensor.reshape({-1}).slice(0, 0, kShownValues).to(at::kDouble).contiguous();
  return {{"dtype", at::toString(tensor.scalar_type())},
          {"shape", tensor.sizes().vec()},
          {"values", std::vector<double>(first.data_ptr<double>(), first.data_ptr<double>() + first.numel())}};
}

nlohmann::json describe_numbers(const Numbers& numbers) {
  nlohmann::json all = nlohmann::json::array();
  for (const auto& [plug, scopes] : numbers.plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [number_name, number] : state) {
        nlohmann::json row = describe_number(number);
        row.update({{"plug", plug}, {"scope", name(scope)}, {"name", number_name}});
        all.push_back(std::move(row));
      }
  return all;
}

/// Numbers by plug-in and name, so that two records can be walked side by side.
std::map<std::pair<std::string, std::string>, Number> flattened(const Numbers& numbers) {
  std::map<std::pair<std::string, std::string>, Number> flat;
  for (const auto& [plug, scopes] : numbers.plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [number_name, number] : state) flat[{plug, number_name}] = number;
  return flat;
}

State alone(const Number& number) {
  State state;
  state.set("x", number);
  return state;
}

nlohmann::json compare(const Number& a, const Number& b) {
  nlohmann::json row = {{"in", "both"}, {"equal", equal(alone(a), alone(b))}, {"largest_difference", nullptr}};
  const auto *x = std::get_if<at::Tensor>(&a), *y = std::get_if<at::Tensor>(&b);
  if (x && y && x->sizes() == y->sizes() && x->numel() > 0)
    row["largest_difference"] = (x->to(at::kDouble) - y->to(at::kDouble)).abs().max().item<double>();
  return row;
}

nlohmann::json compare_numbers(const Numbers& a, const Numbers& b) {
  const auto left = flattened(a), right = flattened(b);
  nlohmann::json rows = nlohmann::json::array();
  auto add = [&](const auto& key, nlohmann::json row) {
    row.update({{"plug", key.first}, {"name", key.second}});
    rows.push_back(std::move(row));
  };
  for (const auto& [key, number] : left) {
    const auto other = right.find(key);
    add(key, other == right.end() ? nlohmann::json{{"in", "a"}, {"equal", false}, {"largest_difference", nullptr}}
                                  : compare(number, other->second));
  }
  for (const auto& [key, number] : right)
    if (left.count(key) == 0) add(key, {{"in", "b"}, {"equal", false}, {"largest_difference", nullptr}});
  return rows;
}

}  // namespace

nlohmann::json list_tasks(const ModelDirectory& directory, bool with_removed) {
  return describe_all(directory.store().list(with_removed));
}

nlohmann::json list_tasks(const ModelDirectory& directory, const std::vector<std::string>& names) {
  return describe_all(directory.store().list_of(names));
}

nlohmann::json show_task(const ModelDirectory& directory, const std::string& task) {
  const TaskRecord record = directory.record(task);
  nlohmann::json follows;
  if (record.follows) follows = {{"name", record.follows->name}, {"version", record.follows->version}};
  return {{"task", record.name},
          {"version", record.version},
          {"parent", record.parent},
          {"created_utc", record.created_utc},
          {"fingerprint", record.fingerprint},
          {"labels", record.labels},
          {"plugs", plug_texts(record.plugs)},
          {"recipe", record.recipe},
          {"data", record.data},
          {"metrics", record.metrics},
          {"follows", follows},
          {"numbers", describe_numbers(record.numbers)}};
}

nlohmann::json log_task(const ModelDirectory& directory, const std::string& task) {
  nlohmann::json versions = nlohmann::json::array();
  for (const TaskSummary& version : directory.store().log(task)) versions.push_back(describe_summary(version));
  return {{"task", task}, {"versions", versions}};
}

nlohmann::json diff_tasks(const ModelDirectory& directory, const std::string& a, const std::string& b) {
  const TaskRecord left = directory.record(a), right = directory.record(b);
  const bool labels = left.labels == right.labels, plugs = left.plugs == right.plugs;
  return {{"a", a},
          {"b", b},
          {"equal", labels && plugs && equal(left.numbers, right.numbers)},
          {"labels_equal", labels},
          {"plugs_equal", plugs},
          {"numbers", compare_numbers(left.numbers, right.numbers)}};
}

nlohmann::json export_task(const ModelDirectory& directory, const std::string& task, const std::filesystem::path& file,
                           bool force) {
  if (!force && std::filesystem::exists(std::filesystem::symlink_status(file)))
    fail(Code::kAlreadyExists, "[tasks] {} exists: choose another file, or --force to replace it",
         printable_path(file));
  const TaskRecord record = directory.record(task);
  const std::string bytes = encode_task(record);
  write_file_atomically(file, bytes);
  return {{"task", record.name}, {"version", record.version}, {"file", printable_path(file)}, {"bytes", bytes.size()}};
}

nlohmann::json export_peft_folder(const ModelDirectory& directory, const std::string& task,
                                  const std::filesystem::path& folder, const std::string& names,
                                  const std::string& base_model, bool force) {
  const TaskRecord record = directory.record(task);
  nlohmann::json report = write_peft_task(directory, record, folder, names, base_model, force);
  report.update(
      {{"task", record.name}, {"version", record.version}, {"file", printable_path(folder)}, {"format", "peft"}});
  return report;
}

nlohmann::json import_task_file(const ModelDirectory& directory, const std::filesystem::path& file,
                                const std::string& name, const std::filesystem::path& labels) {
  const std::string origin = printable_path(file);
  const bool folder = is_peft_folder(file);
  if (!folder && !labels.empty())
    fail(Code::kInvalidArgument, "[tasks] --labels is for adapter folders; {} is a file with labels of its own",
         origin);
  PeftTask task;
  if (folder) {
    task = read_peft_task(directory, file, name, labels);
  } else {
    task.record = decode_task(read_file(file, kMaxTaskFileBytes), origin);
    task.facts = nlohmann::json::object();
  }
  TaskRecord& record = task.record;
  if (!name.empty()) record.name = name;
  check_task_name(record.name);
  require_runs(directory, record, origin);
  nlohmann::json report = std::move(task.facts);
  report.update({{"task", record.name},
                 {"version", import_task(directory.store(), record)},
                 {"file", printable_path(file)},
                 {"classes", record.labels.size()}});
  return report;
}

nlohmann::json remove_task(const ModelDirectory& directory, const std::string& task, bool purge) {
  purge ? directory.store().purge(task) : directory.store().remove(task);
  return {{"task", task}, {"purged", purge}};
}

nlohmann::json rollback_task(const ModelDirectory& directory, const std::string& task, const std::string& version) {
  std::int64_t old = 0;
  if (version.empty()) {
    old = directory.store().log(task).back().version;
  } else {
    old = directory.version_of(parse_task_reference(task + ":" + version));
  }
  return {{"task", task}, {"version", directory.store().rollback(task, old)}, {"copy_of", old}};
}

nlohmann::json tag_task(const ModelDirectory& directory, const std::string& task, const std::string& tag, bool force) {
  const TaskReference reference = parse_task_reference(task);
  const std::int64_t version = directory.store().tag(reference.name, directory.version_of(reference), tag, force);
  return {{"task", reference.name}, {"version", version}, {"tag", tag}};
}

nlohmann::json untag_task(const ModelDirectory& directory, const std::string& task, const std::string& tag) {
  const std::string name = parse_task_reference(task).name;
  directory.store().untag(name, tag);
  return {{"task", name}, {"tag", tag}, {"removed", true}};
}

nlohmann::json list_tags(const ModelDirectory& directory, const std::string& task) {
  const std::string name = parse_task_reference(task).name;
  nlohmann::json tags = nlohmann::json::array();
  for (const TaskSummary& version : directory.store().log(name))
    for (const std::string& tag : version.tags) tags.push_back({{"tag", tag}, {"version", version.version}});
  return {{"task", name}, {"tags", tags}};
}

nlohmann::json collect_garbage(const ModelDirectory& directory) {
  return {{"bytes", directory.store().collect_garbage()}};
}

}  // namespace recast
