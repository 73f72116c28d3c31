#include "recast/model/model_files.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <fmt/ranges.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/settled_path.h"

namespace recast {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kBackbone = "backbone.safetensors";
constexpr const char* kBank = "bank.safetensors";
constexpr std::uint64_t kConfigBytes = 16 << 20;

ModelConfig read_config(const fs::path& path) {
  const nlohmann::json object = parse_json(read_file(path, kConfigBytes), path.string());
  return ModelConfig::from_json(object, path.string());
}

void require_file(const fs::path& directory, const char* name) {
  if (fs::exists(directory / name)) return;
  fail(Code::kNotFound, "[model] {} has no {}: name a directory that `recast import` or `recast mimic` has written",
       directory.string(), name);
}

[[noreturn]] void fail_io(const char* action, const fs::path& path) {
  fail(Code::kUnavailable, "[model] cannot {} {}: {}", action, path.string(),
       std::error_code(errno, std::generic_category()).message());
}

void sync_directory(const fs::path& path) {
  if (const int error = flush_folder(path); error != 0) {
    errno = error;
    fail_io("sync", path);
  }
}

/// A new folder beside the target, gone with the object unless put in place.
class SiblingDirectory {
 public:
  explicit SiblingDirectory(const fs::path& target) : target_(target) {
    // The process is in the name, so that others can tell work in progress from what a dead process left.
    const std::string file_name = fmt::format(".{}.tmp-{}-XXXXXX", target.filename().string(), ::getpid());
    std::string name = (target.parent_path() / file_name).string();
    if (::mkdtemp(name.data()) == nullptr) fail_io("create a folder beside", target);
    path_ = name;
    // mkdtemp makes it private; a model directory has the mode of any other folder. umask can only be read by setting.
    const ::mode_t mask = ::umask(0);
    ::umask(mask);
    ::chmod(name.c_str(), 0777 & ~mask);
  }
  SiblingDirectory(const SiblingDirectory&) = delete;
  SiblingDirectory& operator=(const SiblingDirectory&) = delete;
  ~SiblingDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

  /// Crash: the target holds the old content or the new, never a mixture; a folder ".NAME.tmp-..." may stay behind.
  /// What the target held takes this folder's place and goes with the object.
  void put_in_place(bool replace) {
    sync_directory(path_);
    // Through syscall(), since the C library's wrapper is not declared without GNU extensions.
    const unsigned how = replace ? RENAME_EXCHANGE : RENAME_NOREPLACE;
    if (::syscall(SYS_renameat2, AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), how) != 0) fail_rename(replace);
    sync_directory(target_.parent_path());
  }

 private:
  void fail_rename(bool replace) {
    if (errno == EEXIST || errno == ENOTEMPTY) {
      fail(Code::kAlreadyExists, "[model] {} exists: choose another folder, or --force to replace it",
           target_.string());
    }
    if (errno != EINVAL && errno != ENOSYS) fail_io("put in place", target_);
    // A file system without these flags: two plain renames, with a moment in which the target is absent.
    const fs::path old = path_.string() + ".old";
    if (replace && ::rename(target_.c_str(), old.c_str()) != 0) fail_io("move away", target_);
    if (::rename(path_.c_str(), target_.c_str()) != 0) fail_io("put in place", target_);
    path_ = old;
  }

  fs::path target_, path_;
};

/// Whether something stands at the target and may be replaced; throws where it may not.
bool may_replace(const fs::path& target, bool force) {
  if (!fs::exists(fs::symlink_status(target))) return false;
  if (!force) {
    fail(Code::kAlreadyExists, "[model] {} exists: choose another folder, or --force to replace it", target.string());
  }
  if (!fs::is_directory(target)) fail(Code::kAlreadyExists, "[model] {} is a file, not replaced", target.string());
  if (fs::is_empty(target)) return true;
  try {
    if (fs::exists(target / kConfig)) return read_config(target / kConfig), true;
  } catch (const Error&) {
    // Not a config of ours: falls through to the refusal.
  }
  fail(Code::kAlreadyExists, "[model] {} is not empty and holds no model of recast, so --force does not replace it",
       target.string());
}

void hash_tensor(Sha256& hash, const std::string& name, const at::Tensor& tensor) {
  const at::Tensor t = tensor.cpu().contiguous();
  RECAST_ASSERT(t.scalar_type() == at::kFloat);
  hash.update(fmt::format("\n{}\nF32\n[{}]\n", name, fmt::join(t.sizes(), ",")));
  hash.update({static_cast<const char*>(t.const_data_ptr()), t.nbytes()});
}

}  // namespace

std::string ModelFiles::fingerprint() const {
  check_files(*this, config.architecture);
  const nlohmann::json all = config.to_json();
  nlohmann::json hashed = {{"groups", nlohmann::json::object()}};
  for (const char* key : {"architecture", config.network_key(), "preprocessing"}) hashed[key] = all.at(key);
  for (const BankConfig::Group& group : config.bank.members) hashed["groups"][group.name] = group.slots;
  Sha256 hash;
  hash.update(canonical_json(hashed));
  NamedTensors tensors = backbone;
  tensors.insert(bank.begin(), bank.end());
  for (const auto& [name, tensor] : tensors) hash_tensor(hash, name, tensor);
  return hash.finish_hex();
}

ModelFiles read_model_files(const fs::path& directory) {
  if (!fs::exists(directory)) fail(Code::kNotFound, "[model] {}: no such directory", directory.string());
  if (!fs::is_directory(directory)) {
    fail(Code::kNotFound,
         "[model] {} is a file, expected a model directory: a checkpoint becomes one by `recast import`",
         directory.string());
  }
  require_file(directory, kConfig);
  ModelFiles files;
  files.config = read_config(directory / kConfig);
  require_file(directory, kBackbone);
  files.backbone = read_tensor_file(directory / kBackbone).tensors;
  const bool mimicked = !files.config.bank.target.empty();
  if (mimicked) {
    require_file(directory, kBank);
    files.bank = read_tensor_file(directory / kBank).tensors;
  } else if (fs::exists(directory / kBank)) {
    fail(Code::kDataCorruption, "[model] {} holds {}, but its {} names no banks", directory.string(), kBank, kConfig);
  }
  check_files(files, directory.string());
  return files;
}

void check_model_target(const fs::path& directory, bool force) { may_replace(settled(directory), force); }

void write_model_files(const fs::path& directory, const ModelFiles& files, bool force) {
  check_files(files, directory.string());
  const fs::path target = settled(directory);
  const bool replace = may_replace(target, force);
  fs::create_directories(target.parent_path());
  SiblingDirectory sibling(target);
  write_file_atomically(sibling.path() / kConfig, files.config.to_json().dump(2) + "\n");
  write_tensor_file(sibling.path() / kBackbone, {files.backbone, {}});
  if (!files.bank.empty()) write_tensor_file(sibling.path() / kBank, {files.bank, {}});
  sibling.put_in_place(replace);
}

}  // namespace recast
