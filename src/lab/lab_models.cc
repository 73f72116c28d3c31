#include "lab_models.h"

#include <functional>

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/settled_path.h"
#include "recast/run/mimic_directory.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

/// What a folder below OUT/models was made of: NAME.json beside it, written once it is there.
class Origin {
 public:
  explicit Origin(const fs::path& folder) : folder_(folder), file_(folder.string() + ".json") {}

  bool is(const json& made_of) const {
    std::error_code ignored;
    if (!fs::exists(folder_ / "config.json", ignored) || !fs::exists(file_, ignored)) return false;
    try {
      return parse_json(read_file(file_, 1 << 20), "origin") == made_of;
    } catch (const Error&) {
      return false;  // made anew
    }
  }
  /// Before the folder changes, so that a half-made one is never taken for it.
  void forget() const { fs::remove(file_); }
  void set(const json& made_of) const { write_file_atomically(file_, made_of.dump(1) + "\n"); }

 private:
  fs::path folder_, file_;
};

/// Links to the files of a model directory: the tasks of the lab get a store beside them. Replaces only what it made.
void link_model(const fs::path& from, const fs::path& folder) {
  const bool ours = fs::is_symlink(folder / "config.json") || fs::is_symlink(folder / "backbone.safetensors");
  if (fs::exists(folder) && !fs::is_empty(folder) && !ours)
    fail(Code::kAlreadyExists, "[lab] {} is there and was not made by a lab: choose another out", folder.string());
  fs::remove_all(folder);
  fs::create_directories(folder);
  for (const char* file : {"backbone.safetensors", "bank.safetensors", "config.json"})
    if (fs::exists(from / file)) fs::create_symlink(settled(from / file), folder / file);
}

class ModelMaker {
 public:
  ModelMaker(const LabFile& file, at::Device device, const std::atomic<bool>* stop, Listener* listener)
      : file_(file), device_(device), stop_(stop), listener_(listener) {}

  void prepare(const std::string& name) {
    if (made_.count(name) > 0) return;
    const LabModel& model = file_.model(name);
    if (!model.mimic_of.empty()) prepare(model.mimic_of);
    PreparedModel prepared;
    try {
      prepared.directory = make(model);
    } catch (...) {
      prepared.failure = failure_at_hand("batch-size or image-size");
      if (stop_ && *stop_) throw;
      if (listener_) listener_->warning(fmt::format("model {}: {}", name, prepared.failure->message));
    }
    made_.emplace(name, std::move(prepared));
  }

  std::map<std::string, PreparedModel> take() { return std::move(made_); }

 private:
  ModelDirectory make(const LabModel& model) {
    const fs::path folder = file_.out / "models" / model.name;
    fs::create_directories(folder.parent_path());
    if (!model.directory.empty()) return link(model, folder);
    if (model.import) return take_checkpoint(model, folder);
    return mimic(model, folder);
  }

  ModelDirectory link(const LabModel& model, const fs::path& folder) {
    const std::string fingerprint = read_model_files(model.directory).fingerprint();
    return settle(folder,
                  {{"directory", printable_path(settled(model.directory))}, {"fingerprint", fingerprint}},
                  [&] { link_model(model.directory, folder); });
  }

  ModelDirectory take_checkpoint(const LabModel& model, const fs::path& folder) {
    ImportRequest request = *model.import;
    request.out = folder;
    request.force = true;
    return settle(folder, {{"import", sha256_hex_of_file(request.checkpoint)}, {"asked", model.asked}}, [&] {
      note("import " + request.checkpoint.string());
      import_model(request);
    });
  }

  ModelDirectory mimic(const LabModel& model, const fs::path& folder) {
    const PreparedModel& source = made_.at(model.mimic_of);
    if (source.failure) fail(source.failure->code, "[lab] model {}: {}", model.mimic_of, source.failure->message);
    json asked = model.asked;
    asked.erase("mimic");
    return settle(folder, {{"mimic", source.directory->fingerprint()}, {"asked", asked}}, [&] {
      note(fmt::format("mimicry of model {} into model {}", model.mimic_of, model.name));
      mimic_directory({source.directory->path(), model.mimicry, folder, /*force=*/true, {}, {stop_, nullptr}});
    });
  }

  /// The folder made of this, by `build` where it is not there.
  ModelDirectory settle(const fs::path& folder, const json& made_of, const std::function<void()>& build) {
    const Origin origin(folder);
    if (!origin.is(made_of)) {
      origin.forget();
      build();
      origin.set(made_of);
    }
    return ModelDirectory::open(folder, true, device_);
  }

  void note(const std::string& text) const {
    if (listener_) listener_->note(text);
  }

  const LabFile& file_;
  const at::Device device_;
  const std::atomic<bool>* stop_;
  Listener* listener_;
  std::map<std::string, PreparedModel> made_;
};

}  // namespace

std::map<std::string, PreparedModel> prepare_models(const LabFile& file, const std::set<std::string>& names,
                                                    at::Device device, const std::atomic<bool>* stop,
                                                    Listener* listener) {
  ModelMaker maker(file, device, stop, listener);
  for (const std::string& name : names) maker.prepare(name);
  return maker.take();
}

}  // namespace recast
