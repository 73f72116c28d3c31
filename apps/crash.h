#pragma once
#include <string_view>

namespace recast {

/// From now on this program does not die without a word: an uncaught exception, abort() or a signal of the processor is
/// reported on standard error (what, version, command, stage, backtrace, what is safe), and then takes its usual
/// course, so that exit status and core file are what they would have been. `command`: as typed.
void report_crashes(std::string_view command);
/// What the command is doing, for the report. Keeps the beginning of `stage`. From the main thread.
void note_stage(std::string_view stage) noexcept;

}  // namespace recast
