#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "recast/base/error.h"

namespace recast {

/// The message of the Error that `call` throws; fails unless it has `code` and is one line.
template <class Call>
std::string error_of(Code code, const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(name(error.code()), name(code)) << error.what();
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), message.npos) << message;
    return message;
  }
  ADD_FAILURE() << "nothing was thrown; expected " << name(code);
  return "";
}

}  // namespace recast
