#include "recast/run/model_directory.h"

#include <ATen/ATen.h>

#include <charconv>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/data/preprocessing.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

void check_number(const Plug& plug, Scope scope, const std::string& name, const Number& number,
                  const TaskRecord& record) {
  const Family* family = plug.info->family(family_of(name));
  if (!family || family->scope != scope)
    fail(Code::kShapeMismatch,
         "[task] '{}' holds a number '{}' that plug-in '{}' does not declare: it was written by "
         "another version of recast; learn the task again",
         record.name, name, plug.alias());
  const auto* tensor = std::get_if<at::Tensor>(&number);
  if (!tensor) return;
  if (tensor->scalar_type() != family->dtype)
    fail(Code::kShapeMismatch, "[task] '{}': number '{}' of plug-in '{}' is {}, expected {}", record.name, name,
         plug.alias(), at::toString(tensor->scalar_type()), at::toString(family->dtype));
  const auto classes = static_cast<std::int64_t>(record.labels.size());
  const std::int64_t rows = tensor->dim() == 0 ? 0 : tensor->size(0);
  // A shared head may have learned more classes since, behind those of this task.
  if (family->rows == Rows::kPerClass && (scope == Scope::kTask ? rows != classes : rows < classes))
    fail(Code::kShapeMismatch, "[task] '{}': number '{}' of plug-in '{}' has {} rows for {} labels", record.name, name,
         plug.alias(), rows, classes);
}

/// Of a shared head, the rows of this task's classes: its answers are of its labels, in their order.
Numbers with_own_classes(Numbers numbers, const Composition& recipe, std::int64_t classes) {
  for (auto& [alias, scopes] : numbers.plugs()) {
    const auto shared = scopes.find(Scope::kShared);
    if (shared == scopes.end()) continue;
    State chosen;
    for (const auto& [name, number] : shared->second) {
      const Family* family = recipe.plug(alias).info->family(family_of(name));
      const auto* tensor = std::get_if<at::Tensor>(&number);
      const bool too_many =
          family && tensor && family->rows == Rows::kPerClass && tensor->dim() > 0 && tensor->size(0) > classes;
      chosen.set(name, too_many ? Number(tensor->narrow(0, 0, classes)) : number);
    }
    shared->second = std::move(chosen);
  }
  return numbers;
}

void check_numbers(const TaskRecord& record, const Composition& recipe) {
  for (const auto& [alias, scopes] : record.numbers.plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [name, number] : state) check_number(recipe.plug(alias), scope, name, number, record);
}

/// Of a task that there is. Throws as TaskStore::log(), and says where it has looked.
std::size_t count_versions(const TaskStore& store, const std::string& name, const std::string& place) try {
  return store.log(name).size();
} catch (const Error& error) {
  if (error.code() != Code::kNotFound) throw;
  fail(Code::kNotFound, "{} (in {})", error.what(), place);
}

Numbers moved_to(const Numbers& numbers, at::Device device) {
  if (device.is_cpu()) return numbers;
  Numbers moved;
  for (const auto& [alias, scopes] : numbers.plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [name, number] : state) {
        const auto* tensor = std::get_if<at::Tensor>(&number);
        moved.at(alias, scope).set(name, tensor ? Number(tensor->to(device)) : number);
      }
  return moved;
}

}  // namespace

at::Device parse_device(const std::string& text) {
  if (text == "cpu") return at::kCPU;
  std::int64_t index = 0;
  bool good = text == "cuda";
  if (text.starts_with("cuda:")) {
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + 5, end, index);
    good = error == std::errc() && stop == end && index >= 0 && index < 128;
  }
  if (!good) fail(Code::kInvalidArgument, "[device] must be cpu, cuda or cuda:N, got '{}'", text);
  const int devices = at::hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0;
  if (index >= devices)
    fail(Code::kUnsupported, "[device] {} asked for, {} there: this PyTorch wheel {}; use --device cpu", text,
         devices == 0 ? "no CUDA device is" : fmt::format("{} are", devices),
         at::hasCUDA() ? "is a CUDA build" : "is a CPU build");
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

ModelDirectory ModelDirectory::open(const std::filesystem::path& path, bool read_only, at::Device device,
                                    const std::string& store_url, Verify verify) {
  const Stopwatch watch;
  ModelDirectory directory;
  directory.path_ = path;
  directory.files_ = std::make_shared<ModelFiles>(read_model_files(path));
  directory.fingerprint_ = directory.files_->fingerprint();
  directory.backbone_ = make_backbone(*directory.files_, device);
  directory.store_url_ = store_url;
  directory.store_ = open_store(path, store_url, directory.fingerprint_, read_only, verify);
  directory.device_ = device;
  log_event(LogLevel::kDebug, "model.opened",
            {{"path", path.native()}, {"fingerprint", directory.fingerprint_}, {"ms", watch.ms()}});
  return directory;
}

ModelDirectory ModelDirectory::with_fresh_store() const {
  ModelDirectory fresh = *this;
  fresh.store_ = open_store(path_, store_url_, fingerprint_, /*read_only=*/true);
  return fresh;
}

std::unique_ptr<TaskStore> ModelDirectory::store_to_write() const {
  return open_store(path_, store_url_, fingerprint_, /*read_only=*/false);
}

TaskReference parse_task_reference(const std::string& text) {
  const std::size_t colon = text.find(':');
  TaskReference reference{text.substr(0, colon)};
  if (colon == std::string::npos) return reference;
  const std::string which = text.substr(colon + 1);
  if (which.find_first_not_of("0123456789") != which.npos) {
    check_tag(which);
    reference.tag = which;
    return reference;
  }
  const char* end = which.data() + which.size();
  const auto [stop, error] = std::from_chars(which.data(), end, reference.version);
  if (error != std::errc() || stop != end || reference.version < 1)
    fail(Code::kInvalidArgument, "[task] '{}' is not NAME, NAME:VERSION or NAME:TAG", printable(text));
  return reference;
}

std::int64_t ModelDirectory::version_of(const TaskReference& task) const {
  if (task.tag.empty()) return task.version;
  if (const auto version = store_->tagged(task.name, task.tag)) return *version;
  std::vector<std::string> tags;
  for (const TaskSummary& version : store_->log(task.name)) {
    tags.insert(tags.end(), version.tags.begin(), version.tags.end());
  }
  const std::string near = nearest(task.tag, tags);
  fail(Code::kNotFound, "[task] the task '{}' has no tag '{}'{}", printable(task.name), task.tag,
       !near.empty()  ? ", did you mean '" + near + "'?"
       : tags.empty() ? ": it has none"
                      : ": 'recast tasks DIR tag TASK' shows those that there are");
}

TaskRecord ModelDirectory::record(const std::string& task) const {
  const TaskReference reference = parse_task_reference(task);
  const std::string& name = reference.name;
  const std::int64_t version = version_of(reference);
  if (std::optional<TaskRecord> record = store_->load(name, version)) return std::move(*record);
  const std::size_t versions =
      count_versions(*store_, name, store_url_.empty() ? path_.string() : shown_store(path_, store_url_));
  if (version == 0)
    fail(Code::kNotFound, "[task] the task '{}' was removed; 'recast tasks DIR rollback' brings a version back", name);
  fail(Code::kNotFound, "[task] the task '{}' has no version {}; it has 1 to {}", name, version, versions);
}

LoadedTask ModelDirectory::load(const std::string& task) const {
  TaskRecord record = this->record(task);
  Model model = this->model(record);
  Preprocessing preprocessing = this->preprocessing(record);
  return {std::move(record), std::move(model), std::move(preprocessing)};
}

Preprocessing ModelDirectory::preprocessing(const TaskRecord& record) const {
  Preprocessing preprocessing = files_->config.preprocessing;
  if (!record.recipe.is_object() || !record.recipe.contains("image_size")) return preprocessing;
  const nlohmann::json& size = record.recipe["image_size"];
  if (!size.is_number_integer())
    fail(Code::kDataCorruption, "[task] '{}' wants images of {} pixels, expected a whole number", record.name,
         printable(size.dump()));
  preprocessing.size_px = size;
  try {
    check(preprocessing);
  } catch (const Error& error) {
    fail(Code::kDataCorruption, "[task] '{}': the image size in its recipe does not hold: {}", record.name,
         error.what());
  }
  return preprocessing;
}

Model ModelDirectory::model(const TaskRecord& record) const {
  if (record.fingerprint != fingerprint_)
    fail(Code::kShapeMismatch,
         "[task] '{}' belongs to backbone {}, this directory holds {}: use the directory that it was learned on, or "
         "learn it again here",
         record.name, record.fingerprint, fingerprint_);
  const auto recipe = compose(record.plugs, backbone_->anatomy());
  check_numbers(record, *recipe);
  Numbers numbers = with_own_classes(record.numbers, *recipe, static_cast<std::int64_t>(record.labels.size()));
  return Model(backbone_, recipe, moved_to(numbers, device_));
}

}  // namespace recast
