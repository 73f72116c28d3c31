// The page for people: its files, and what it asks beside the protocol.
#include <openssl/evp.h>

#include <regex>

#include "format/temporary_folder.h"
#include "http_fixture.h"
#include "served_tasks.h"
#include "token_entry.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string base64(const std::string& bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

json correction(const std::string& label, const std::string& image = image_file(1)) {
  return {{"label", label}, {"image", base64(image)}};
}

std::string post_correction(const json& body, const std::string& fields = "", const std::string& model = "pair") {
  return post("/recast/v1/tasks/" + model + "/corrections", body.dump(), fields);
}

class HttpPageTest : public testing::Test {
 protected:
  HttpOptions with_folders() const {
    HttpOptions options = quick_options();
    write_text(folder_ / "examples/b.png", image_file(2));
    write_text(folder_ / "examples/a cat.png", image_file(3));
    write_text(folder_ / "examples/.hidden.png", image_file(4));
    write_text(folder_ / "examples/notes.txt", "no image");
    write_text(folder_ / "examples/large.png", std::string(2 << 20, 'x'));
    write_text(folder_ / "examples/below/c.png", image_file(5));
    options.examples = folder_ / "examples";
    options.corrections = folder_ / "corrections";
    return options;
  }

  std::size_t corrections() const {
    std::size_t count = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "corrections"))
      count += entry.is_regular_file();
    return count;
  }

  TemporaryFolder folder_;
};

// ---- the files -----------------------------------------------------------------------------------------------------

TEST_F(HttpPageTest, IsThreeFilesThatNameNothingFromElsewhere) {
  TestServer at;
  const std::map<std::string, std::string> files = {{"/", "text/html; charset=utf-8"},
                                                    {"/recast/page.css", "text/css; charset=utf-8"},
                                                    {"/recast/page.js", "text/javascript; charset=utf-8"}};
  static const std::regex kElsewhere(R"((https?:)?//[a-z0-9]|@import|url\()");
  for (const auto& [path, type] : files) {
    const HttpReply reply = at.ask(get(path));
    EXPECT_EQ(reply.status, 200) << path;
    EXPECT_EQ(reply.field("content-type"), type);
    EXPECT_EQ(reply.field("x-content-type-options"), "nosniff");
    EXPECT_THAT(reply.field("content-security-policy"),
                AllOf(HasSubstr("default-src 'none'"), HasSubstr("script-src 'self'"), HasSubstr("connect-src 'self'"),
                      HasSubstr("frame-ancestors 'none'"), Not(HasSubstr("unsafe"))));
    const std::string text = std::regex_replace(reply.body, std::regex("xmlns='http://www.w3.org/2000/svg'"), "");
    std::smatch found;
    EXPECT_FALSE(std::regex_search(text, found, kElsewhere)) << path << ": " << found.str();
    EXPECT_EQ(at.ask("HEAD" + get(path).substr(3)).field("content-length"), std::to_string(reply.body.size()));
    EXPECT_EQ(at.ask(post(path, "")).status, 405);
  }
}

TEST_F(HttpPageTest, HoldsNoScriptOrStyleOfItsOwn) {
  TestServer at;
  const std::string html = at.ask(get("/")).body, script = at.ask(get("/recast/page.js")).body;
  for (const char* inline_code :
       {R"(<script(?! src="recast/page.js" defer>))", "<style", R"( style=)", R"( on[a-z]+=)", "javascript:"})
    EXPECT_FALSE(std::regex_search(html, std::regex(inline_code))) << inline_code;
  for (const char* sink : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"})
    EXPECT_THAT(script, Not(HasSubstr(sink)));
}

TEST_F(HttpPageTest, StaysOffThePortForMetrics) {
  HttpOptions options = quick_options();
  options.metrics_only = true;
  TestServer at(options);
  for (const char* path : {"/", "/recast/page.js", "/recast/v1", "/recast/v1/tasks"})
    EXPECT_EQ(at.ask(get(path)).status, 404) << path;
}

// ---- what it asks --------------------------------------------------------------------------------------------------

TEST_F(HttpPageTest, LearnsWhatItMayDo) {
  TestServer bare;
  json settings = bare.json(get("/recast/v1"));
  EXPECT_EQ(settings["may"], json({{"infer", true}, {"read", true}, {"correct", false}}));
  EXPECT_EQ(settings["tokens"], false);
  EXPECT_EQ(settings["examples"], json::array());
  TestServer at(with_folders());
  settings = at.json(get("/recast/v1"));
  EXPECT_EQ(settings["may"]["correct"], true);
  EXPECT_EQ(settings["examples"], json::array({"a cat.png", "b.png"})) << "images alone, and small ones";
}

TEST_F(HttpPageTest, GivesExamplesByTheNamesItGave) {
  TestServer at(with_folders());
  const HttpReply cat = at.ask(get("/recast/v1/examples/a%20cat.png"));
  EXPECT_EQ(cat.status, 200);
  EXPECT_EQ(cat.field("content-type"), "image/png");
  EXPECT_EQ(cat.body, image_file(3));
  for (const char* name : {"notes.txt", ".hidden.png", "large.png", "c.png", "B.png"})
    EXPECT_EQ(at.ask(get(std::string("/recast/v1/examples/") + name)).status, 404) << name;
  for (const char* name : {"..%2Fexamples%2Fb.png", "below%2Fc.png", ".."})
    EXPECT_EQ(at.ask(get(std::string("/recast/v1/examples/") + name)).status, 400) << name;
  HttpOptions missing = quick_options();
  missing.examples = folder_ / "nowhere";
  error_of(Code::kNotFound, [&] { TestServer never(missing); });
}

TEST_F(HttpPageTest, ListsAndSearchesTasks) {
  TestServer at;
  const json first = at.json(get("/recast/v1/tasks?limit=1"));
  EXPECT_EQ(first["tasks"][0]["name"], "five");
  EXPECT_EQ(at.json(get("/recast/v1/tasks?after=" + first["next"].get<std::string>()))["tasks"][0]["name"], "pair");
  EXPECT_EQ(at.json(get("/recast/v1/tasks?search=ai"))["tasks"].size(), 1);
  EXPECT_EQ(at.json(get("/recast/v1/tasks/five"))["labels"].size(), 5);
  EXPECT_EQ(at.ask(get("/recast/v1/tasks/fiv")).status, 404);
  for (const char* query :
       {"limit=", "limit=x", "limit=1x", "limit=99999999999999999999", "limit=1&limit=2", "from=1", "search=%00"})
    EXPECT_EQ(at.ask(get(std::string("/recast/v1/tasks?") + query)).status, 400) << query;
}

TEST_F(HttpPageTest, AsksForTheRightRoles) {
  const auto token = [&](const std::string& name, std::set<Role> roles, std::vector<std::string> tasks = {"*"}) {
    return add_token(folder_ / "tokens.yaml", entry_of(name, std::move(roles), std::move(tasks)));
  };
  const std::string infer = token("infer", {Role::kInfer}), read = token("read", {Role::kRead}),
                    manage = token("manage", {Role::kManage}), one = token("one", {Role::kManage}, {"pair"});
  TokenTable table(folder_ / "tokens.yaml");
  TestServer at(with_folders(), &table);
  const auto bearer = [](const std::string& of) { return "Authorization: Bearer " + of + "\r\n"; };
  struct Case {
    std::function<std::string(const std::string& fields)> request;
    int infer, read, manage;
  };
  const auto getting = [](const std::string& path) {
    return [path](const std::string& fields) { return get(path, fields); };
  };
  const auto correcting = [](const std::string& fields) { return post_correction(correction("class 1"), fields); };
  for (const Case& c : {Case{getting("/recast/v1"), 200, 200, 200}, Case{getting("/recast/v1/tasks"), 403, 200, 200},
                        Case{getting("/recast/v1/tasks/pair"), 403, 200, 200},
                        Case{getting("/recast/v1/examples/b.png"), 200, 403, 403}, Case{correcting, 403, 403, 200}}) {
    EXPECT_EQ(at.ask(c.request(bearer(infer))).status, c.infer) << c.request("");
    EXPECT_EQ(at.ask(c.request(bearer(read))).status, c.read) << c.request("");
    EXPECT_EQ(at.ask(c.request(bearer(manage))).status, c.manage) << c.request("");
    EXPECT_EQ(at.ask(c.request("")).status, 401) << c.request("");
  }
  for (const char* path : {"/", "/recast/page.css", "/recast/page.js"})
    EXPECT_EQ(at.ask(get(path)).status, 200) << "without a token nobody could give one";
  EXPECT_EQ(at.json(get("/recast/v1", bearer(read)))["may"],
            json({{"infer", false}, {"read", true}, {"correct", false}}));
  EXPECT_EQ(at.json(get("/recast/v1", bearer(read)))["caller"], "read");
  EXPECT_EQ(at.json(get("/recast/v1", bearer(read)))["examples"], json::array());
  EXPECT_EQ(at.json(get("/recast/v1/tasks", bearer(one)))["tasks"].size(), 1);
  EXPECT_EQ(at.ask(get("/recast/v1/tasks/five", bearer(one))).status, 403);
  EXPECT_EQ(at.ask(post_correction(correction("class 1"), bearer(one), "five")).status, 403);
}

// ---- corrections ---------------------------------------------------------------------------------------------------

TEST_F(HttpPageTest, KeepsACorrection) {
  TestServer at(with_folders());
  const HttpReply reply = at.ask(post_correction(correction("class 1")));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json saved = json::parse(reply.body);
  EXPECT_EQ(saved["label"], "class 1");
  EXPECT_EQ(saved["images"], 1);
  EXPECT_TRUE(saved["moved_from"].is_null());
  EXPECT_THAT(saved["file"], HasSubstr("linear/pair/train/class 1/"));
  EXPECT_EQ(read_file(folder_ / "corrections" / saved["file"].get<std::string>(), 1 << 20), image_file(1));
  EXPECT_EQ(at.json(post_correction(correction("class 0")))["moved_from"], "class 1");
  EXPECT_EQ(corrections(), 1);
}

TEST_F(HttpPageTest, TakesANewLabelOnlyAsSuch) {
  TestServer at(with_folders());
  json body = correction("clas 1");
  const HttpReply reply = at.ask(post_correction(body));
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, AllOf(HasSubstr("did you mean 'class 1'?"), HasSubstr("new_label")));
  body["new_label"] = true;
  EXPECT_EQ(at.ask(post_correction(body)).status, 200);
  for (const char* label : {"../x", "a/b", "..", ".hidden", ""}) {
    body["label"] = label;
    EXPECT_EQ(at.ask(post_correction(body)).status, 400) << label;
  }
  EXPECT_EQ(corrections(), 1);
}

TEST_F(HttpPageTest, HoldsToTheLimitsOfCorrections) {
  HttpOptions options = with_folders();
  options.correction_limits.images = 1;
  TestServer at(options);
  EXPECT_EQ(at.ask(post_correction(correction("class 1"))).status, 200);
  const HttpReply full = at.ask(post_correction(correction("class 1", image_file(2))));
  EXPECT_EQ(full.status, 413);
  EXPECT_THAT(full.body, HasSubstr("at most 1 of 2147483648 bytes"));
  EXPECT_EQ(corrections(), 1);
}

TEST_F(HttpPageTest, RefusesWhatIsNoCorrection) {
  TestServer at(with_folders());
  for (const json& body :
       {json::array(), json::object(), json{{"label", "class 1"}}, json{{"label", 1}, {"image", ""}},
        json{{"label", "class 1"}, {"image", "no base64"}}, json{{"label", "class 1"}, {"image", ""}},
        json{{"label", "class 1"}, {"image", base64(image_file(1).substr(0, 60))}},
        json{{"label", "class 1"}, {"image", base64(image_file(1))}, {"new_label", 1}},
        json{{"label", "class 1"}, {"image", base64(image_file(1))}, {"path", "/etc"}}})
    EXPECT_EQ(at.ask(post_correction(body)).status, 400) << body;
  EXPECT_EQ(at.ask(post("/recast/v1/tasks/pair/corrections", "{")).status, 400);
  EXPECT_EQ(at.ask(post_correction(correction("class 1"), "", "paar")).status, 404);
  EXPECT_EQ(at.ask(post_correction(correction("class 1"), "Content-Type: text/html\r\n")).status, 415);
  EXPECT_EQ(
      at.ask("POST /recast/v1/tasks/pair/corrections HTTP/1.1\r\nHost: localhost\r\nContent-Length: 25000000\r\n\r\n")
          .status,
      413);
  EXPECT_EQ(corrections(), 0);
}

TEST_F(HttpPageTest, TakesCorrectionsFromItsOwnPageAlone) {
  EXPECT_EQ(TestServer().ask(post_correction(correction("class 1"))).status, 403) << "nobody gave it a folder";
  TestServer at(with_folders());
  const auto from = [&](const std::string& origin, const std::string& host) {
    const std::string body = correction("class 1").dump();
    return at
        .ask(fmt::format("POST /recast/v1/tasks/pair/corrections HTTP/1.1\r\nHost: {}\r\nOrigin: {}\r\n"
                         "Content-Length: {}\r\n\r\n{}",
                         host, origin, body.size(), body))
        .status;
  };
  EXPECT_EQ(from("http://127.0.0.1:8000", "127.0.0.1:8000"), 200);
  EXPECT_EQ(from("http://localhost:8000", "localhost:8000"), 200);
  EXPECT_EQ(from("https://[::1]:8000", "[::1]:8000"), 200);
  EXPECT_EQ(from("http://evil.example", "127.0.0.1:8000"), 403);
  EXPECT_EQ(from("http://localhost:9000", "localhost:8000"), 403) << "another server on this machine";
  EXPECT_EQ(from("http://evil.example:8000", "evil.example:8000"), 421) << "a name that was made to mean this machine";
  EXPECT_EQ(from("null", "127.0.0.1:8000"), 403);
}

}  // namespace
}  // namespace recast
