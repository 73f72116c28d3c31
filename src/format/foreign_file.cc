#include "foreign_file.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kConvert = "convert it with `tools/convert_checkpoint.py FILE.pth OUT.safetensors`";

struct Kind {
  std::string_view magic;
  std::string_view what;
  std::string_view remedy;
};

// A pickle opens with its protocol number; protocols below 2 have no such mark and fail as "no safetensors file".
constexpr Kind kKinds[] = {
    {"version https://git-lfs.github.com/spec/", "a Git LFS pointer instead of the file itself",
     "run `git lfs pull` where it was cloned"},
    {"\x1f\x8b", "gzip-compressed", "unpack it first with gunzip"},
    {"\x7f"
     "ELF",
     "a program or shared library (ELF)", "give the .safetensors file"},
    {"MZ", "a Windows program or library (PE)", "give the .safetensors file"},
    {"\xfd"
     "7zXZ",
     "xz-compressed", "unpack it first with unxz"},
    {"BZh", "bzip2-compressed", "unpack it first with bunzip2"},
    {"\x28\xb5\x2f\xfd", "zstd-compressed", "unpack it first with unzstd"},
    {"7z\xbc\xaf", "a 7z archive", "unpack it first"},
    {"SQLite format 3", "an SQLite database", "a task comes from another store by `recast tasks DIR export`"},
    {"\x80\x02", "a pickle, which may run code when loaded", kConvert},
    {"\x80\x03", "a pickle, which may run code when loaded", kConvert},
    {"\x80\x04", "a pickle, which may run code when loaded", kConvert},
    {"\x80\x05", "a pickle, which may run code when loaded", kConvert},
    {"\x89HDF\r\n\x1a\n", "an HDF5 file", "export its weights as safetensors first"},
    {"\x93NUMPY", "a NumPy array file", "save it with the Python package safetensors first"},
    {"GGUF", "a GGUF file", "give the .safetensors file it was made from"},
    {"{", "JSON text", "give the .safetensors file itself, not an index or configuration"},
};

std::string lower_start(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  std::string start(first == text.npos ? ""sv : text.substr(first, 16));
  std::transform(start.begin(), start.end(), start.begin(), [](unsigned char c) { return std::tolower(c); });
  return start;
}

/// Eight printable bytes would claim a header of 2^60 bytes and more, so no file of ours is one.
bool is_text(std::string_view probe) {
  constexpr std::size_t kLengthBytes = 8;
  return probe.size() >= kLengthBytes && std::ranges::all_of(probe, [](char c) {
           return (c >= ' ' && c <= '~') || c == '\t' || c == '\r' || c == '\n';
         });
}

[[noreturn]] void refuse(std::string_view origin, std::string_view what, std::string_view remedy) {
  fail(Code::kUnsupported, "[safetensors] {}: is {}; expected a safetensors file: {}", origin, what, remedy);
}

}  // namespace

void refuse_foreign_file(std::string_view probe, std::string_view origin) {
  for (const Kind& kind : kKinds) {
    if (probe.starts_with(kind.magic)) refuse(origin, kind.what, kind.remedy);
  }
  if (probe.starts_with("PK\x03\x04")) {
    if (probe.find("data.pkl") != probe.npos)
      refuse(origin, "a PyTorch checkpoint (zip archive with a pickle)", kConvert);
    refuse(origin, "a zip archive",
           std::string("unpack it, or where it is a PyTorch checkpoint ") + std::string(kConvert));
  }
  if (probe.size() >= 262 && probe.substr(257, 5) == "ustar") refuse(origin, "a tar archive", "unpack it first");
  const std::string start = lower_start(probe);
  if (start.starts_with("<!doctype") || start.starts_with("<html") || start.starts_with("<?xml")) {
    refuse(origin, "a web page (HTML or XML)", "the download went wrong, fetch the file by its direct link");
  }
  if (is_text(probe)) {
    refuse(origin, fmt::format("a text that begins '{}'", printable(probe, 40)),
           "where it was downloaded, that went wrong, fetch the file by its direct link");
  }
}

}  // namespace recast
