#include "recast/data/loader.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "data/data_files.h"
#include "format/expect_error.h"
#include "format/temporary_folder.h"

namespace recast {
namespace {

struct Images {
  TemporaryFolder folder;
  std::unique_ptr<Dataset> data;

  Images() {
    for (const auto* name : {"a", "b"}) write_images(folder / name, 30);
    data = open_dataset(folder.path());
  }
};

const Preprocessing kSmall{.size_px = 4};

std::vector<std::int64_t> all_rows(const Pixels& pixels) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(pixels.size()));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

std::vector<LoadedBatch> drain(Loader& loader) {
  std::vector<LoadedBatch> out;
  while (auto batch = loader.next()) out.push_back(std::move(*batch));
  return out;
}

at::Tensor pixels_of(const std::vector<LoadedBatch>& batches) {
  std::vector<at::Tensor> all;
  for (const auto& batch : batches) all.push_back(batch.pixels);
  return at::cat(all);
}

TEST(Pixels, AreTheSameFromCacheAndFromDisk) {
  const Images images;
  const Pixels cached(*images.data, Split::kTrain, kSmall), fresh(*images.data, Split::kTrain, kSmall, 0);
  for (int pass = 0; pass < 2; ++pass) {
    for (std::int64_t i = 0; i < cached.size(); ++i) EXPECT_TRUE(at::equal(cached.pixels(i), fresh.pixels(i)));
  }
  EXPECT_EQ(cached.cached_bytes(), cached.size() * 3 * 4 * 4);
  EXPECT_EQ(fresh.cached_bytes(), 0);
  EXPECT_EQ(cached.pixels(0).data_ptr(), cached.pixels(0).data_ptr());
}

TEST(Pixels, KeepToTheirLimit) {
  const Images images;
  const Pixels some(*images.data, Split::kTrain, kSmall, 5 * 48 + 47);
  for (std::int64_t i = 0; i < some.size(); ++i) some.pixels(i);
  EXPECT_EQ(some.cached_bytes(), 5 * 48);
}

TEST(Loader, GivesAllRowsInOrderWithAShortLastBatch) {
  const Images images;
  const Pixels pixels(*images.data, Split::kTrain, kSmall);
  auto rows = all_rows(pixels);
  std::reverse(rows.begin(), rows.end());
  Loader loader(pixels, rows, {.batch_size = 8, .threads = 3, .prefetch = 2}, Key(1));
  const auto batches = drain(loader);
  EXPECT_EQ(static_cast<std::int64_t>(batches.size()), loader.batches());
  std::vector<std::int64_t> seen;
  for (const auto& batch : batches) {
    seen.insert(seen.end(), batch.rows.begin(), batch.rows.end());
    EXPECT_EQ(batch.pixels.size(0), static_cast<std::int64_t>(batch.rows.size()));
    for (std::size_t i = 0; i < batch.rows.size(); ++i) {
      EXPECT_EQ(batch.labels[i].item<std::int64_t>(), pixels.label(batch.rows[i]));
      EXPECT_TRUE(at::equal(batch.pixels[i], pixels.pixels(batch.rows[i])));
    }
  }
  EXPECT_EQ(seen, rows);
  EXPECT_EQ(batches.back().rows.size(), rows.size() % 8);
  EXPECT_FALSE(loader.next().has_value());
}

TEST(Loader, AugmentsByRowWhateverThreadsBatchesAndOrder) {
  const Images images;
  const Pixels pixels(*images.data, Split::kTrain, {.size_px = 16});
  const auto load = [&](std::int64_t batch_size, int threads, std::uint64_t seed) {
    Loader loader(pixels, all_rows(pixels),
                  {.batch_size = batch_size, .threads = threads, .augmentation = Augmentation::paper()}, Key(seed));
    return pixels_of(drain(loader));
  };
  const auto expected = load(7, 0, 1);
  EXPECT_TRUE(at::equal(load(16, 1, 1), expected));
  EXPECT_TRUE(at::equal(load(5, 4, 1), expected));
  EXPECT_FALSE(at::equal(load(5, 4, 2), expected));
  auto backwards = all_rows(pixels);
  std::reverse(backwards.begin(), backwards.end());
  Loader loader(pixels, backwards, {.batch_size = 7, .augmentation = Augmentation::paper()}, Key(1));
  EXPECT_TRUE(at::equal(pixels_of(drain(loader)).flip({0}), expected));
}

TEST(Loader, HandsOnWhatAWorkerMet) {
  const Images images;
  const auto bad = images.data->examples(Split::kTrain)[20].id;
  write_bytes(images.folder / bad, "not an image");
  const Pixels pixels(*images.data, Split::kTrain, kSmall);
  for (const int threads : {0, 2}) {
    Loader loader(pixels, all_rows(pixels), {.batch_size = 8, .threads = threads}, Key(1));
    EXPECT_TRUE(loader.next().has_value());
    EXPECT_TRUE(loader.next().has_value());
    EXPECT_THAT(error_of(Code::kUnsupported, [&] { loader.next(); }), testing::HasSubstr(bad));
    EXPECT_FALSE(loader.next().has_value());
  }
}

TEST(Loader, StopsItsThreadsWhenDroppedHalfWay) {
  const Images images;
  const Pixels pixels(*images.data, Split::kTrain, kSmall);
  for (int i = 0; i < 20; ++i) {
    Loader loader(pixels, all_rows(pixels), {.batch_size = 2, .threads = 4, .prefetch = 3}, Key(1));
    for (int k = 0; k < i % 4; ++k) loader.next();
  }
}

int threads_of_the_next_operation() {
  at::parallel_for(0, 1, 1, [](std::int64_t, std::int64_t) {});  // libtorch numbers a thread at its first of these
  return at::get_num_threads();
}

TEST(Loader, LeavesTheThreadsOfOthersAlone) {
  const Images images;
  const Pixels pixels(*images.data, Split::kTrain, kSmall);
  at::set_num_threads(2);
  int caller = 0, later = 0;
  std::thread([&] {
    Loader loader(pixels, all_rows(pixels), {.threads = 2}, Key(1));
    drain(loader);
    caller = threads_of_the_next_operation();
  }).join();
  std::thread([&] { later = threads_of_the_next_operation(); }).join();
  EXPECT_EQ(caller, 2);
  EXPECT_EQ(later, 2);
}

TEST(Loader, TakesAsManyThreadsAsTheMachineHas) {
  const Images images;
  const Pixels pixels(*images.data, Split::kTrain, kSmall);
  Loader loader(pixels, all_rows(pixels), {.threads = 300}, Key(1));
  std::int64_t rows = 0;
  while (const auto batch = loader.next()) rows += batch->labels.size(0);
  EXPECT_EQ(rows, pixels.size());
}

TEST(Loader, RefusesBadOptionsAndRows) {
  const Images images;
  const Pixels pixels(*images.data, Split::kTest, kSmall);
  error_of(Code::kInvalidArgument, [&] { Loader(pixels, {0}, {.batch_size = 0}, Key(1)); });
  error_of(Code::kInvalidArgument, [&] { Loader(pixels, {0}, {.threads = -1}, Key(1)); });
  error_of(Code::kInvalidArgument, [&] { Loader(pixels, {0}, {.prefetch = 0}, Key(1)); });
  error_of(Code::kInvalidArgument, [&] { Loader(pixels, {pixels.size()}, {}, Key(1)); });
  error_of(Code::kInvalidArgument, [&] { Pixels(*images.data, Split::kTest, {.size_px = 0}); });
  Loader empty(pixels, {}, {}, Key(1));
  EXPECT_FALSE(empty.next().has_value());
}

}  // namespace
}  // namespace recast
