#include "recast/store/task_record.h"

#include "format/expect_error.h"
#include "format/malformed_files.h"
#include "recast/format/tensor_file.h"
#include "sample_task.h"

namespace recast {
namespace {

using ::testing::HasSubstr;

/// The bytes of a good file whose metadata were changed by hand.
template <class Change>
std::string changed(const Change& change) {
  TensorFile file = decode_tensor_file(encode_task(sample_task("pets")), "test");
  change(file);
  return encode_tensor_file(file);
}

std::string with(const std::string& key, const std::string& value) {
  return changed([&](TensorFile& file) { file.metadata[key] = value; });
}

std::string refused(Code code, const std::string& bytes) {
  return error_of(code, [&] { decode_task(bytes, "pets.safetensors"); });
}

TEST(TaskFile, KeepsEveryKindOfNumberBitForBit) {
  TaskRecord task = sample_task("pets");
  task.numbers.at("recast", Scope::kTask) = awkward_numbers();
  task.numbers.at("head", Scope::kShared).set("memory", at::ones({3}));
  task.numbers.at("head", Scope::kShared).set("bias", at::zeros({2}));  // the task has one of this name too
  task.numbers.at("head", Scope::kShared).set("count", std::int64_t{7});
  const TaskRecord back = decode_task(encode_task(task), "test");
  EXPECT_TRUE(same_bits(back.numbers.at("recast", Scope::kTask), awkward_numbers()));
  for (const Scope scope : {Scope::kTask, Scope::kShared}) {
    EXPECT_TRUE(same_bits(back.numbers.at("head", scope), task.numbers.at("head", scope)));
  }
}

TEST(TaskFile, KeepsAllThatIsKnownOfATask) {
  TaskRecord task = sample_task("pets.v2_x-Y");
  task.version = 4;
  task.parent = 2;
  task.follows = SharedVersion{"common", 3};
  task.created_utc = "2026-01-31T23:59:59Z";
  task.data = nullptr;
  const TaskRecord back = decode_task(encode_task(task), "test");
  EXPECT_EQ(back.name, task.name);
  EXPECT_EQ(back.fingerprint, task.fingerprint);
  EXPECT_EQ(back.plugs, task.plugs);
  EXPECT_EQ(back.labels, task.labels);
  EXPECT_EQ(back.recipe, task.recipe);
  EXPECT_EQ(back.metrics, task.metrics);
  EXPECT_EQ(back.data, task.data);
  EXPECT_EQ(back.version, 4);
  EXPECT_EQ(back.parent, 2);
  EXPECT_EQ(back.follows, task.follows);
  EXPECT_EQ(back.created_utc, task.created_utc);
  EXPECT_EQ(encode_task(back), encode_task(task));
}

TEST(TaskFile, LeavesOutNumbersThatAreNoPartOfATask) {
  TaskRecord task = sample_task("pets");
  const std::string bytes = encode_task(task);
  task.numbers.at("recast", Scope::kRun).set("moments", at::ones({4}));
  task.numbers.at("recast", Scope::kLive).set("cache", at::ones({4}));
  EXPECT_EQ(encode_task(task), bytes);
}

TEST(TaskFile, AllowsNamesThatAreFileNamesEverywhere) {
  for (const char* good : {"a", "Cars-2.v1_x", "0"}) EXPECT_NO_THROW(check_task_name(good)) << good;
  EXPECT_NO_THROW(check_task_name(std::string(128, 'n')));
  for (const std::string& bad :
       {std::string(), std::string(".hidden"), std::string(".."), std::string("../x"), std::string("..\\x"),
        std::string("%2e%2e%2f"), std::string("/etc"), std::string("C:"), std::string("a\0b", 3), std::string("a\nb"),
        std::string("a b"), std::string("é"), std::string("a\xe2\x80\xae"), std::string(129, 'n')}) {
    const std::string message = error_of(Code::kInvalidArgument, [&] { check_task_name(bad); });
    EXPECT_THAT(message, HasSubstr("1 to 128"));
  }
}

TEST(TaskFile, IsNotWrittenWhereItWouldNotBeRead) {
  const auto refuse = [](Code code, auto change) {
    TaskRecord task = sample_task("pets");
    change(task);
    return error_of(code, [&] { encode_task(task); });
  };
  using enum Code;
  EXPECT_THAT(refuse(kInvalidArgument, [](TaskRecord& t) { t.labels.push_back("cat"); }), HasSubstr("each label once"));
  EXPECT_THAT(refuse(kInvalidArgument, [](TaskRecord& t) { t.fingerprint = "abc"; }), HasSubstr("64"));
  EXPECT_THAT(refuse(kInvalidArgument, [](TaskRecord& t) { t.name = "../x"; }), HasSubstr("1 to 128"));
  refuse(kInvalidArgument, [](TaskRecord& t) { t.labels[0] = "\xff"; });
  refuse(kInvalidArgument, [](TaskRecord& t) { t.plugs.push_back(t.plugs[0]); });
  refuse(kInvalidArgument, [](TaskRecord& t) { t.metrics = {{"loss", std::nan("")}}; });
  refuse(kInvalidArgument, [](TaskRecord& t) { t.numbers.at("a.b", Scope::kTask).set("x", 1.0); });
  refuse(kDataCorruption, [](TaskRecord& t) { t.numbers.at("head", Scope::kTask).set("x", std::nan("")); });
  refuse(kDataCorruption, [](TaskRecord& t) { t.numbers.at("head", Scope::kTask).set("x", at::full({2}, NAN)); });
  refuse(kUnsupported, [](TaskRecord& t) { t.numbers.at("head", Scope::kTask).set("x", at::Tensor()); });
  refuse(kUnsupported, [](TaskRecord& t) { t.numbers.at("head", Scope::kTask).set("x", at::eye(3).to_sparse()); });
  refuse(kExhausted, [](TaskRecord& t) { t.data["splits"] = std::string(17 << 20, 'x'); });
}

TEST(TaskFile, IsRefusedWhereverItIsCutOff) {
  const std::string bytes = encode_task(sample_task("pets"));
  for (std::size_t length = 0; length < bytes.size(); length += 7)
    refused(Code::kDataCorruption, bytes.substr(0, length));
  refused(Code::kDataCorruption, bytes + "x");
}

TEST(TaskFile, IsRefusedWithAMalformedSafetensorsHeader) {
  for (const MalformedFile& file : malformed_headers()) {
    EXPECT_THAT(refused(file.code, file.bytes), HasSubstr("pets.safetensors")) << file.name;
  }
}

TEST(TaskFile, RefusesHeadersOver16MiBBeforeReadingThem) {
  const std::string bytes = file_claiming((16 << 20) + 1, std::string((16 << 20) + 2, ' '));
  refused(Code::kExhausted, bytes);
}

TEST(TaskFile, TellsOtherSafetensorsFilesAndNewerFormatsApart) {
  EXPECT_THAT(refused(Code::kUnsupported, file_with("{}")), HasSubstr("no task"));
  EXPECT_THAT(refused(Code::kUnsupported, with("format", "recast-bank")), HasSubstr("no task"));
  EXPECT_THAT(refused(Code::kUnsupported, with("format_version", "2")), HasSubstr("newer"));
  refused(Code::kDataCorruption, with("format_version", "0"));
  refused(Code::kDataCorruption, with("format_version", "1.0"));
}

TEST(TaskFile, IsRefusedWithMissingOrUnknownKeys) {
  const TensorFile good = decode_tensor_file(encode_task(sample_task("pets")), "test");
  EXPECT_EQ(good.metadata.size(), 14u);
  for (const auto& [key, value] : good.metadata) {
    if (key == "format" || key == "scalars") continue;
    const std::string bytes = changed([&](TensorFile& file) { file.metadata.erase(key); });
    EXPECT_THAT(refused(Code::kDataCorruption, bytes), HasSubstr(key));
  }
  EXPECT_THAT(refused(Code::kDataCorruption, with("extra", "1")), HasSubstr("'extra'"));
}

TEST(TaskFile, IsRefusedWithMetadataThatLie) {
  using enum Code;
  EXPECT_THAT(refused(kDataCorruption, with("labels", R"(["cat","dog","cat"])")), HasSubstr("each label once"));
  for (const auto& [key, value] : std::map<std::string, std::vector<std::string>>{
           {"labels", {"", "{}", "[1]", "[\"a\"", "null"}},
           {"task", {"", "../x", ".x"}},
           {"base_fingerprint", {"", "abc", std::string(64, 'A')}},
           {"version", {"", "-1", "1 ", "01", "-0", "99999999999999999999"}},
           {"format_version", {"", "0", "01", "1.0"}},
           {"parent_version", {"x"}},
           {"created_utc",
            {"yesterday", "2026-01-31 23:59:59", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z",
             "2026-01-31T24:00:00Z"}},
           {"plugs",
            {"{}", "[1]", R"([{"method":"a","alias":"a"}])", R"([{"method":"a","alias":"a","options":{"x":1}}])",
             R"([{"method":"a","alias":"a b","options":{}}])"}},
           {"recipe", {"[]", "1"}},
           {"metrics", {"[]", "{\"a\":1,\"a\":2}"}},
           {"data", {"\"x\"", std::string(100, '[') + std::string(100, ']')}},
           {"follows",
            {"[]", R"({"name":"x","version":1})", R"({"name":"../x","version":"1"})", R"({"name":"x","version":"0"})"}},
           {"scalars",
            {"[]",
             R"({"head.x":1})",
             R"({"head.x":{"integer":9223372036854775808}})",
             R"({"head.x":{"integer":"1"}})",
             R"({"head.x":{"integer":1.0}})",
             R"({"head.x":{"real":"nan"}})",
             R"({"head.x":{"real":"inf"}})",
             R"({"head.x":{"real":"0x"}})",
             R"({"head.x":{"real":""}})",
             R"({"head.x":{"real":"0x1p+9999"}})",
             R"({"head.x":{"real":"1.5"}})",
             R"({"head.x":{"real":"0x-1p+0"}})",
             R"({"head.x":{"real":"0x1p+0 "}})",
             R"({"head.x":{"text":1}})",
             R"({"head.bias":{"integer":1}})",
             R"({"nodot":{"integer":1}})",
             R"({".x":{"integer":1}})",
             R"({"a@b.x":{"integer":1}})",
             R"({"head.x\n":{"integer":1}})",
             R"({"shared/head.x":{"integer":1}})"}},
           {"shared/scalars", {"[]", R"({"head":{"integer":1}})"}}}) {
    for (const std::string& text : value) {
      EXPECT_THAT(refused(kDataCorruption, with(key, text)), HasSubstr("pets.safetensors")) << key << " = " << text;
    }
  }
}

TEST(TaskFile, IsRefusedWhereWhatOthersRelyOnIsOfAnotherKind) {
  for (const auto& [key, value, named] : std::vector<std::array<const char*, 3>>{
           {"metrics", R"({"validation":{"top1":"high"}})", "got '\"high\"'; expected metrics.validation.top1"},
           {"metrics", R"({"test":7})", "metrics.test"},
           {"metrics", R"({"test":{"top1":[1]}})", "metrics.test.top1"},
           {"metrics", R"({"seconds":"long"})", "metrics.seconds"},
           {"metrics", R"({"run_id":7})", "metrics.run_id"},
           {"data", R"({"path":7})", "data.path"},
           {"data", R"({"kind":null})", "data.kind"},
           {"data", R"({"split_seed":"x"})", "data.split_seed"},
           {"data", R"({"split_seed":-1})", "data.split_seed"},
           {"data", R"({"sha256":{"test":5}})", "data.sha256"},
           {"data", R"({"counts":{"train":0.5}})", "data.counts"},
           {"data", R"({"limits":[0,0]})", "data.limits"},
           {"data", R"({"limits":{"train":-1}})", "data.limits"},
           {"recipe", R"({"image_size":"large"})", "recipe.image_size"},
           {"recipe", R"({"seed":1.5})", "recipe.seed"}})
    EXPECT_THAT(refused(Code::kDataCorruption, with(key, value)), HasSubstr(named)) << value;
  const std::string good = with("metrics", R"({"other":"free","test":null,"validation":{"top1":null}})");
  EXPECT_TRUE(decode_task(good, "pets.safetensors").metrics["test"].is_null());
}

TEST(TaskFile, IsRefusedWithNumbersThatAreNotFinite) {
  const std::string bytes = changed([](TensorFile& file) { file.tensors.at("head.bias").fill_(INFINITY); });
  EXPECT_THAT(refused(Code::kDataCorruption, bytes), HasSubstr("head.bias"));
}

TEST(TaskFile, IsRefusedWithTensorsOfNoPlugIn) {
  const std::string bytes = changed([](TensorFile& file) { file.tensors.emplace("weight", at::ones({1})); });
  refused(Code::kDataCorruption, bytes);
}

}  // namespace
}  // namespace recast
