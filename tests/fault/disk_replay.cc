#include "disk_replay.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace recast::fault {
namespace {

constexpr std::int64_t kSector = 512;

}  // namespace

std::string DiskReplay::folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == path.npos ? "" : path.substr(0, slash);
}

void DiskReplay::change(std::string& content, const Event& event) {
  const auto offset = static_cast<std::size_t>(event.offset);
  if (event.kind == Event::kTruncate) {
    content.resize(offset);
    return;
  }
  if (content.size() < offset + event.bytes.size()) content.resize(offset + event.bytes.size());
  content.replace(offset, event.bytes.size(), event.bytes);
}

void DiskReplay::change(Names& names, const Event& event) {
  switch (event.kind) {
    case Event::kCreate:
      names[event.path] = event.file;
      break;
    case Event::kRename:
      names.erase(event.path);
      names[event.to] = event.file;
      break;
    default:
      names.erase(event.path);
  }
}

void DiskReplay::sync_names(const std::string& folder) {
  std::vector<Event> rest;
  for (const Event& event : pending_names_) {
    if (folder_of(event.path) != folder) {
      rest.push_back(event);
    } else if (event.kind == Event::kFolder) {
      durable_folders_.insert(event.path);
    } else {
      change(durable_names_, event);
    }
  }
  pending_names_ = std::move(rest);
}

void DiskReplay::add(const Event& event) {
  switch (event.kind) {
    case Event::kWrite:
    case Event::kTruncate:
      change(files_[event.file].cached, event);
      files_[event.file].pending.push_back(event);
      break;
    case Event::kSync:
      for (const Event& write : files_[event.file].pending) change(files_[event.file].durable, write);
      [[fallthrough]];
    case Event::kSyncFailed:
      files_[event.file].pending.clear();
      break;
    case Event::kSyncFolder:
      sync_names(event.path);
      break;
    case Event::kFolder:
      folders_.insert(event.path);
      pending_names_.push_back(event);
      break;
    case Event::kCreate:
      files_[event.file];
      [[fallthrough]];
    case Event::kRename:
    case Event::kUnlink:
      change(names_, event);
      pending_names_.push_back(event);
      break;
    case Event::kNote:
      break;
  }
}

std::string DiskReplay::content(const File& file, Loss loss, std::mt19937& random) const {
  if (loss == Loss::kNothing) return file.cached;
  std::string content = file.durable;
  if (loss != Loss::kRandom) return content;
  for (const Event& event : file.pending) {
    const unsigned fate = random() % 4;
    if (fate < 2) continue;
    Event done = event;
    if (fate == 2 && event.kind == Event::kWrite) {  // torn: it reached the disk up to the end of a sector
      const std::int64_t whole = static_cast<std::int64_t>(event.bytes.size()) / kSector;
      done.bytes.resize(
          static_cast<std::size_t>(kSector * std::uniform_int_distribution<std::int64_t>(0, whole)(random)));
    }
    change(content, done);
  }
  return content;
}

void DiskReplay::write_image(Loss loss, std::mt19937& random, const std::filesystem::path& folder) const {
  Names names = loss == Loss::kNothing || loss == Loss::kBytesOnly ? names_ : durable_names_;
  std::set<std::string> folders = names == names_ ? folders_ : durable_folders_;
  if (loss == Loss::kRandom) {
    for (const Event& event : pending_names_) {
      if (random() % 2 == 0) continue;
      if (event.kind == Event::kFolder) {
        folders.insert(event.path);
      } else {
        change(names, event);
      }
    }
  }
  for (const std::string& path : folders) std::filesystem::create_directories(folder / path);
  for (const auto& [path, file] : names) {
    if (!std::filesystem::is_directory((folder / path).parent_path())) continue;  // its folder did not survive
    const std::string bytes = content(files_.at(file), loss, random);
    std::ofstream(folder / path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
}

}  // namespace recast::fault
