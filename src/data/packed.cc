#include "packed.h"

#include <algorithm>
#include <cstring>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

void PackedSource::add(PackedImages images, const std::string& name, const std::vector<std::string>& labels,
                       Given given) {
  RECAST_ASSERT(labels.size() == images.count);
  RECAST_ASSERT(images.count * images.stride <= images.bytes.size());
  if (!is_utf8(name)) fail(Code::kUnsupported, "[data] {}: the name is not UTF-8; rename it", printable(name));
  starts_.push_back(records_.size());
  for (std::size_t i = 0; i < images.count; ++i) {
    records_.push_back({name + "#" + std::to_string(i), labels[i], given});
  }
  files_.push_back(std::move(images));
}

const PackedImages& PackedSource::file_of(std::size_t record, std::size_t& place) const {
  const auto next = std::upper_bound(starts_.begin(), starts_.end(), record);
  const auto file = static_cast<std::size_t>(next - starts_.begin()) - 1;
  place = files_[file].first + (record - starts_[file]) * files_[file].stride;
  return files_[file];
}

StoredImage PackedSource::stored(std::size_t record) const {
  std::size_t place;
  const PackedImages& f = file_of(record, place);
  return {{}, std::string_view(f.bytes).substr(place, static_cast<std::size_t>(f.channels * f.height * f.width))};
}

Picture PackedSource::image(std::size_t record) const {
  std::size_t place;
  const PackedImages& f = file_of(record, place);
  const char* from = f.bytes.data() + place;
  Picture out = Picture::of_size(f.height, f.width);
  const auto plane = static_cast<std::size_t>(out.plane_bytes());
  auto* to = out.planes.get();
  for (std::size_t c = 0; c < 3; ++c) std::memcpy(to + c * plane, f.channels == 3 ? from + c * plane : from, plane);
  return out;
}

}  // namespace recast
