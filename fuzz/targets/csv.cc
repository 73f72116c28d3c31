// A CSV file beside a few files that it may name.
#include <algorithm>
#include <set>

#include "data/source.h"
#include "scratch_folder.h"

using namespace recast;

RECAST_FUZZ_TARGET(csv) {
  static const fuzz::ScratchFolder folder;
  [[maybe_unused]] static const bool files_are_there = [] {
    for (const char* name : {"a.png", "b.png", "c/d.jpg", "e f.png", "g,h.png"}) folder.put(name, "");
    return true;
  }();
  const auto source = fuzz::accepted([&] { return open_csv(folder.put("input.csv", bytes)); });
  if (!source) return;
  const std::vector<Record>& records = (*source)->records();
  const auto lines = 1 + static_cast<std::size_t>(
                             std::count_if(bytes.begin(), bytes.end(), [](char c) { return c == '\n' || c == '\r'; }));
  RECAST_FUZZ_CHECK(!records.empty() && records.size() < lines);
  std::set<std::string> ids;
  for (const Record& record : records) {
    RECAST_FUZZ_CHECK(ids.insert(record.id).second);
    RECAST_FUZZ_CHECK(!record.id.empty() && is_utf8(record.id) && record.id.find('\0') == record.id.npos);
    RECAST_FUZZ_CHECK(!record.class_name.empty() && is_utf8(record.class_name));
    RECAST_FUZZ_CHECK(std::filesystem::is_regular_file(folder.path() / record.id));
  }
}
