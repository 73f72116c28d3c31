/// What `learn` and `stream` let a user choose of learning.
#pragma once

#include <string>

#include "command_line.h"
#include "recast/run/learn_task.h"

namespace recast {

class Progress;

struct LearningFlags {
  std::string directory, data, out, amp, bad_images = "stop";
  bool print_config = false, mlflow = false;

  /// Declares the options that fill these and the request; both must live as long as the command.
  void declare(Command& command, CommandLine& line, LearnRequest& request);

  /// Carries what was given over into the request.
  void settle(LearnRequest& request) const;
};

/// What a request needs of the process it runs in: its command line, Ctrl-C and the terminal.
void attach(LearnRequest& request, CommandLine& line, Progress& progress);

}  // namespace recast
