// The page of `recast report`: complete, well-formed, and harmless whatever the labels are.
#include "recast/run/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "format/expect_error.h"
#include "recast/run/learn_task.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

/// Names of the elements left open, or what is wrong: "" for a page whose tags balance.
std::string fault_of_tags(std::string html) {
  html = std::regex_replace(html, std::regex("<style>[^<]*</style>"), "<style></style>");
  const std::set<std::string> without_end = {"!DOCTYPE", "meta", "img", "br"};
  std::vector<std::string> open;
  for (std::size_t at = html.find('<'); at != html.npos; at = html.find('<', at)) {
    std::size_t end = at + 1;
    for (char quote = 0; end < html.size() && (quote || html[end] != '>'); ++end) {
      if (!quote && html[end] == '<') return "a '<' inside a tag: " + html.substr(at, 80);
      if (html[end] == '"') quote = quote ? 0 : '"';
    }
    if (end >= html.size()) return "a tag without end: " + html.substr(at, 80);
    const bool closes = html[at + 1] == '/';
    const std::size_t from = at + 1 + closes;
    const std::string name = html.substr(from, html.find_first_of(" >\n", from) - from);
    at = end;
    if (without_end.count(name)) continue;
    if (!closes) {
      open.push_back(name);
    } else if (open.empty() || open.back() != name) {
      return "</" + name + "> closes " + (open.empty() ? "nothing" : open.back());
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back() + " is never closed";
}

std::vector<std::string> all_matches(const std::string& text, const char* pattern) {
  std::vector<std::string> found;
  const std::regex expression(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), expression), end; it != end; ++it) found.push_back((*it)[1]);
  return found;
}

std::string percent(const nlohmann::json& share) { return fmt::format("{:.1f} %", 100 * share.get<double>()); }

/// A model with a learned task, one of a head alone on the same images, and one that came without any figures.
class ReportTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryFolder;
    write_toy_model(*shared_ / "model");
    write_toy_images(*shared_ / "data", {"<script>alert(1)", "\"onload='x' a&b", "green"}, 12);
    learned_ = learn("colours", {});
    head_ = learn("colours-head", {"linear-probe"});
    const ModelDirectory directory = ModelDirectory::open(*shared_ / "model", false);
    TaskRecord bare = directory.record("colours-head");
    bare.name = "pretrained";
    bare.metrics = bare.data = nullptr;
    directory.store().commit(bare);
    ReportOptions options;
    options.measure = true;
    html_ = report_html(directory, options);
  }
  static void TearDownTestSuite() { delete shared_; }

  static nlohmann::json learn(const std::string& task, std::vector<std::string> plugs) {
    LearnRequest request;
    request.directory = *shared_ / "model";
    request.data = *shared_ / "data";
    request.task = task;
    request.plugs = std::move(plugs);
    request.epochs = 3;
    request.command = "recast learn --data <b>'x'</b>";
    return learn_task(request).results;
  }

  static inline TemporaryFolder* shared_ = nullptr;
  static inline nlohmann::json learned_, head_;
  static inline std::string html_;
  TemporaryFolder own_;
};

TEST_F(ReportTest, HoldsEveryTaskAndItsNumbers) {
  for (const nlohmann::json& results : {learned_, head_}) {
    EXPECT_THAT(html_, HasSubstr(">" + results["task"].get<std::string>() + "</a>"));
    EXPECT_THAT(html_, HasSubstr(percent(results["test"]["top1"])));
    EXPECT_THAT(html_, HasSubstr(percent(results["validation"]["top1"])));
    for (const char* count : {"coefficients", "stored_bytes"})
      EXPECT_THAT(html_, HasSubstr("<td class=\"n\">" + fmt::format("{}", results[count].get<std::int64_t>())));
    for (const auto& epoch : results["history"])
      EXPECT_THAT(html_, HasSubstr(fmt::format("<td class=\"n\">{:.4f}</td>", epoch["eval_loss"].get<double>())));
    for (const auto& row : results["confusion"]) {
      std::string cells;
      for (const auto& count : row) cells += fmt::format("<td class=\"n\">{}</td>", count.get<std::int64_t>());
      EXPECT_THAT(html_, HasSubstr(cells));
    }
    for (const auto& [stage, top1] : results["candidates"].items())
      EXPECT_THAT(html_, HasSubstr(stage + " " + percent(top1)));
  }
  EXPECT_THAT(html_, HasSubstr(learned_["fingerprint"].get<std::string>()));
  EXPECT_THAT(html_, HasSubstr(learned_["machine"]["cpu"].get<std::string>()));
  EXPECT_THAT(html_, HasSubstr("task colours-head</small>"));  // the head alone, as measured by that task
  EXPECT_THAT(html_, HasSubstr("no task’s test accuracy fell"));
}

TEST_F(ReportTest, ShowsTestImagesWithTheirPredictions) {
  const auto images = all_matches(html_, "<img src=\"(data:image/png;base64,iVBORw0KGgo)");
  const std::int64_t shown = std::min<std::int64_t>(12, learned_["images"]["test"].get<std::int64_t>());
  EXPECT_EQ(images.size(), static_cast<std::size_t>(2 * shown));
  EXPECT_THAT(html_, HasSubstr("class=\"verdict\">✓"));
}

TEST_F(ReportTest, ComparesEveryCoveredLayerWithTheBackbone) {
  for (int block = 0; block < 4; ++block) {
    EXPECT_THAT(html_, HasSubstr(fmt::format("<th scope=\"row\">blocks.{}.attn.qkv</th>", block)));
    EXPECT_THAT(html_, HasSubstr(fmt::format("<title>blocks.{}: ", block)));
  }
}

TEST_F(ReportTest, IsWellFormedAndNeedsNothingElse) {
  EXPECT_EQ(fault_of_tags(html_), "");
  EXPECT_THAT(html_, Not(::testing::ContainsRegex("https?://|url\\(|@import|<link|<script|<iframe")));
  for (const std::string& source : all_matches(html_, "src=\"([^\"]{0,11})")) EXPECT_EQ(source, "data:image/");
  const std::vector<std::string> ids = all_matches(html_, " id=\"([^\"]*)\"");
  const std::set<std::string> known(ids.begin(), ids.end());
  EXPECT_EQ(known.size(), ids.size());
  for (const std::string& target : all_matches(html_, "href=\"#([^\"]*)\"")) EXPECT_TRUE(known.count(target)) << target;
  for (const std::string& names : all_matches(html_, "aria-labelledby=\"([^\"]*)\""))
    EXPECT_TRUE(known.count(names.substr(0, names.find(' ')))) << names;
  EXPECT_TRUE(all_matches(html_, "(<table>)(?!<caption>)").empty());
  EXPECT_TRUE(all_matches(html_, "(<svg [^>]*>)(?!<title)").empty());
}

TEST_F(ReportTest, EscapesLabelsAndCommands) {
  EXPECT_THAT(html_, HasSubstr("&lt;script&gt;alert(1)"));
  EXPECT_THAT(html_, HasSubstr("&quot;onload=&#39;x&#39; a&amp;b"));
  EXPECT_THAT(html_, HasSubstr("&lt;b&gt;&#39;x&#39;&lt;/b&gt;"));
  EXPECT_THAT(html_, Not(HasSubstr("<b>")));
}

TEST_F(ReportTest, LeavesOutWhatARecordLacks) {
  EXPECT_THAT(html_, HasSubstr("not learned from images here"));
  fs::copy(*shared_ / "model", own_ / "model", fs::copy_options::recursive);
  fs::rename(*shared_ / "data", *shared_ / "moved");
  const std::string html = report_html(ModelDirectory::open(own_ / "model", true));
  fs::rename(*shared_ / "moved", *shared_ / "data");
  EXPECT_EQ(fault_of_tags(html), "");
  EXPECT_THAT(html, HasSubstr("No example images: [data]"));
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, Not(HasSubstr("Forgetting")));  // not measured, so nothing is said
  EXPECT_THAT(html, HasSubstr(percent(learned_["test"]["top1"])));
}

TEST_F(ReportTest, SurvivesRecordsOfAnyContent) {
  fs::copy(*shared_ / "model", own_ / "model", fs::copy_options::recursive);
  const ModelDirectory directory = ModelDirectory::open(own_ / "model", false);
  TaskRecord odd = directory.record("colours");
  for (const auto& wrong : {nlohmann::json(7), nlohmann::json("</title>"), nlohmann::json{{"a", nullptr}},
                            nlohmann::json{1, "x", nullptr}}) {
    for (nlohmann::json* part : {&odd.metrics, &odd.data, &odd.recipe}) {
      for (auto& value : *part) {
        const nlohmann::json right = std::exchange(value, wrong);
        try {
          encode_task(odd);
        } catch (const Error&) {
          value = right;  // a task file holds nothing else here
        }
      }
    }
    directory.store().commit(odd);
    EXPECT_EQ(fault_of_tags(report_html(directory)), "") << wrong;
  }
}

TEST_F(ReportTest, ShowsTheTwentyMostConfusedOfManyClasses) {
  std::vector<std::string> classes;
  for (int c = 0; c < 24; ++c) classes.push_back(fmt::format("class number {}", c));
  write_toy_model(own_ / "model");
  write_toy_images(own_ / "data", classes, 5);
  LearnRequest request;
  request.directory = own_ / "model";
  request.data = own_ / "data";
  request.task = "many";
  request.plugs = {"linear-probe"};
  const nlohmann::json results = learn_task(request).results;
  const std::string html = report_html(ModelDirectory::open(own_ / "model", true));
  EXPECT_EQ(fault_of_tags(html), "");
  EXPECT_THAT(html, HasSubstr("the 20 of 24 classes with most mistakes"));
  EXPECT_EQ(all_matches(html, "class=\"(heat)\"").size(), 400u);
  for (const std::string& label : classes) EXPECT_THAT(html, HasSubstr("<th scope=\"row\">" + label + "</th>"));
  EXPECT_EQ(all_matches(html, "<img src=\"(data)").size(), 12u);
}

TEST_F(ReportTest, OfAModelWithoutTasksSaysSo) {
  write_toy_model(own_ / "fresh");
  const std::string html = report_html(ModelDirectory::open(own_ / "fresh", true));
  EXPECT_EQ(fault_of_tags(html), "");
  EXPECT_THAT(html, HasSubstr("No task has been learned yet"));
}

TEST_F(ReportTest, ReplacesAFileOnlyWithForce) {
  const ModelDirectory directory = ModelDirectory::open(*shared_ / "model", true);
  write_text(own_ / "report.html", "mine");
  ReportOptions options;
  options.examples = 0;
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { write_report(directory, own_ / "report.html", false, options); }),
              HasSubstr("--force"));
  EXPECT_EQ(read_file(own_ / "report.html", 1 << 20), "mine");
  const nlohmann::json report = write_report(directory, own_ / "report.html", true, options);
  EXPECT_EQ(report["bytes"], fs::file_size(own_ / "report.html"));
  EXPECT_EQ(report["tasks"].size(), 3u);
}

TEST_F(ReportTest, WritesNothingWhenItFailsOrIsStopped) {
  const ModelDirectory directory = ModelDirectory::open(*shared_ / "model", true);
  ReportOptions options;
  options.examples = 101;
  error_of(Code::kInvalidArgument, [&] { write_report(directory, own_ / "report.html", false, options); });
  const std::atomic<bool> stop{true};
  options.examples = 12;
  options.stop = &stop;
  error_of(Code::kCancelled, [&] { write_report(directory, own_ / "report.html", false, options); });
  error_of(Code::kNotFound, [&] { write_report(directory, own_ / "no" / "report.html", false, options); });
  EXPECT_TRUE(fs::is_empty(own_.path()));
}

}  // namespace
}  // namespace recast
