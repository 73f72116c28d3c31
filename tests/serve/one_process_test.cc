// libtorch has a protobuf of its own inside, older than the system's: see src/serve/grpc_server.cc.
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "format/python_tool.h"
#include "grpc_fixture.h"

namespace recast {
namespace {

/// Of the shared objects that this process has loaded, those whose file name contains `part`.
std::set<std::string> loaded(const std::string& part) {
  std::ifstream maps("/proc/self/maps");
  std::set<std::string> found;
  for (std::string line; std::getline(maps, line);) {
    const std::size_t slash = line.find('/');
    if (slash == line.npos) continue;
    const std::string file = line.substr(slash);
    if (file.substr(file.rfind('/')).find(part) != std::string::npos) found.insert(file);
  }
  return found;
}

/// Names that a shared object gives to others, but for those of the C++ library: templates of it, compiled wherever
/// they are used, are the same function everywhere.
std::set<std::string> exported(const std::set<std::string>& objects) {
  std::set<std::string> names;
  for (const std::string& object : objects) {
    const Outcome outcome = run_program({"nm", "-D", "--defined-only", object});
    EXPECT_EQ(outcome.status, 0) << outcome.text;
    std::istringstream lines(outcome.text);
    for (std::string address, kind, name; lines >> address >> kind >> name;) {
      const auto begins = [&](const char* start) { return name.starts_with(start); };
      if (std::ranges::none_of(std::vector{"_ZNSt", "_ZNKSt", "_ZSt", "_ZTISt", "_ZTSSt", "_ZTVSt", "_ZZNSt",
                                           "_ZGVZNSt", "_ZN9__gnu_cxx", "_ZNK9__gnu_cxx", "_ZZN9__gnu_cxx",
                                           "_ZTIN9__gnu_cxx", "_ZTSN9__gnu_cxx", "_ZTVN9__gnu_cxx"},
                               begins)) {
        names.insert(name.substr(0, name.find('@')));
      }
    }
  }
  return names;
}

TEST(OneProcess, TorchAndGrpcShareNoNames) {
  if (run_program({"nm", "--version"}).status != 0) GTEST_SKIP() << "nm is missing";
  std::set<std::string> system;
  for (const char* part :
       {"libprotobuf", "libgrpc", "libgpr", "libabsl", "libupb", "libre2", "libcares", "libaddress_sorting"}) {
    system.merge(loaded(part));
  }
  std::set<std::string> torch = loaded("libtorch");
  torch.merge(loaded("libc10"));
  ASSERT_FALSE(torch.empty());
  ASSERT_FALSE(system.empty());
  const std::set<std::string> one = exported(torch), other = exported(system);
  std::vector<std::string> both;
  std::ranges::set_intersection(one, other, std::back_inserter(both));
  EXPECT_THAT(both, testing::IsEmpty());
}

TEST(OneProcess, OperatorsRunWhileCallsAreAnswered) {
  GrpcTestServer at;
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(at::mm(at::ones({8, 8}), at::ones({8, 8})).sum().item<float>(), 512);
    inference::ModelInferResponse answer;
    ASSERT_TRUE(call(*at.stub, &Stub::ModelInfer, call_for("pair", {1, 2, 3}), answer).ok());
    EXPECT_THAT(floats_of(answer.raw_output_contents(0)), testing::ElementsAre(6, 12));
    inference::ServerMetadataResponse metadata;
    ASSERT_TRUE(call(*at.stub, &Stub::ServerMetadata, inference::ServerMetadataRequest(), metadata).ok());
    EXPECT_EQ(metadata.name(), "recast");
  }
}

}  // namespace
}  // namespace recast
