#include "recast/run/feature_cache.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/data/preprocessing.h"
#include "recast/format/files.h"
#include "recast/format/tensor_file.h"
#include "recast/run/machine.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::string_view kFormat = "recast features 1";

std::string key_of(const FeatureRequest& request) {
  Sha256 digest;
  const nlohmann::json what = {{"format", kFormat},
                               {"model", request.directory.fingerprint()},
                               {"preprocessing", request.preprocessing},
                               {"bad_images", request.bad_images == BadImages::kSkip ? "skip" : "stop"},
                               {"products", request.bf16 ? "bf16" : "fp32"},
                               {"threads", at::get_num_threads()},  // the last bits may follow it
                               {"device", request.directory.device().is_cpu() ? "cpu" : "cuda"},
                               {"versions", versions()}};
  digest.update(what.dump());
  const auto& digests = request.contents.digests[static_cast<std::size_t>(request.split)];
  const auto& examples = request.dataset.examples(request.split);
  for (std::size_t row = 0; row < digests.size(); ++row)
    if (digests[row])
      digest.update({reinterpret_cast<const char*>(digests[row]->data()), digests[row]->size()});
    else
      digest.update("unreadable " + examples[row].id + "\n");
  return digest.finish_hex();
}

std::string digest_of(const at::Tensor& features, const at::Tensor& rows) {
  Sha256 digest;
  digest.update({static_cast<const char*>(features.const_data_ptr()), features.nbytes()});
  digest.update({static_cast<const char*>(rows.const_data_ptr()), rows.nbytes()});
  return digest.finish_hex();
}

/// An entry of a file, checked against its own digest and what was asked for. Throws kDataCorruption.
void check_entry(const TensorFile& file, const std::string& key, const FeatureRequest& request, const fs::path& path) {
  const auto text = [&](const char* name) {
    const auto found = file.metadata.find(name);
    return found == file.metadata.end() ? std::string() : found->second;
  };
  const auto features = file.tensors.find("features"), rows = file.tensors.find("rows");
  const bool whole = text("format") == kFormat && text("key") == key && features != file.tensors.end() &&
                     rows != file.tensors.end() && features->second.dim() == 2 && rows->second.dim() == 1 &&
                     features->second.scalar_type() == at::kFloat && rows->second.scalar_type() == at::kLong &&
                     features->second.size(0) == rows->second.size(0) &&
                     features->second.size(1) == request.directory.backbone()->feature_width();
  if (!whole || digest_of(features->second, rows->second) != text("sha256"))
    fail(Code::kDataCorruption, "[features] {}: damaged or of other images", path.string());
}

at::Tensor labels_of(const FeatureRequest& request, const at::Tensor& rows) {
  const auto& examples = request.dataset.examples(request.split);
  const at::Tensor labels = at::empty({rows.size(0)}, at::kLong);
  for (std::int64_t i = 0; i < rows.size(0); ++i)
    labels.mutable_data_ptr<std::int64_t>()[i] =
        examples.at(static_cast<std::size_t>(rows.const_data_ptr<std::int64_t>()[i])).label;
  return labels;
}

/// Rows of the split that an entry lacks, for one that was not made now.
std::vector<BadImage> missing(const FeatureRequest& request, const at::Tensor& rows) {
  std::vector<BadImage> bad;
  const auto& examples = request.dataset.examples(request.split);
  const std::int64_t* kept = rows.const_data_ptr<std::int64_t>();
  const std::int64_t* end = kept + rows.size(0);
  for (std::size_t row = 0; row < examples.size(); ++row)
    if (!std::binary_search(kept, end, static_cast<std::int64_t>(row)))
      bad.push_back({examples[row].id, "could not be decoded when its features were made"});
  return bad;
}

ImageSource open_split(const FeatureRequest& request) {
  ImageSourceOptions options;
  options.threads = std::max(1, at::get_num_threads());
  options.device = request.directory.device();
  options.bad_images = request.bad_images;
  if (request.bad_images == BadImages::kStop) options.cache_bytes = 0;  // one pass
  // The source shares a dataset that outlives it.
  const std::shared_ptr<const Dataset> dataset(std::shared_ptr<const Dataset>(), &request.dataset);
  ImageSource source(dataset, request.split, request.preprocessing, options);
  if (request.bad_images == BadImages::kSkip) source.decode_all(request.stop, request.listener);
  return source;
}

}  // namespace

FeatureCache::FeatureCache(fs::path folder, std::int64_t memory_bytes, std::int64_t disk_bytes)
    : folder_(std::move(folder)), memory_bytes_(memory_bytes), disk_bytes_(disk_bytes) {}

fs::path FeatureCache::default_folder() {
  const fs::path folder = cache_folder();
  return folder.empty() ? folder : folder / "features";
}

fs::path FeatureCache::file(const FeatureRequest& request) const {
  if (folder_.empty()) fail(Code::kInvalidArgument, "[features] nothing is kept on disk");
  return folder_ / (key_of(request) + ".safetensors");
}

std::int64_t FeatureCache::bytes_in_memory() const {
  const std::lock_guard lock(mutex_);
  std::int64_t bytes = 0;
  for (const Entry& entry : entries_) bytes += entry.bytes();
  return bytes;
}

bool FeatureCache::recall(const std::string& key, Entry& entry) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
  if (found == entries_.end()) return false;
  entries_.splice(entries_.begin(), entries_, found);
  entry = entries_.front();
  return true;
}

void FeatureCache::remember(const Entry& entry) {
  if (entry.bytes() > memory_bytes_) return;
  const std::lock_guard lock(mutex_);
  entries_.remove_if([&](const Entry& other) { return other.key == entry.key; });
  entries_.push_front(entry);
  std::int64_t bytes = 0;
  for (const Entry& kept : entries_) bytes += kept.bytes();
  while (bytes > memory_bytes_) {
    bytes -= entries_.back().bytes();
    entries_.pop_back();
  }
}

bool FeatureCache::read(const FeatureRequest& request, Entry& entry) const {
  if (folder_.empty()) return false;
  const fs::path path = folder_ / (entry.key + ".safetensors");
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return false;
  try {
    TensorFile file = read_tensor_file(path);
    check_entry(file, entry.key, request, path);
    entry.features = file.tensors.at("features");
    entry.rows = file.tensors.at("rows");
    fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);  // in use: the last to go
    return true;
  } catch (const Error& error) {
    log_event(LogLevel::kWarn, "cache.unusable", {{"note", std::string_view(error.what())}});
    if (request.listener) request.listener->note(fmt::format("{}: made again", error.what()));
    return false;
  }
}

void FeatureCache::write(const FeatureRequest& request, const Entry& entry) const {
  if (folder_.empty() || entry.bytes() > disk_bytes_) return;
  try {
    fs::create_directories(folder_);
    TensorFile file;
    file.tensors = {{"features", entry.features}, {"rows", entry.rows}};
    file.metadata = {
        {"format", std::string(kFormat)}, {"key", entry.key}, {"sha256", digest_of(entry.features, entry.rows)}};
    const fs::path path = folder_ / (entry.key + ".safetensors");
    write_tensor_file(path, file);
    make_room(path);
  } catch (const std::exception& error) {  // a cache that cannot be kept ends nothing
    log_event(LogLevel::kWarn, "cache.unusable", {{"note", std::string_view(error.what())}});
    if (request.listener) request.listener->note(fmt::format("features are not kept: {}", error.what()));
  }
}

/// Removes the files used longest ago while there are more bytes than allowed; the newest stays.
void FeatureCache::make_room(const fs::path& newest) const {
  struct Kept {
    fs::path path;
    fs::file_time_type used;
    std::int64_t bytes;
  };
  std::vector<Kept> files;
  std::int64_t bytes = 0;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, ignored)) {
    if (entry.path().extension() != ".safetensors" || !entry.is_regular_file(ignored)) continue;
    files.push_back(
        {entry.path(), entry.last_write_time(ignored), static_cast<std::int64_t>(entry.file_size(ignored))});
    bytes += files.back().bytes;
  }
  std::sort(files.begin(), files.end(), [](const Kept& a, const Kept& b) { return a.used < b.used; });
  for (const Kept& file : files) {
    if (bytes <= disk_bytes_) return;
    if (file.path != newest && fs::remove(file.path, ignored)) bytes -= file.bytes;
  }
}

FeatureCache::Entry FeatureCache::make(const FeatureRequest& request, std::string key,
                                       std::vector<BadImage>& bad) const {
  std::optional<ImageSource> opened;
  if (!request.images) opened.emplace(open_split(request));
  const ImageSource& source = request.images ? *request.images : *opened;
  bad = source.skipped();
  if (request.listener)
    request.listener->stage(fmt::format("features of {} images", name(request.split)), evaluation_batches(source));
  const Model model(request.directory.backbone(), compose({}, request.directory.backbone()->anatomy()), {});
  const FeatureTable table = extract_features(model, source, request.bf16, request.stop, request.listener);
  return {std::move(key), table.features.cpu().contiguous(), at::tensor(source.split_rows(), at::kLong)};
}

SplitFeatures FeatureCache::features(const FeatureRequest& request) {
  const at::NoGradGuard no_grad;
  Entry entry{key_of(request), {}, {}};
  SplitFeatures out;
  out.from = "memory";
  bool made = false;
  if (!recall(entry.key, entry)) {
    if (read(request, entry)) {
      out.from = "disk";
    } else {
      out.from = "images";
      made = true;
      entry = make(request, entry.key, out.bad);
      write(request, entry);
    }
    remember(entry);
  }
  out.features = entry.features;
  out.rows = entry.rows;
  out.labels = labels_of(request, entry.rows);
  if (!made) out.bad = missing(request, entry.rows);
  return out;
}

FeatureCache& feature_cache() {
  static FeatureCache cache;
  return cache;
}

}  // namespace recast
