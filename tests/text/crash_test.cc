// The crash report in processes that crash for real; tests/text/diagnosis_test.cc sends signals to the program.
#include "../../apps/crash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "text/run_recast.h"

namespace recast {
namespace {
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;
using ::testing::KilledBySignal;

void crash_in(const std::string& stage) {
  report_crashes("recast learn a\nb");
  note_stage(stage);
}

auto report(const std::string& what) {
  return AllOf(HasSubstr("recast: crashed: " + what), HasSubstr("command  recast learn a\\x0ab"),
               HasSubstr("stage    training"), HasSubstr("Tasks stored before are safe"));
}

void write_to(void* place) { *static_cast<volatile int*>(place) = 1; }

volatile int zero = 0, quotient = 0;
[[gnu::no_sanitize_undefined]] void divide() { quotient = 100 / zero; }

/// Nobody may catch what it throws.
void throw_seven(int seven) noexcept {
  if (seven == 7) [] { throw 7; }();
}

int overflow(int depth) {
  if (depth < 0) return 0;
  volatile char frame[4096] = {};
  frame[0] = static_cast<char>(depth);
  return overflow(depth + 1) + frame[0];
}

TEST(CrashReportDeathTest, TellsTheAddressOfABadAccess) {
  SKIP_WITH_SANITIZER();
  void* const page = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  EXPECT_EXIT((crash_in("training"), write_to(page)), KilledBySignal(SIGSEGV),
              AllOf(report("access to memory that is not there (SIGSEGV at address 0x"), ContainsRegex("text_test")));
}

TEST(CrashReportDeathTest, HasAStackOfItsOwn) {
  SKIP_WITH_SANITIZER();
  EXPECT_EXIT((crash_in("training"), overflow(0)), KilledBySignal(SIGSEGV), report("access to memory"));
}

TEST(CrashReportDeathTest, NamesADivisionByZero) {
  SKIP_WITH_SANITIZER();
  EXPECT_EXIT((crash_in("training"), divide()), KilledBySignal(SIGFPE), report("an impossible calculation"));
}

TEST(CrashReportDeathTest, TellsAnExceptionThatNoThreadCaught) {
  SKIP_WITH_SANITIZER();
  EXPECT_EXIT((crash_in("training"), std::thread([] { throw std::runtime_error("no such\nluck"); }).join()),
              KilledBySignal(SIGABRT), report("an error that nobody handled: no such\\x0aluck"));
  EXPECT_EXIT((crash_in("training"), throw_seven(7)), KilledBySignal(SIGABRT),
              report("an error that nobody handled: an exception of an unknown type"));
}

TEST(CrashReportDeathTest, KeepsLongTextsWithinBounds) {
  SKIP_WITH_SANITIZER();
  EXPECT_EXIT((report_crashes("recast " + std::string(5000, 'x')), note_stage(std::string(5000, 'y')), std::abort()),
              KilledBySignal(SIGABRT), HasSubstr("xxx..."));
}

TEST(CrashReportDeathTest, SaysNothingOfAGoodEnd) {
  EXPECT_EXIT((crash_in("training"), std::exit(0)), ExitedWithCode(0), ::testing::IsEmpty());
}

}  // namespace
}  // namespace recast
