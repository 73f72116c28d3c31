// TensorBoard's event files: records of tensorflow's TFRecord format (length, its checksum, data, its checksum; the
// checksum is CRC-32C, rotated and shifted so that a checksum of checksums stays sound), each an Event of event.proto.
// protozero writes these; see onnx_graph.cc for why not libprotobuf.
#include <fmt/format.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <fstream>
#include <protozero/pbf_builder.hpp>

#include "journal.h"
#include "recast/base/error.h"
#include "recast/format/files.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using protozero::pbf_builder;
using Tag = protozero::pbf_tag_type;

enum class EventField : Tag { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5 };
enum class SummaryField : Tag { kValue = 1 };
enum class ValueField : Tag { kTag = 1, kSimple = 2, kTensor = 8, kMetadata = 9 };
enum class MetadataField : Tag { kPlugin = 1 };
enum class PluginField : Tag { kName = 1 };
enum class TensorField : Tag { kType = 1, kShape = 2, kString = 8 };
enum class ShapeField : Tag { kDim = 1 };
enum class DimField : Tag { kSize = 1 };

constexpr std::int32_t kStringType = 7;
constexpr std::uint64_t kMostFileBytes = 1 << 30;

constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    table[i] = i;
    for (int bit = 0; bit < 8; ++bit) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0u);
  }
  return table;
}

std::uint32_t masked_crc32c(std::string_view bytes) {
  static constexpr auto kTable = crc_table();
  std::uint32_t crc = ~0u;
  for (const unsigned char byte : bytes) crc = kTable[(crc ^ byte) & 0xff] ^ crc >> 8;
  return std::rotr(~crc, 15) + 0xa282ead8u;
}

template <class T>
std::string little_endian(T value) {
  static_assert(std::endian::native == std::endian::little);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string record(const std::string& data) {
  const std::string length = little_endian<std::uint64_t>(data.size());
  return length + little_endian(masked_crc32c(length)) + data + little_endian(masked_crc32c(data));
}

/// Where each whole record of a file ends; what follows the last one was cut off while it was written.
std::vector<std::uint64_t> record_ends(std::string_view bytes) {
  constexpr std::size_t kHead = 12, kTail = 4;
  std::vector<std::uint64_t> ends;
  std::size_t begin = 0;
  while (bytes.size() - begin >= kHead + kTail) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data() + begin, sizeof length);
    if (length > bytes.size() - begin - kHead - kTail) break;
    const std::string_view data = bytes.substr(begin + kHead, length);
    if (bytes.substr(begin, kHead + length + kTail) != record(std::string(data))) break;
    begin += kHead + length + kTail;
    ends.push_back(begin);
  }
  return ends;
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// An event, what happened filled in by `fill`. A message is whole once its builder is gone.
template <class Fill>
std::string event_of(const Fill& fill) {
  std::string bytes;
  {
    pbf_builder<EventField> event(bytes);
    event.add_double(EventField::kWallTime, wall_time());
    fill(event);
  }
  return bytes;
}

void fill_figures(pbf_builder<EventField>& event, std::int64_t step, const std::vector<Figure>& figures) {
  event.add_int64(EventField::kStep, step);
  pbf_builder<SummaryField> summary(event, EventField::kSummary);
  for (const Figure& figure : figures) {
    pbf_builder<ValueField> value(summary, SummaryField::kValue);
    value.add_string(ValueField::kTag, figure.name);
    value.add_float(ValueField::kSimple, static_cast<float>(figure.value));
  }
}

/// A text for the plug-in "text", which shows Markdown.
void fill_text(pbf_builder<EventField>& event, const std::string& name, const std::string& text) {
  pbf_builder<SummaryField> summary(event, EventField::kSummary);
  pbf_builder<ValueField> value(summary, SummaryField::kValue);
  value.add_string(ValueField::kTag, name + "/text_summary");
  {
    pbf_builder<TensorField> tensor(value, ValueField::kTensor);
    tensor.add_enum(TensorField::kType, kStringType);
    {
      pbf_builder<ShapeField> shape(tensor, TensorField::kShape);
      pbf_builder<DimField> dim(shape, ShapeField::kDim);
      dim.add_int64(DimField::kSize, 1);
    }
    tensor.add_string(TensorField::kString, text);
  }
  pbf_builder<MetadataField> metadata(value, ValueField::kMetadata);
  pbf_builder<PluginField> plugin(metadata, MetadataField::kPlugin);
  plugin.add_string(PluginField::kName, "text");
}

/// Every line set in, which Markdown shows as it is.
std::string as_code(const std::string& text) {
  std::string out = "    ";
  for (const char c : text) out += c == '\n' ? std::string("\n    ") : std::string(1, c);
  return out;
}

/// Records of the file: its version, the settings, one for each point, the final figures. So that a sitting knows where
/// to cut it without reading what is in them.
class TensorboardJournal final : public Journal {
 public:
  void begin(const RunFacts& facts) override {
    path_ = facts.folder / "events.out.tfevents.recast";
    ends_ = fs::exists(path_) ? record_ends(read_file(path_, kMostFileBytes)) : std::vector<std::uint64_t>();
    if (ends_.size() >= kHeaderRecords) return;
    cut(0);
    append(event_of([](auto& event) { event.add_string(EventField::kFileVersion, "brain.Event:2"); }));
    nlohmann::json about = facts.versions;
    about["run_id"] = facts.id;
    const std::string text = as_code(settings_yaml(facts.settings) + "# " + about.dump());
    append(event_of([&](auto& event) { fill_text(event, "config", text); }));
  }

  void resumed(const std::vector<Point>& history) override {
    while (points_ < history.size() && ends_.size() > kHeaderRecords + points_) ++points_;
    while (points_ < history.size()) add(history[points_]);
    cut(kHeaderRecords + points_);
  }

  void add(const Point& point) override {
    append_point(point);
    ++points_;
  }

  void finish(const RunEnd& end) override { append_point(end.figures); }

 private:
  static constexpr std::size_t kHeaderRecords = 2;

  void append_point(const Point& point) {
    cut(kHeaderRecords + points_);
    append(event_of([&](auto& event) { fill_figures(event, point.at, point.figures); }));
  }

  /// Drops all but the first `records`, and what was left half-written.
  void cut(std::size_t records) {
    if (ends_.size() > records) ends_.resize(records);
    const std::uint64_t size = ends_.empty() ? 0 : ends_.back();
    std::error_code error;
    if (fs::exists(path_) && fs::file_size(path_, error) != size) fs::resize_file(path_, size, error);
    if (error) fail(Code::kUnavailable, "[tensorboard] {}: {}", path_.string(), error.message());
  }

  void append(const std::string& event) {
    const std::string bytes = record(event);
    std::ofstream out(path_, std::ios::binary | std::ios::app);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) fail(Code::kUnavailable, "[tensorboard] {}: cannot be written to", path_.string());
    ends_.push_back((ends_.empty() ? 0 : ends_.back()) + bytes.size());
  }

  fs::path path_;
  std::vector<std::uint64_t> ends_;
  std::size_t points_ = 0;
};

}  // namespace

std::unique_ptr<Journal> tensorboard_journal() { return std::make_unique<TensorboardJournal>(); }

}  // namespace recast
