// CIFAR's binary files. The input: a byte that chooses the file's name and whether the file or its folder is opened,
// two bytes with the length of the file of class names (0: there is none), that file, the images file.
#include "data/source.h"
#include "scratch_folder.h"

using namespace recast;

RECAST_FUZZ_TARGET(cifar) {
  static const fuzz::ScratchFolder folder;
  if (bytes.size() < 3) return;
  const auto choice = static_cast<unsigned char>(bytes[0]);
  const std::size_t stated = static_cast<unsigned char>(bytes[1]) << 8 | static_cast<unsigned char>(bytes[2]);
  const std::string_view names = bytes.substr(3, stated);
  const std::string_view images = bytes.substr(3 + names.size());

  constexpr const char* kFiles[] = {"data_batch_1.bin", "test_batch.bin", "train.bin", "odd"};
  const std::string file = kFiles[choice & 3], place = std::to_string(choice & 7) + "/";
  for (const char* name : {"batches.meta.txt", "fine_label_names.txt"}) {
    names.empty() ? std::filesystem::remove(folder.path() / (place + name)) : !folder.put(place + name, names).empty();
  }
  const std::filesystem::path path = folder.put(place + file, images);
  const bool by_folder = choice & 4;
  if (by_folder && !holds_cifar(path.parent_path())) return;
  const auto source = fuzz::accepted([&] { return open_cifar(by_folder ? path.parent_path() : path); });
  if (!source) return;
  const std::vector<Record>& records = (*source)->records();
  RECAST_FUZZ_CHECK(!records.empty() && images.size() % records.size() == 0);
  const std::size_t stride = images.size() / records.size();
  RECAST_FUZZ_CHECK(stride == 3073 || stride == 3074);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const Picture picture = (*source)->image(i);
    RECAST_FUZZ_CHECK(picture.height == 32 && picture.width == 32);
    RECAST_FUZZ_CHECK(std::string_view(reinterpret_cast<const char*>(picture.planes.get()), 3072) ==
                      images.substr(i * stride + stride - 3072, 3072));
    RECAST_FUZZ_CHECK(!records[i].class_name.empty() && is_utf8(records[i].class_name));
  }
}
