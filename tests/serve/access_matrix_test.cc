// Who may do what: every kind of token against every operation, over HTTP and gRPC, from one table.
#include <sys/stat.h>

#include <functional>

#include "base/log_capture.h"
#include "format/temporary_folder.h"
#include "grpc_fixture.h"
#include "http_fixture.h"
#include "recast/base/utc.h"
#include "recast/format/files.h"
#include "recast/serve/access_log.h"
#include "recast/serve/token_table.h"

namespace recast {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

// ---- what must come, as docs/serving.md has it, written down once more ----------------------------------------------

enum class Verdict { kDone, kNotThere, kWho, kNotAllowed, kTooMany, kOther };

std::ostream& operator<<(std::ostream& out, Verdict outcome) {
  return out << std::array{"done", "not there", "who?", "not allowed", "too many", "other"}[static_cast<int>(outcome)];
}

const std::set<Role> kEverybody = {Role::kInfer, Role::kRead, Role::kManage};
const std::set<Role> kReaders = {Role::kRead, Role::kManage};

/// The models that there are; the others that are asked for are not.
const std::set<std::string> kModels = {"pair", "five"};
/// Globs and the models that they open.
const std::vector<std::pair<std::vector<std::string>, std::set<std::string>>> kGlobs = {
    {{"*"}, {"pair", "five", "vit@pair", "absent"}},
    {{"pair"}, {"pair", "vit@pair"}},
    {{"p??r", "fi*"}, {"pair", "vit@pair", "five"}},
    {{"vit@p*"}, {"vit@pair"}},
    {{"others"}, {}},
};
const std::vector<std::optional<std::string>> kExpiries = {std::nullopt, "2099-01-31T00:00:00Z",
                                                           "2020-01-31T00:00:00Z"};
constexpr int kExpired = 2;

std::vector<std::set<Role>> role_sets() {
  std::vector<std::set<Role>> sets;
  for (int bits = 1; bits < 8; ++bits) {
    std::set<Role> roles;
    for (const Role role : kEverybody)
      if (bits & (1 << static_cast<int>(role))) roles.insert(role);
    sets.push_back(roles);
  }
  return sets;
}

// ---- tokens ---------------------------------------------------------------------------------------------------------

struct Bearer {
  std::string token;  // "": none is sent
  std::set<Role> roles;
  std::set<std::string> models;
  bool good = true;  // known and not expired
  std::string told;  // for messages
};

TokenEntry entry_for(const std::string& token, const std::string& name, std::set<Role> roles,
                     std::vector<std::string> globs, const std::optional<std::string>& expires = {}) {
  const std::string salt(16, 'a');
  return {name, std::move(roles),        std::move(globs), expires ? parse_utc(*expires) : std::nullopt,
          salt, sha256_hex(salt + token)};
}

void write_table(const std::filesystem::path& file, const std::vector<TokenEntry>& entries) {
  std::string text;
  for (const TokenEntry& entry : entries) text += token_entry_yaml(entry);
  write_file_atomically(file, text);
  ::chmod(file.c_str(), 0600);
}

/// One token of every kind, and callers without a good one.
std::vector<Bearer> all_bearers(const std::filesystem::path& file) {
  std::vector<Bearer> bearers;
  std::vector<TokenEntry> entries;
  for (const std::set<Role>& roles : role_sets())
    for (const auto& [globs, models] : kGlobs)
      for (std::size_t expiry = 0; expiry < kExpiries.size(); ++expiry) {
        const std::string name = fmt::format("t{}", entries.size()), token = "secret-of-" + name + "-0123456789";
        entries.push_back(entry_for(token, name, roles, globs, kExpiries[expiry]));
        bearers.push_back({token, roles, models, expiry != kExpired, token_entry_yaml(entries.back())});
      }
  write_table(file, entries);
  bearers.push_back({"", {}, {}, false, "no token"});
  bearers.push_back({"nobody-knows-this-one", {}, {}, false, "a wrong token"});
  return bearers;
}

// ---- operations -----------------------------------------------------------------------------------------------------

struct Operation {
  std::string name, model;  // model: empty where none is named
  std::set<Role> roles;     // empty: open to all
  std::string http;
  std::function<grpc::Status(Stub&, const std::string& token)> grpc;
};

template <class Response, class Method, class Request>
auto calling(Method method, const Request& request) {
  return [=](Stub& stub, const std::string& token) {
    Response response;
    return call(stub, method, request, response, token);
  };
}

template <class Request>
Request named(const std::string& model) {
  Request request;
  if constexpr (requires { request.set_model_name(model); })
    request.set_model_name(model);
  else
    request.set_name(model);
  return request;
}

std::vector<Operation> all_operations() {
  using namespace inference;
  std::vector<Operation> all = {
      {"live", "", {}, get("/v2/health/live"), calling<ServerLiveResponse>(&Stub::ServerLive, ServerLiveRequest())},
      {"ready",
       "",
       {},
       get("/v2/health/ready"),
       calling<ServerReadyResponse>(&Stub::ServerReady, ServerReadyRequest())},
      {"server metadata", "", kEverybody, get("/v2"),
       calling<ServerMetadataResponse>(&Stub::ServerMetadata, ServerMetadataRequest())},
      {"index", "", kReaders, post("/v2/repository/index", ""),
       calling<RepositoryIndexResponse>(&Stub::RepositoryIndex, RepositoryIndexRequest())},
      {"all statistics", "", kReaders, get("/v2/models/stats"),
       calling<ModelStatisticsResponse>(&Stub::ModelStatistics, ModelStatisticsRequest())},
  };
  for (const std::string model : {"pair", "five", "vit@pair", "absent"}) {
    const std::string path = "/v2/models/" + model, managed = "/v2/repository/models/" + model;
    all.push_back({"metadata", model, kEverybody, get(path),
                   calling<ModelMetadataResponse>(&Stub::ModelMetadata, named<ModelMetadataRequest>(model))});
    all.push_back({"model ready", model, kEverybody, get(path + "/ready"),
                   calling<ModelReadyResponse>(&Stub::ModelReady, named<ModelReadyRequest>(model))});
    all.push_back({"infer",
                   model,
                   {Role::kInfer},
                   post(path + "/infer", kBody),
                   calling<ModelInferResponse>(&Stub::ModelInfer, call_for(model, {1, 2, 3}))});
    all.push_back({"statistics", model, kReaders, get(path + "/stats"),
                   calling<ModelStatisticsResponse>(&Stub::ModelStatistics, named<ModelStatisticsRequest>(model))});
    all.push_back(
        {"load",
         model,
         {Role::kManage},
         post(managed + "/load", ""),
         calling<RepositoryModelLoadResponse>(&Stub::RepositoryModelLoad, named<RepositoryModelLoadRequest>(model))});
    all.push_back({"unload",
                   model,
                   {Role::kManage},
                   post(managed + "/unload", ""),
                   calling<RepositoryModelUnloadResponse>(&Stub::RepositoryModelUnload,
                                                          named<RepositoryModelUnloadRequest>(model))});
  }
  return all;
}

Verdict expected(const Bearer& bearer, const Operation& operation) {
  if (operation.roles.empty()) return Verdict::kDone;
  if (!bearer.good) return Verdict::kWho;
  const auto opens = [&](Role role) { return operation.roles.contains(role); };
  if (std::ranges::none_of(bearer.roles, opens)) return Verdict::kNotAllowed;
  if (!operation.model.empty() && !bearer.models.contains(operation.model)) return Verdict::kNotAllowed;
  return operation.model.empty() || kModels.contains(operation.model) ? Verdict::kDone : Verdict::kNotThere;
}

// ---- both ports -----------------------------------------------------------------------------------------------------

/// Two ports on one table.
struct BothPorts {
  explicit BothPorts(TokenTable* table, AccessLog* log = nullptr)
      : http(quick_options(), table, log), grpc(any_port(), table, log), client(http.server.port()) {}

  HttpReply ask(std::string request, const std::string& token) {
    if (!token.empty()) request.insert(request.find("\r\n") + 2, "Authorization: Bearer " + token + "\r\n");
    return client.ask(request);
  }
  Verdict over_http(const Operation& operation, const std::string& token) {
    const HttpReply reply = ask(operation.http, token);
    EXPECT_EQ(reply.field("www-authenticate"), reply.status == 401 ? "Bearer" : "") << operation.http;
    const std::map<int, Verdict> outcomes = {{200, Verdict::kDone},
                                             {404, Verdict::kNotThere},
                                             {401, Verdict::kWho},
                                             {403, Verdict::kNotAllowed},
                                             {429, Verdict::kTooMany}};
    const auto found = outcomes.find(reply.status);
    return found == outcomes.end() ? Verdict::kOther : found->second;
  }
  Verdict over_grpc(const Operation& operation, const std::string& token) {
    const std::map<StatusCode, Verdict> outcomes = {{StatusCode::OK, Verdict::kDone},
                                                    {StatusCode::NOT_FOUND, Verdict::kNotThere},
                                                    {StatusCode::UNAUTHENTICATED, Verdict::kWho},
                                                    {StatusCode::PERMISSION_DENIED, Verdict::kNotAllowed},
                                                    {StatusCode::RESOURCE_EXHAUSTED, Verdict::kTooMany}};
    const auto found = outcomes.find(operation.grpc(*grpc.stub, token).error_code());
    return found == outcomes.end() ? Verdict::kOther : found->second;
  }
  /// The same over both, or a failure.
  Verdict over_both(const Operation& operation, const std::string& token) {
    const Verdict outcome = over_http(operation, token);
    EXPECT_EQ(over_grpc(operation, token), outcome) << operation.name << " " << operation.model;
    return outcome;
  }

  TestServer http;
  GrpcTestServer grpc;
  HttpClient client;
};

Operation operation_of(const std::string& name, const std::string& model = "") {
  for (const Operation& operation : all_operations())
    if (operation.name == name && operation.model == model) return operation;
  throw std::logic_error(name);
}

TEST(AccessMatrix, IsTheSameOverHttpAndGrpcForEveryTokenAndOperation) {
  const TemporaryFolder folder;
  const std::vector<Bearer> bearers = all_bearers(folder / "tokens.yaml");
  const std::vector<Operation> operations = all_operations();
  ASSERT_EQ(bearers.size(), 107u);
  ASSERT_EQ(operations.size(), 29u);
  TokenTable table(folder / "tokens.yaml", {.unknown_burst = 10'000});
  BothPorts ports(&table);
  std::map<Verdict, int> count;
  for (const Bearer& bearer : bearers)
    for (const Operation& operation : operations) {
      const Verdict must = expected(bearer, operation);
      ++count[must];
      EXPECT_EQ(ports.over_http(operation, bearer.token), must)
          << "HTTP " << operation.name << " " << operation.model << "\n"
          << bearer.told;
      EXPECT_EQ(ports.over_grpc(operation, bearer.token), must)
          << "gRPC " << operation.name << " " << operation.model << "\n"
          << bearer.told;
    }
  for (const Verdict outcome : {Verdict::kDone, Verdict::kNotThere, Verdict::kWho, Verdict::kNotAllowed})
    EXPECT_GE(count[outcome], 50) << outcome << ": the matrix has lost its meaning";
}

TEST(AccessMatrix, ListsShowTheSameTasksOverHttpAndGrpc) {
  const TemporaryFolder folder;
  const std::vector<Bearer> bearers = all_bearers(folder / "tokens.yaml");
  TokenTable table(folder / "tokens.yaml");
  BothPorts ports(&table);
  for (const Bearer& bearer : bearers) {
    if (expected(bearer, operation_of("index")) != Verdict::kDone) continue;
    std::set<std::string> over_http, over_grpc, must;
    std::ranges::set_intersection(bearer.models, kModels, std::inserter(must, must.end()));
    for (const auto& entry : nlohmann::json::parse(ports.ask(operation_of("index").http, bearer.token).body))
      over_http.insert(entry.at("name"));
    inference::RepositoryIndexResponse index;
    call(*ports.grpc.stub, &Stub::RepositoryIndex, inference::RepositoryIndexRequest(), index, bearer.token);
    for (const auto& entry : index.models()) over_grpc.insert(entry.name());
    EXPECT_EQ(over_http, must) << bearer.told;
    EXPECT_EQ(over_grpc, must) << bearer.told;
  }
}

// ---- the table changes ----------------------------------------------------------------------------------------------

class ChangingTable : public testing::Test {
 protected:
  void SetUp() override { write({entry_for(kToken, "one", {Role::kInfer}, {"pair"})}); }
  void write(const std::vector<TokenEntry>& entries) const { write_table(file_, entries); }

  static constexpr const char* kToken = "the-token-of-this-test";
  const Operation infer_ = operation_of("infer", "pair"), index_ = operation_of("index");
  const TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "tokens.yaml";
  static constexpr TokenTableOptions kAtOnce{.reread_every = std::chrono::milliseconds(0)};
};

TEST_F(ChangingTable, CountsOnBothPortsFromTheNextRequestOn) {
  TokenTable table(file_, kAtOnce);
  BothPorts ports(&table);  // one connection of each kind throughout: they are not authorised once and for all
  EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kDone);
  EXPECT_EQ(ports.over_both(index_, kToken), Verdict::kNotAllowed);
  write({entry_for(kToken, "one", {Role::kRead}, {"pair"})});
  EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kNotAllowed) << "another role";
  EXPECT_EQ(ports.over_both(index_, kToken), Verdict::kDone);
  write({entry_for(kToken, "one", {Role::kInfer}, {"five"})});
  EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kNotAllowed) << "another task";
  write({entry_for(kToken, "one", {Role::kInfer}, {"pair"}, "2020-01-01T00:00:00Z")});
  EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kWho) << "expired";
  write({entry_for("another-token", "one", {Role::kInfer}, {"pair"})});
  EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kWho) << "another token of that name";
  EXPECT_EQ(ports.over_both(infer_, "another-token"), Verdict::kDone);
  write({});
  EXPECT_EQ(ports.over_both(infer_, "another-token"), Verdict::kWho) << "taken back";
}

TEST_F(ChangingTable, ThatIsBrokenKeepsTheOldOneOnBothPorts) {
  TokenTable table(file_, kAtOnce);
  BothPorts ports(&table);
  const std::string good = read_file(file_, 1 << 20);
  for (const std::string broken : {"one: [", "one:\n  role: emperor\n", "one: 3\n", "\xff\xfe"}) {
    write_file_atomically(file_, broken);
    ::chmod(file_.c_str(), 0600);
    EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kDone) << broken;
    EXPECT_EQ(ports.over_both(index_, kToken), Verdict::kNotAllowed) << broken;
    EXPECT_EQ(ports.over_both(infer_, "guessed"), Verdict::kWho) << broken;
  }
  write_file_atomically(file_, good);
  ::chmod(file_.c_str(), 0644);
  EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kDone) << "others may read it";
  std::filesystem::remove(file_);
  EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kDone) << "it is gone";
  write({});
  EXPECT_EQ(ports.over_both(infer_, kToken), Verdict::kWho) << "it is there again, and empty";
}

TEST_F(ChangingTable, EndsStreamsThatItNoLongerAllows) {
  TokenTable table(file_, kAtOnce);
  GrpcTestServer at(any_port(), &table);
  GrpcContext context(kToken);
  const auto stream = at.stub->ModelStreamInfer(&context);
  inference::ModelStreamInferResponse answer;
  stream->Write(call_for("pair", {1, 2, 3}));
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.error_message(), "");
  write({});
  stream->Write(call_for("pair", {1, 2, 3}));
  EXPECT_FALSE(stream->Read(&answer)) << "a token that was taken back still works";
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(at.service.computed(), 1u);
}

// ---- guessing, and what is left of it -------------------------------------------------------------------------------

TEST(AccessMatrix, GuessesAreRationedForBothPortsTogether) {
  const TemporaryFolder folder;
  write_table(folder / "t", {entry_for("known", "one", {Role::kInfer}, {"*"})});
  TokenTable table(folder / "t", {.unknown_burst = 6, .unknown_per_second = 1e-6});
  BothPorts ports(&table);
  const Operation infer = operation_of("infer", "pair");
  EXPECT_EQ(ports.over_both(infer, "known"), Verdict::kDone);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ports.over_both(infer, fmt::format("guess-{}", i)), Verdict::kWho);
  EXPECT_EQ(ports.over_both(infer, "guess-3"), Verdict::kTooMany);
  EXPECT_EQ(ports.over_both(infer, "known"), Verdict::kDone) << "who is known goes on";
}

TEST(AccessMatrix, NoLogAndNoAnswerHoldsAToken) {
  const TemporaryFolder folder;
  const std::vector<Bearer> bearers = all_bearers(folder / "tokens.yaml");
  TokenTable table(folder / "tokens.yaml", {.reread_every = std::chrono::milliseconds(0), .unknown_burst = 10'000});
  std::string told;
  const auto tell = [&](const std::string& text) { told += text + "\n"; };
  const LogCapture events(LogLevel::kDebug);
  prometheus::Registry registry;
  {
    AccessLog log((folder / "access.log").string(), registry);
    BothPorts ports(&table, &log);
    for (std::size_t i = 0; i < bearers.size(); i += 7)
      for (const Operation& operation : all_operations()) {
        const HttpReply reply = ports.ask(operation.http, bearers[i].token);
        for (const auto& [field, value] : reply.fields) tell(value);
        tell(reply.body + operation.grpc(*ports.grpc.stub, bearers[i].token).error_message());
      }
    // As a name, in a URL, as an id, twice, without a scheme: what a confused client would send.
    const std::string token = bearers.front().token;
    ports.ask(get("/v2/models/pair?token=" + token), "");
    ports.ask(get("/v2", "Authorization: " + token + "\r\n"), "");
    ports.ask(get("/v2", "Authorization: Basic " + token + "\r\n"), "");
    write_file_atomically(folder / "tokens.yaml", "broken: " + token);
    tell(ports.ask(get("/v2"), bearers.front().token).body);
    for (const Bearer& bearer : bearers) tell(ports.ask(get("/metrics"), bearer.token).body);
  }
  for (const std::string& line : events.lines()) tell(line);
  told += read_file(folder / "access.log", 64 << 20);
  EXPECT_THAT(told, HasSubstr("recast_http_requests_total"));
  EXPECT_THAT(told, HasSubstr("tokens.kept_old"));
  EXPECT_THAT(told, HasSubstr("http.token_refused"));
  EXPECT_THAT(told, HasSubstr("grpc.token_refused"));
  EXPECT_THAT(told, HasSubstr("\"caller\":\"t0\""));
  for (const Bearer& bearer : bearers) EXPECT_TRUE(bearer.token.empty() || told.find(bearer.token) == told.npos);
}

}  // namespace
}  // namespace recast
