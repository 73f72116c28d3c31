// The text of a header between a length that fits it and as many bytes of data as the first three bytes of the input
// say: a mutation of the text does not break the length, so the fuzzer gets past it.
#include "safetensors_check.h"

using namespace recast;

RECAST_FUZZ_TARGET(safetensors_header) {
  if (bytes.size() < 3) return;
  std::uint64_t data = 0;
  for (std::size_t i = 0; i < 3; ++i) data = data << 8 | static_cast<unsigned char>(bytes[i]);
  const std::string_view text = bytes.substr(3);
  std::string file;
  for (unsigned i = 0; i < 8; ++i) file += static_cast<char>(std::uint64_t{text.size()} >> (8 * i) & 0xff);
  file += text;
  const std::uint64_t size = file.size() + data;
  const SafetensorsLimits limits{.tensors = 1000};
  const auto header = fuzz::accepted([&] { return fuzz::parse_header(file, size, limits); });
  if (!header) return;
  fuzz::check_layout(*header, size, limits);
  fuzz::check_rewriting(*header);
}
