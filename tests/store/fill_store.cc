// Fills a model directory's store with many tasks that work, for tests and benches of serving:
//   fill_store DIRECTORY COUNT TASK...    COUNT tasks task-0000000, ... each like one of the stored TASKs, in turn
// Their numbers are those of TASK times factors around 1, so each task answers otherwise. Every task is one commit with
// its own sync, so fill a copy in memory and move it to the disk then:
//   cp -r MODEL /dev/shm/filled && fill_store /dev/shm/filled 100000 pets && cp -r /dev/shm/filled .
#include "fill_store.h"

#include <charconv>
#include <chrono>
#include <cstdio>

#include "recast/model/model_files.h"

int main(int argc, char** argv) try {
  using namespace recast;
  std::int64_t count = 0;
  const std::string text = argc > 2 ? argv[2] : "";
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (argc < 4 || error != std::errc() || end != text.data() + text.size() || count < 0) {
    std::fprintf(stderr, "usage: fill_store DIRECTORY COUNT TASK...\n");
    return 2;
  }
  const std::filesystem::path directory = argv[1];
  const auto store = open_sqlite_store(directory, read_model_files(directory).fingerprint(), false);
  std::vector<TaskRecord> likes;
  for (int i = 3; i < argc; ++i) {
    auto like = store->load(argv[i]);
    if (!like) fail(Code::kNotFound, "[fill_store] {}: no task '{}'", argv[1], argv[i]);
    likes.push_back(std::move(*like));
  }
  const auto start = std::chrono::steady_clock::now();
  fill_store(*store, likes, count);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%lld tasks in %.1f s, %.2f ms each\n", static_cast<long long>(count), seconds,
              seconds * 1e3 / static_cast<double>(count));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
