// Makes the files that every later version must read. Run once per version of a format, before the next one is begun:
//   make_released tests/store/released/schema-2 tests/store/released/task-file-2
#include <fmt/format.h>

#include <exception>
#include <filesystem>

#include "released_content.h"

int main(int argc, char** argv) try {
  using namespace recast;
  if (argc != 3) {
    fmt::print(stderr, "usage: make_released FOLDER-OF-STORE FOLDER-OF-TASK-FILES\n");
    return 2;
  }
  const std::filesystem::path store_folder = argv[1], file_folder = argv[2];
  std::filesystem::create_directories(store_folder);
  std::filesystem::create_directories(file_folder);
  const auto store = open_sqlite_store(store_folder, kReleasedFingerprint, false);
  commit_released_tasks(*store);
  for (const char* name : {"pets", "b"}) {
    write_file_atomically(file_folder / fmt::format("{}.safetensors", name), encode_task(*store->load(name)));
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
