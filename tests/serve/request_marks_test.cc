#include "request_marks.h"

#include <gtest/gtest.h>

namespace recast {
namespace {

const std::string kTrace = "0af7651916cd43dd8448eb211c80319c", kSpan = "b7ad6b7169203331";

TEST(RequestMarks, KeepAnIdThatIsHarmless) {
  for (const std::string& id : {std::string("r-1"), std::string("a/b+c=_.:@"), std::string(128, 'x')})
    EXPECT_EQ(request_marks(id, "").id, id);
  for (const std::string& id :
       {std::string(), std::string("a b"), std::string("a\"b"), std::string(129, 'x'), std::string("\xc3\xa4")})
    EXPECT_EQ(request_marks(id, "").id, "") << id;
}

TEST(RequestMarks, TakeTraceAndSpanOfAWellFormedTraceparent) {
  for (const std::string& good :
       {"00-" + kTrace + "-" + kSpan + "-01", "00-" + kTrace + "-" + kSpan + "-00",
        "01-" + kTrace + "-" + kSpan + "-01", "cc-" + kTrace + "-" + kSpan + "-01-what-comes-later"}) {
    EXPECT_EQ(request_marks("", good).trace, kTrace) << good;
    EXPECT_EQ(request_marks("", good).span, kSpan) << good;
  }
}

TEST(RequestMarks, TakeNothingOfAMalformedOne) {
  const std::string zeros(32, '0');
  std::string upper = kTrace;
  upper[1] = 'A';
  for (const std::string& bad :
       {std::string(), std::string("00"), "00-" + kTrace + "-" + kSpan, "00-" + kTrace + "-" + kSpan + "-1",
        "00-" + kTrace + "-" + kSpan + "-01-more", "ff-" + kTrace + "-" + kSpan + "-01",
        "00-" + zeros + "-" + kSpan + "-01", "00-" + kTrace + "-" + zeros.substr(16) + "-01",
        "00-" + upper + "-" + kSpan + "-01", "00_" + kTrace + "-" + kSpan + "-01", "0x-" + kTrace + "-" + kSpan + "-01",
        "01-" + kTrace + "-" + kSpan + "-01more", "00-" + kTrace + "-" + kSpan + "-0\n"}) {
    EXPECT_EQ(request_marks("", bad).trace, "") << bad;
    EXPECT_EQ(request_marks("", bad).span, "") << bad;
  }
}

}  // namespace
}  // namespace recast
