#include "serve/http_query.h"

#include "format/expect_error.h"

namespace recast {
namespace {

using testing::HasSubstr;
using Query = std::map<std::string, std::string>;

const std::vector<std::string> kKnown = {"after", "search"};

TEST(HttpQuery, IsReadAsPagesWriteIt) {
  EXPECT_EQ(parse_query("/x", kKnown), Query());
  EXPECT_EQ(parse_query("/x?", kKnown), Query());
  EXPECT_EQ(parse_query("/x?after=vit%40cars&search=a+b%2Fc", kKnown),
            (Query{{"after", "vit@cars"}, {"search", "a b/c"}}));
  EXPECT_EQ(parse_query("/x?search=&after", kKnown), (Query{{"search", ""}, {"after", ""}}));
  EXPECT_EQ(parse_query("/x?search=a=b?c", kKnown), (Query{{"search", "a=b?c"}}));
  EXPECT_EQ(parse_query("/x?search=%252e", kKnown), (Query{{"search", "%2e"}})) << "decoded once";
}

TEST(HttpQuery, RefusesWhatItDoesNotKnow) {
  const auto refused = [](const std::string& target) {
    return error_of(Code::kInvalidArgument, [&] { parse_query(target, kKnown); });
  };
  EXPECT_THAT(refused("/x?serch=a"), HasSubstr("did you mean 'search'?"));
  EXPECT_THAT(refused("/x?after=a&after=b"), HasSubstr("'after' twice"));
  for (const char* bad : {"%", "%4", "%zz", "%00", "%0a", "%ff", "%e2%80%ae"})
    EXPECT_THAT(refused(std::string("/x?search=") + bad), HasSubstr("[url]")) << bad;
  EXPECT_THAT(refused("/x?search=" + std::string(513, 'a')), HasSubstr("512 bytes"));
}

}  // namespace
}  // namespace recast
