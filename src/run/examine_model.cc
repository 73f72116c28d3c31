#include <signal.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <charconv>
#include <set>

#include "doctor.h"
#include "recast/base/error_table.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/settled_path.h"
#include "recast/format/tensor_file.h"
#include "recast/run/figures.h"
#include "recast/run/model_directory.h"
#include "recast/store/check_store.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

/// Why `work` failed, or nothing.
template <class Work>
std::optional<std::string> trouble(const Work& work) {
  try {
    work();
    return std::nullopt;
  } catch (const Error& error) {
    return fmt::format("{} ({})", error.what(), name(error.code()));
  } catch (const std::exception& error) {
    return printable(error.what(), 300);
  }
}

struct FileSystem {
  long magic;
  const char* name;
  const char* warning;
};
constexpr const char* kFleeting = "it is gone when the machine restarts";
constexpr FileSystem kFileSystems[] = {{0xEF53, "ext4", ""},
                                       {0x58465342, "xfs", ""},
                                       {0x9123683E, "btrfs", ""},
                                       {0x2FC12FC1, "zfs", ""},
                                       {0xF2F52010, "f2fs", ""},
                                       {0x794C7630, "overlay", "in a container it is gone with it"},
                                       {0x01021994, "tmpfs", kFleeting},
                                       {0x858458F6, "ramfs", kFleeting}};

void examine_disk(const fs::path& directory, Findings& findings) {
  struct statfs kind {};
  struct statvfs space {};
  if (::statfs(directory.c_str(), &kind) != 0 || ::statvfs(directory.c_str(), &space) != 0)
    return findings.warn("disk", "nothing is known about the disk", "check that the folder can be reached");
  const FileSystem* system = nullptr;
  for (const FileSystem& each : kFileSystems)
    if (each.magic == static_cast<long>(static_cast<std::uint32_t>(kind.f_type))) system = &each;
  const double free_bytes = static_cast<double>(space.f_bavail) * static_cast<double>(space.f_frsize);
  const std::string text =
      fmt::format("{}, {:.1f} GiB free{}",
                  system ? system->name : fmt::format("file system {:#x}", static_cast<std::uint32_t>(kind.f_type)),
                  free_bytes / kGiB, (space.f_flag & ST_RDONLY) ? ", mounted for reading only" : "");
  if (free_bytes < 0.1 * kGiB)
    findings.fail("disk", text, "free space: nothing can be stored without");
  else if (space.f_files > 0 && space.f_favail == 0)
    findings.fail("disk", text + ", no inodes left", "remove files: nothing can be stored without");
  else if (free_bytes < kGiB)
    findings.warn("disk", text, "free space before learning more");
  else if (system && *system->warning)
    findings.warn("disk", text, system->warning);
  else
    findings.ok("disk", text);
}

void examine_rights(const fs::path& directory, Findings& findings) {
  if (::access(directory.c_str(), W_OK) == 0) return findings.ok("rights", "may be written by this user");
  findings.warn("rights", "may not be written by this user",
                "tasks can be used; to learn here, change owner or mode of the folder");
}

/// Whether the process whose number `name` begins with is still there.
bool at_work(std::string_view name) {
  int process = 0;
  std::from_chars(name.data(), name.data() + name.size(), process);
  return process > 0 && (::kill(process, 0) == 0 || errno == EPERM);
}

nlohmann::json examine_leftovers(const fs::path& directory, Findings& findings) {
  nlohmann::json left = nlohmann::json::array();
  std::error_code error;
  // Names of ours go on with the number of the process.
  auto look = [&](const fs::path& path, const std::string& begin) {
    const std::string file = path.filename().string();
    if (file.starts_with(begin) && !at_work(std::string_view(file).substr(begin.size())))
      left.push_back(printable_path(path));
  };
  for (fs::recursive_directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (is_temporary_name(entry->path().filename().string())) look(entry->path(), std::string(kTemporaryBegin));
  }
  // import and mimic write a new folder beside its place.
  const fs::path target = settled(directory);
  for (const auto& entry : fs::directory_iterator(target.parent_path(), error))
    look(entry.path(), "." + target.filename().string() + ".tmp-");
  if (left.empty())
    findings.ok("leftovers", "no temporary files of a process that died");
  else
    findings.warn(
        "leftovers",
        fmt::format("{} temporary files of processes that died, as {}", left.size(), left[0].get<std::string>()),
        "remove them while no recast is at work here; 'recast doctor DIR --json' lists them all");
  return left;
}

nlohmann::json examine_runs(const fs::path& directory, Findings& findings) {
  nlohmann::json unfinished = nlohmann::json::array();
  std::error_code error;
  std::size_t runs = 0;
  for (fs::recursive_directory_iterator entry(directory / "runs", error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().filename() != "config.yaml") continue;
    const fs::path run = entry->path().parent_path();
    ++runs;
    if (fs::exists(run / "results.json")) continue;
    unfinished.push_back(printable_path(run));
    const fs::path checkpoint = run / "checkpoints" / "last.safetensors";
    if (!fs::exists(checkpoint)) {
      findings.warn("run", printable_path(run) + " was never finished and has no checkpoint",
                    "learn again, or remove the folder");
    } else if (const auto why = trouble([&] { read_tensor_file(checkpoint); })) {
      findings.warn("run", fmt::format("{} was never finished: {}", printable_path(run), *why),
                    "--resume falls back to the checkpoint before, if there is one; else remove the folder");
    } else {
      findings.warn(
          "run", printable_path(run) + " was never finished",
          fmt::format(
              "go on: recast learn --config {0}/config.yaml --out {0} --resume (a run of --seeds: that command again, "
              "with --resume); or remove the folder",
              printable_path(run)));
    }
  }
  if (unfinished.empty()) findings.ok("runs", fmt::format("{} runs, all finished", runs));
  return unfinished;
}

bool examine_database(const fs::path& directory, Findings& findings) {
  StoreCheck check;
  if (const auto why = trouble([&] { check = check_store(directory); })) {
    const bool unread = why->ends_with("(unavailable)");  // it may well be sound
    findings.fail("store", *why,
                  unread ? "mend what the message says, then run recast doctor again"
                         : "restore tasks.db from a backup; exported task files can be imported again");
    return false;
  }
  if (check.network)
    findings.warn("network", "the directory lies on " + *check.network,
                  "locks and flushing may not hold there: keep model directories that are written on a local disk");
  if (!check.present) {
    findings.ok("store", "no task was stored yet");
    return true;
  }
  for (const std::string& fault : check.faults)
    findings.fail("store", "tasks.db: " + fault,
                  "export what can be read (recast tasks DIR export) and restore a backup");
  if (check.faults.empty())
    findings.ok("store", fmt::format("tasks.db is sound: {:.1f} KiB, schema {}",
                                     static_cast<double>(check.bytes) / 1024, check.schema));
  if (!check.strays.empty())
    findings.warn(
        "blobs",
        fmt::format("{} files in blobs/ that no version names, as {}", check.strays.size(), printable(check.strays[0])),
        fmt::format("recast tasks {} gc removes them", printable_path(directory)));
  return check.faults.empty();
}

/// Reads every version of every task as a prediction would.
void examine_tasks(const ModelDirectory& model, nlohmann::json& report, Findings& findings) {
  std::size_t tasks = 0, versions = 0, bad = 0;
  for (const TaskSummary& task : model.store().list(true)) {
    ++tasks;
    for (const TaskSummary& version : model.store().log(task.name)) {
      ++versions;
      const auto why = trouble([&] {
        const std::optional<TaskRecord> record = model.store().load(task.name, version.version);
        if (!record) fail(Code::kDataCorruption, "[store] the version is listed and not there");
        model.model(*record);
        model.preprocessing(*record);
      });
      if (!why) continue;
      ++bad;
      findings.fail("task", fmt::format("{}:{}: {}", task.name, version.version, *why),
                    version.versions > 1 ? "roll back to a version that is sound, or learn it again"
                                         : "learn it again, or import its file");
    }
  }
  report["tasks"] = tasks;
  report["versions"] = versions;
  if (bad == 0) findings.ok("tasks", fmt::format("{} tasks, {} versions, all read and checked", tasks, versions));
}

}  // namespace

nlohmann::json examine_model(const fs::path& directory, const std::string& store, Findings& findings) {
  nlohmann::json report = {
      {"directory", printable_path(directory)}, {"fingerprint", nullptr}, {"tasks", 0}, {"versions", 0}};
  std::error_code unknown;
  if (!fs::is_directory(directory, unknown)) {
    findings.fail("model", printable_path(directory) + ": no such directory",
                  "give a directory that 'recast import' or 'recast mimic' made");
    report.update({{"unfinished", nlohmann::json::array()}, {"leftovers", nlohmann::json::array()}});
    return report;
  }
  examine_disk(directory, findings);
  examine_rights(directory, findings);
  const auto files = trouble([&] {
    const ModelFiles read = read_model_files(directory);
    report["fingerprint"] = read.fingerprint();
    findings.ok("model",
                fmt::format("{}, {:.1f} MiB, fingerprint {}", read.config.architecture,
                            static_cast<double>(count_bytes(read.backbone) + count_bytes(read.bank)) / (1 << 20),
                            report["fingerprint"].get<std::string>()));
  });
  if (files) findings.fail("model", *files, "restore the file from a backup, or import the checkpoint again");
  if ((!store.empty() || examine_database(directory, findings)) && !files) {
    const auto why =
        trouble([&] { examine_tasks(ModelDirectory::open(directory, true, at::kCPU, store), report, findings); });
    if (why) findings.fail("tasks", *why, "restore the store from a backup; exported task files can be imported again");
  }
  report["unfinished"] = examine_runs(directory, findings);
  report["leftovers"] = examine_leftovers(directory, findings);
  return report;
}

}  // namespace recast
