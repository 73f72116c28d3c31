#include "crash.h"

#include <cxxabi.h>
#include <execinfo.h>
#include <fmt/format.h>
#include <signal.h>
#include <torch/version.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "recast/format/printable.h"
#include "recast/run/machine.h"

namespace recast {
namespace {

// All that the handler touches is laid out before anything can go wrong.
constexpr std::size_t kStackBytes = 64 << 10;
alignas(16) char signal_stack[kStackBytes];
char command_text[1024] = "recast";
char stage_text[128] = "starting";
char kept_version[64] = "";
std::atomic<bool> described{false};  // an uncaught exception has been told already
std::atomic<int> reporter{0};        // the one thread that reports

struct Fatal {
  int number;
  const char* name;
  const char* meaning;
};
constexpr Fatal kFatal[] = {{SIGSEGV, "SIGSEGV", "access to memory that is not there"},
                            {SIGBUS, "SIGBUS", "access to memory that cannot be read, as of a file that shrank"},
                            {SIGFPE, "SIGFPE", "an impossible calculation, as a division by 0"},
                            {SIGILL, "SIGILL", "an instruction that this processor does not know"},
                            {SIGABRT, "SIGABRT", "a check inside recast or a library failed"}};

template <std::size_t N>
void keep(char (&to)[N], std::string_view text) noexcept {
  const std::size_t bytes = std::min(text.size(), N - 1);
  std::memcpy(to, text.data(), bytes);
  to[bytes] = '\0';
}

// ---- allowed inside a signal handler: write(), no allocation, no locks ----

void say(const char* text) { [[maybe_unused]] const auto n = ::write(STDERR_FILENO, text, std::strlen(text)); }

void say_number(std::uintptr_t value, unsigned base) {
  char digits[24];
  std::size_t at = sizeof digits - 1;
  digits[at] = '\0';
  do {
    digits[--at] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value > 0 && at > 0);
  say(digits + at);
}

void say_where() {
  say("  version  ");
  say(kept_version);
  say("\n  command  ");
  say(command_text);
  say("\n  stage    ");
  say(stage_text);
  say("\n  backtrace (addr2line -Cfpe FILE OFFSET names the lines):\n");
  void* frames[48];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, 48), STDERR_FILENO);
  say("Tasks stored before are safe: a version is committed whole or not at all. A run that was under way goes on "
      "with\n"
      "the same command and --resume. 'recast doctor DIR' checks a model directory.\n"
      "This should not happen: please report these lines together with the output of 'recast doctor'.\n");
}

void say_signal(int number, const siginfo_t* info) {
  const Fatal* found = kFatal;
  for (const Fatal& each : kFatal)
    if (each.number == number) found = &each;
  say("\nrecast: crashed: ");
  say(found->meaning);
  say(" (");
  say(found->name);
  if (info->si_code <= 0 && info->si_pid != ::getpid()) {
    say(", sent by process ");
    say_number(static_cast<std::uintptr_t>(info->si_pid), 10);
  } else if (info->si_code > 0) {
    say(" at address 0x");
    say_number(reinterpret_cast<std::uintptr_t>(info->si_addr), 16);
  }
  say(")\n");
}

void on_fatal(int number, siginfo_t* info, void*) {
  int other = 0;
  const int me = ::gettid();
  if (!reporter.compare_exchange_strong(other, me)) {
    while (other != me) ::pause();  // another thread is reporting, and its signal will end this one too
    ::signal(number, SIG_DFL);      // the report itself crashed
    ::raise(number);
    return;
  }
  if (!described) say_signal(number, info);
  say_where();
  ::signal(number, SIG_DFL);
  ::raise(number);  // takes effect when this handler returns
}

// ---- uncaught exceptions ----

[[noreturn]] void on_terminate() {
  if (!described.exchange(true)) {
    std::string what = "an exception of an unknown type";
    if (const std::exception_ptr thrown = std::current_exception()) {
      try {
        std::rethrow_exception(thrown);
      } catch (const std::exception& error) {
        what = printable(error.what(), 1000);
      } catch (...) {
        const std::type_info* type = abi::__cxa_current_exception_type();
        if (type) what += std::string(" (") + type->name() + ")";
      }
    } else {
      what = "terminate() was called";
    }
    say(("\nrecast: crashed: an error that nobody handled: " + what + "\n").c_str());
  }
  std::abort();
}

}  // namespace

void note_stage(std::string_view stage) noexcept { keep(stage_text, stage); }

void report_crashes(std::string_view command) {
  keep(command_text, printable(command, sizeof command_text - 8));
  keep(kept_version, fmt::format("{}, PyTorch {}", kRecastVersion, TORCH_VERSION));
  std::set_terminate(on_terminate);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return;  // the sanitizer reports better
#endif
  void* frame[1];
  ::backtrace(frame, 1);  // the first call loads a library, which a handler must not do
  stack_t stack{};
  stack.ss_sp = signal_stack;
  stack.ss_size = sizeof signal_stack;
  ::sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_fatal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  for (const Fatal& fatal : kFatal) ::sigaction(fatal.number, &action, nullptr);
}

}  // namespace recast
