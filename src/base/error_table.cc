#include "recast/base/error_table.h"

namespace recast {
namespace {

constexpr ErrorCause kInvalidArgument[] = {
    {"A flag, command or option is misspelt, or its value is outside the range that the message names.",
     "Use the name that the message suggests; `recast COMMAND --help` lists the flags, `recast methods NAME` the "
     "options "
     "of a plug-in."},
    {"A key of the `--config` file is unknown, given twice or nested.",
     "The keys are the long flags without dashes; `recast learn ... --print-config` writes a valid file."},
    {"A variable `RECAST_*` of the environment holds a value that the flag would not take.",
     "The message names the variable: unset or correct it. `recast doctor` lists those that are set."},
    {"Plug-ins that cannot work together, such as two that make one weight.",
     "Leave out one of the two that the message names."},
    {"`--resume` with settings other than those of the run that it should go on with.",
     "Give the settings of the run (its `config.yaml`), or another `--out`, or `--force` to begin afresh."},
    {"A solver of `recast mimic`, or `--heal`, diverged: the message has the step.",
     "Lower `--rate` or `--heal-rate`; `--solver closed` takes no steps and cannot diverge."},
    {"A task name outside `A-Z a-z 0-9 . _ -`, longer than 128 or with a dot in front.", "Choose another name."}};

constexpr ErrorCause kNotFound[] = {
    {"A path is misspelt, or relative to another folder than the present one.",
     "Check the path in the message; paths in a config file are relative to where the command is started."},
    {"No task of that name or version in this model directory.",
     "`recast tasks DIR list --all` shows all tasks, hidden ones too; `recast tasks DIR log NAME` the versions."},
    {"No plug-in or recipe of that name.", "`recast methods` lists those of this program."}};

constexpr ErrorCause kAlreadyExists[] = {
    {"The file or folder to write to is there already. Nothing was changed.",
     "Choose another place, or `--force` to replace it."},
    {"A task whose name differs in upper and lower case only is in the store.", "Use that spelling, or another name."}};

constexpr ErrorCause kShapeMismatch[] = {
    {"A task of another backbone: the fingerprints differ.",
     "Use the model directory that the task was learned on; `recast inspect DIR` shows its fingerprint."},
    {"A checkpoint that is not of the architecture given by `--arch`.",
     "Give the right `--arch`; the message names the first tensor that does not fit."},
    {"Numbers that the plug-in no longer declares, or with another count of classes than labels.",
     "The task was written by another version of recast: learn it again, or use that version."},
    {"A bank of templates asked for over weights of different shapes.", "Choose other `--target` or `--groups`."}};

constexpr ErrorCause kDataCorruption[] = {
    {"A download or copy was cut off: the file is shorter than its header says.",
     "Fetch or copy it again and compare its size and checksum with those of the source."},
    {"A checksum differs: a disk, a cable, memory or another program changed bytes.",
     "`recast doctor DIR` names what is damaged. Restore those files from a backup; check the disk (`dmesg`, "
     "`smartctl`)."},
    {"A file that lies about itself: lengths, offsets or counts do not fit together, or names occur twice.",
     "Do not use it; ask whoever made it. recast refuses what two readers could read in two ways."},
    {"NaN or infinity among weights or numbers.",
     "The training that made the file diverged, or a conversion to fp16 overflowed: convert again from fp32."},
    {"A damaged image or a row of a table that cannot be read; the message names it.",
     "Replace or remove it, or learn with `--bad-images skip`, which counts what it leaves out."},
    {"A damaged checkpoint of a run.", "Start the run again without `--resume`; stored tasks are not concerned."}};

constexpr ErrorCause kUnsupported[] = {
    {"A file of another kind than expected: a Git LFS pointer, a web page, a pickle, an archive.",
     "The message says what it is. LFS: `git lfs pull`. Pickles (`.pt`, `.pth`, `.bin`): "
     "`tools/convert_checkpoint.py`."},
    {"An adapter folder of PEFT of another type than LoRA, or with a variant of LoRA that the message names.",
     "Convert it to plain LoRA with PEFT, or learn the task here; docs/peft.md has what is read."},
    {"An image format other than those of docs/data.md.", "Convert the images to PNG, JPEG or WebP."},
    {"`recast export` of a plug-in that puts layers of its own into the network, or, without `--task`, of one whose "
     "weights are no sums of templates.",
     "Leave that plug-in out, or bake the task in with `--task`; docs/onnx.md has what can be exported."},
    {"`learn --mlflow` with a server or database in `MLFLOW_TRACKING_URI`.",
     "Set it to a folder (`file:FOLDER`), and take the runs over with MLflow's own tools; docs/logging.md."},
    {"A file written by a newer recast.", "Update recast; nothing was changed."},
    {"A device or number format that this machine or this build of PyTorch lacks.",
     "`recast doctor` shows what there is; leave the flag out, or install the CUDA wheel (docs/install.md)."},
    {"An architecture or tensor type that recast does not know.",
     "See `recast import --help` and docs/formats.md for what it reads."}};

constexpr ErrorCause kExhausted[] = {
    {"Not enough memory.",
     "Lower `--batch-size` or `--image-size`, end other programs, or raise the limit (`ulimit -v`, the container's). "
     "What "
     "was stored before is safe; `learn --resume` goes on from the last epoch."},
    {"A file, image or table larger than the limit that the message names.",
     "Check that it is the right file; scale large images down. The limits are in docs/formats.md and docs/data.md."},
    {"Too many open files or threads.", "Raise `ulimit -n` or `ulimit -u`, or lower `--threads`."}};

constexpr ErrorCause kUnavailable[] = {
    {"The disk is full, or the quota is reached.",
     "Free space and run the command again: what was there before is unchanged. `recast doctor DIR` shows the space."},
    {"A folder or file may not be read or written by this user, or is mounted for reading only.",
     "Check owner, permissions and mount. Reading a model directory needs no right to write."},
    {"Another process has been writing to the task store for more than 10 s.",
     "Wait for it or end it; then run the command again."},
    {"The disk reported an error while bytes were made durable. The store then takes no more writes.",
     "Look at `dmesg`; move the model directory to a sound disk and run `recast doctor DIR` there."},
    {"No memory was free to decode an image, whatever its size.",
     "End other programs or raise the limit, and run the command again."},
    {"Of several ranks one is gone or has not been heard for long; the message names it.",
     "Look at that host: what ended or stopped the process there? Then run the command with `--resume`, by as many "
     "ranks "
     "as there are; docs/ranks.md."},
    {"Standard output could not be written, as on a full disk.", "Write somewhere else. The work itself was done."}};

constexpr ErrorCause kCancelled[] = {
    {"Ctrl-C, SIGTERM (exit status 143) or SIGHUP (129): the command stopped after the step at hand.",
     "`recast learn ... --resume` with the same settings goes on to the same result."},
    {"A plug-in rejected the task.", "The message says why."}};

constexpr ErrorCause kInternal[] = {
    {"A bug of recast or of a library under it.",
     "Run the command again with `--log-level debug --log FILE` and report the message, the output of `recast doctor` "
     "and "
     "that file. Stored tasks are not concerned: a version is committed whole or not at all."}};

constexpr ErrorEntry kTable[] = {
    {Code::kInvalidArgument, "invalid_argument", 2, 400, "ValueError",
     "A flag, option, name or call that cannot be right whatever the files hold.", kInvalidArgument},
    {Code::kNotFound, "not_found", 4, 404, "LookupError", "A path, task, class or number that is not there.",
     kNotFound},
    {Code::kAlreadyExists, "already_exists", 2, 409, "FileExistsError", "It would overwrite what exists.",
     kAlreadyExists},
    {Code::kShapeMismatch, "shape_mismatch", 3, 400, "ValueError", "Numbers that do not fit where they should go.",
     kShapeMismatch},
    {Code::kDataCorruption, "data_corruption", 5, 500, "RuntimeError",
     "A file that is cut off, damaged or lies about itself.", kDataCorruption},
    {Code::kUnsupported, "unsupported", 3, 415, "NotImplementedError",
     "Understood, and not done here; also content of the wrong kind.", kUnsupported},
    {Code::kExhausted, "exhausted", 3, 413, "MemoryError", "A limit on memory, bytes or counts was reached.",
     kExhausted},
    {Code::kUnavailable, "unavailable", 1, 503, "OSError", "A disk, database or device is out of reach.", kUnavailable},
    {Code::kCancelled, "cancelled", 130, 499, "InterruptedError", "Stopped on request.", kCancelled},
    {Code::kInternal, "internal", 1, 500, "RuntimeError", "Our own fault.", kInternal}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < std::size(kTable); ++i)
    if (kTable[i].code != static_cast<Code>(i)) return false;
  return std::size(kTable) == static_cast<std::size_t>(Code::kInternal) + 1;
}
static_assert(in_order(), "error_entry() looks a code up by its place");

}  // namespace

std::span<const ErrorEntry> error_table() { return kTable; }

const ErrorEntry& error_entry(Code code) {
  const auto place = static_cast<std::size_t>(code);
  return kTable[place < std::size(kTable) ? place : static_cast<std::size_t>(Code::kInternal)];
}

std::string_view name(Code code) { return error_entry(code).name; }

int exit_status(Code code) { return error_entry(code).exit_status; }

std::string error_page() {
  std::string page =
      "# Errors\n"
      "Every failure is one line: the part of recast that speaks, what was wrong, what was expected, what to do, and "
      "at the "
      "end the code in brackets (left out where the exit status is 2: what was typed is explained by the message). "
      "With `--json` it is `{\"error\": {\"code\": ..., \"message\": ...}}` on standard "
      "error. "
      "`recast errors CODE` prints a section of this page.\n\n"
      "This page is made from the table in `src/base/error_table.cc`: `build/bin/recast errors --markdown > "
      "docs/errors.md`. A test compares the two.\n\n"
      "| code | exit status | HTTP | Python | meaning |\n|---|---|---|---|---|\n";
  for (const ErrorEntry& entry : kTable)
    page += fmt::format("| [{0}](#{0}) | {1} | {2} | {3} | {4} |\n", entry.name, entry.exit_status, entry.http_status,
                        entry.exception, entry.meaning);
  page +=
      "\nSuccess is 0. A program that died of a signal has no code: the shell shows 128 + its number (139: SIGSEGV, "
      "134: SIGABRT, 137: killed, usually for want of memory).\n";
  for (const ErrorEntry& entry : kTable) {
    page += fmt::format("\n## {}\n{} Exit status {}.\n\n", entry.name, entry.meaning, entry.exit_status);
    for (const ErrorCause& cause : entry.causes) page += fmt::format("- {} **{}**\n", cause.cause, cause.remedy);
  }
  return page;
}

}  // namespace recast
