// How long a start takes on a large folder:
//   scan_folder --make 200000 FOLDER    writes so many small PNG and JPEG files, of 100 classes, into a new FOLDER
//   scan_folder FOLDER                  opens it as a dataset, hashes its images, looks for duplicates; says how long
// The second run of the second line is the second start. RECAST_CACHE says where the hashes are kept.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "data/data_files.h"
#include "data/jpeg_files.h"
#include "recast/base/error.h"
#include "recast/data/contents.h"
#include "recast/data/dataset.h"

namespace {

using namespace recast;

void make(const std::filesystem::path& folder, int count) {
  const std::string jpeg = encode_jpeg(24, 24);
  for (int i = 0; i < count; ++i) {
    const auto stem = folder / fmt::format("class {:02}", i % 100) / fmt::format("image {:06}", i);
    // What follows a JPEG's end is not looked at, and makes each file another one.
    if (i % 2 == 0) {
      write_bytes(stem.string() + ".jpg", jpeg + std::to_string(i));
    } else {
      const at::Tensor pixels = at::full({3, 16, 16}, i % 256, at::kByte);
      pixels[0].fill_(i / 256 % 256);
      pixels[1].fill_(i / 65536);
      write_bytes(stem.string() + ".png", encode_png(pixels));
    }
  }
}

class Clock {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now(), before = std::exchange(last_, now);
    return std::chrono::duration<double>(now - before).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

void scan(const std::filesystem::path& folder) {
  Clock clock;
  const auto data = open_dataset(folder);
  const double opened = clock.lap();
  const auto splits = describe_splits(*data);
  const double described = clock.lap();
  const Contents contents = scan_contents(*data);
  const double scanned = clock.lap();
  const Duplicates duplicates = find_duplicates(*data, contents);
  const double compared = clock.lap();
  std::printf("%s\n", nlohmann::json{{"images", splits.at("counts")},
                                     {"hashed", contents.hashed},
                                     {"remembered", contents.remembered},
                                     {"unreadable", contents.unreadable},
                                     {"duplicates", describe(duplicates)},
                                     {"notes", contents.notes},
                                     {"seconds",
                                      {{"list and split", opened},
                                       {"digests of splits", described},
                                       {"hash or remember", scanned},
                                       {"find duplicates", compared},
                                       {"all", opened + described + scanned + compared}}}}
                          .dump(2)
                          .c_str());
}

}  // namespace

int main(int count, char** words) {
  try {
    if (count == 4 && std::string_view(words[1]) == "--make") {
      make(words[3], std::atoi(words[2]));
    } else if (count == 2) {
      scan(words[1]);
    } else {
      std::fprintf(stderr, "usage: scan_folder [--make COUNT] FOLDER\n");
      return 2;
    }
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return exit_status(error.code());
  }
}
