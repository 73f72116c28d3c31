#pragma once
// A server over LinearService on a port of its own.
#include <gmock/gmock.h>
#include <prometheus/registry.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "format/expect_error.h"
#include "http_client.h"
#include "linear_service.h"
#include "metric_of.h"
#include "recast/serve/http_server.h"

namespace recast {

using namespace std::chrono_literals;

/// Times that a test can wait for, and any free port.
inline HttpOptions quick_options() {
  HttpOptions options;
  options.port = 0;
  options.linger_timeout = 500ms;
  return options;
}

struct TestServer {
  explicit TestServer(HttpOptions options = quick_options(), TokenTable* tokens = nullptr,
                      AccessLog* access_log = nullptr)
      : server(service, std::move(options), registry, tokens, access_log) {
    server.start();
  }

  HttpReply ask(std::string_view request) const { return recast::ask(server.port(), request); }
  nlohmann::json json(std::string_view request) const { return nlohmann::json::parse(ask(request).body); }
  double metric(const std::string& name, const std::string& label_value = "") const {
    return metric_of(registry, name, label_value);
  }
  bool becomes(const std::string& name, double value, const std::string& label_value = "") const {
    return metric_becomes(registry, name, value, label_value);
  }

  prometheus::Registry registry;
  LinearService service{{{"pair", 2}, {"five", 5}}};
  HttpServer server;
};

/// Logits of "pair" for it: 6, 12.
inline const std::string kBody = R"({"id":"7","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]})";
inline std::string infer_pair() { return post("/v2/models/pair/infer", kBody); }

inline std::vector<float> logits_of(const HttpReply& reply) {
  return nlohmann::json::parse(reply.body).at("outputs").at(0).at("data").get<std::vector<float>>();
}

}  // namespace recast
