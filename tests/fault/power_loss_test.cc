// Promises P1 and P3 when the power goes: a disk that drops, reorders and tears what was not synced; a sync that fails.
#include "disk_replay.h"
#include "fault_layer.h"
#include "format/expect_error.h"
#include "store/released/expect_released.h"
#include "store_script.h"

namespace recast {
namespace {

using fault::DiskReplay;
using fault::Event;
using fault::Loss;

constexpr std::array kLosses{Loss::kNothing, Loss::kUnsynced, Loss::kBytesOnly, Loss::kRandom, Loss::kRandom};

std::string judge_image(const DiskReplay& disk, Loss loss, unsigned seed, const std::vector<ExpectedStore>& allowed) {
  const TemporaryFolder folder;
  std::mt19937 random(seed);
  disk.write_image(loss, random, folder.path());
  return judge(folder.path(), allowed);
}

TEST(TaskStorePowerLoss, KeepsEveryAcknowledgedOperationWhateverTheDiskHadNotSynced) {
  const Script script;
  const TemporaryFolder folder;
  fault::watch(folder.path().string());
  fault::start_journal();
  {
    const auto store = open_for_writing(folder.path());
    for (std::size_t i = 0; i < script.operations.size(); ++i) {
      perform(*store, script.operations[i]);
      fault::note(static_cast<std::int64_t>(i + 1));
    }
  }
  const std::vector<Event> journal = fault::stop_journal();
  ASSERT_GT(journal.size(), 200u) << "too few calls: does the layer see them?";

  const std::size_t step = in_full() ? 1 : 13;
  DiskReplay disk;
  std::size_t acknowledged = 0, images = 0;
  for (std::size_t at = 0; at < journal.size(); ++at) {
    disk.add(journal[at]);
    if (journal[at].kind == Event::kNote) acknowledged = static_cast<std::size_t>(journal[at].offset);
    // The moment of an acknowledgement is the one that counts most.
    if (at % step != 0 && journal[at].kind != Event::kNote) continue;
    std::vector<ExpectedStore> allowed{script.after[acknowledged]};
    if (acknowledged < script.operations.size()) allowed.push_back(script.after[acknowledged + 1]);
    for (std::size_t i = 0; i < kLosses.size(); ++i, ++images) {
      ASSERT_EQ(judge_image(disk, kLosses[i], static_cast<unsigned>(at * 8 + i), allowed), "")
          << "after call " << at << " of " << journal.size() << ", loss " << i << ", operation " << acknowledged;
    }
  }
  fmt::print("{} states of the disk, after {} of {} calls\n", images, step == 1 ? "each" : "some", journal.size());
}

TEST(TaskStorePowerLoss, BringsAnOlderStoreUpToDateWheneverThePowerGoes) {
  const TemporaryFolder folder;
  fault::watch(folder.path().string());
  fault::start_journal();
  for (const char* file : {"tasks.db", "blobs"}) {
    std::filesystem::path from = kReleased / "schema-1" / file, to = folder / file;
    if (std::filesystem::is_directory(from)) {
      std::filesystem::create_directory(to);
      from = std::filesystem::directory_iterator(from)->path();
      to /= from.filename();
    }
    write_file_atomically(to, read_file(from, 1 << 24));
  }
  write_file_atomically(folder / "ready", "");  // its sync is the folder's too
  fault::note(1);
  open_released(folder.path(), false)->tag("pets", 2, "large");
  fault::note(2);
  const std::vector<Event> journal = fault::stop_journal();

  DiskReplay disk;
  std::int64_t step = 0, images = 0;
  for (std::size_t at = 0; at < journal.size() && !HasFailure(); ++at) {
    disk.add(journal[at]);
    if (journal[at].kind == Event::kNote) step = journal[at].offset;
    if (step == 0 || (at % 7 != 0 && !in_full() && journal[at].kind != Event::kNote)) continue;
    for (std::size_t i = 0; i < kLosses.size(); ++i, ++images) {
      const TemporaryFolder image;
      std::mt19937 random(static_cast<unsigned>(at * 8 + i));
      disk.write_image(kLosses[i], random, image.path());
      const auto tag = open_released(image.path(), true)->tagged("pets", "large");
      EXPECT_TRUE(step == 1 || tag == 2) << "after call " << at << ", loss " << i;
      if (!tag) expect_released_tasks(*open_released(image.path(), true));
      EXPECT_EQ(open_released(image.path(), false)->commit(released_task("new", 1)), 1);
      EXPECT_EQ(ask(image.path(), "PRAGMA integrity_check"), "ok");
    }
  }
  EXPECT_GT(images, 20);
}

/// Runs the script with one sync that fails. What the store may hold when the power goes afterwards is in `possible`.
void run_with_failing_sync(const std::filesystem::path& folder, const Script& script, std::int64_t nth,
                           std::vector<ExpectedStore>& possible) {
  fault::arm({fault::kSync, nth, fault::Fault::kFail, EIO, false});
  std::unique_ptr<TaskStore> store;
  try {
    store = open_for_writing(folder);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUnavailable) << error.what();
    return;
  }
  bool refuses = false;
  for (const Operation& operation : script.operations) {
    ExpectedStore next = possible.back();
    try {
      perform(*store, operation);
      EXPECT_FALSE(refuses) << "sync " << nth << ": acknowledged after a failed sync";
      next.apply(operation);
      possible = {next};
    } catch (const Error& error) {
      EXPECT_GT(fault::failed(), 0) << error.what();
      EXPECT_EQ(error.code(), Code::kUnavailable) << error.what();
      if (refuses) {
        EXPECT_THAT(error.what(), testing::HasSubstr("open the store again"));
        continue;
      }
      next.apply(operation);  // nobody knows
      possible.push_back(next);
    }
    // SQLite's own sync of the folder is the one whose failure it hides; the store has done that before (the images
    // below lack it), so nothing depends on it.
    refuses = fault::failed() > 0 && !fault::failed_on_folder_only();
  }
}

TEST(TaskStorePowerLoss, AcknowledgesNothingAfterAFailedSyncAndKeepsWhatItAcknowledgedBefore) {
  const Script script;
  std::int64_t nth = 1, refused = 0;
  for (;; nth += in_full() ? 1 : 3) {
    const TemporaryFolder folder;
    fault::watch(folder.path().string());
    fault::start_journal();
    std::vector<ExpectedStore> possible{ExpectedStore{}};
    run_with_failing_sync(folder.path(), script, nth, possible);
    const bool fired = fault::failed() > 0;
    fault::disarm();
    DiskReplay disk;
    for (const Event& event : fault::stop_journal()) disk.add(event);
    for (std::size_t i = 0; i < kLosses.size(); ++i) {
      ASSERT_EQ(judge_image(disk, kLosses[i], static_cast<unsigned>(nth), possible), "") << "sync " << nth;
    }
    // Opened again, it works again.
    ASSERT_EQ(judge(folder.path(), possible), "") << "sync " << nth;
    if (!fired) break;
    ++refused;
  }
  fmt::print("{} failed syncs of {}\n", refused, nth);
  EXPECT_GT(nth, 20);
}

}  // namespace
}  // namespace recast
