#include "http_openapi.h"

#include <fmt/format.h>

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "http_query.h"

namespace recast {
namespace {

using Json = nlohmann::ordered_json;

/// Bodies and parameters; the operations are made below, since what they answer depends on the server.
constexpr std::string_view kSchemas = R"json({
  "Error": {
    "type": "object", "required": ["error"], "properties": {"error": {"type": "string"}},
    "examples": [{"error": "[serve] no model 'flowrs', did you mean 'flowers'?"}]
  },
  "Live": {"type": "object", "required": ["live"], "properties": {"live": {"type": "boolean"}}},
  "Ready": {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}},
  "ModelReady": {
    "type": "object", "required": ["name", "ready"],
    "properties": {"name": {"type": "string"}, "ready": {"type": "boolean"}}
  },
  "ServerMetadata": {
    "type": "object", "required": ["name", "version", "extensions"],
    "properties": {
      "name": {"type": "string"}, "version": {"type": "string"},
      "extensions": {"type": "array", "items": {"type": "string"}}
    }
  },
  "MetadataTensor": {
    "type": "object", "required": ["name", "datatype", "shape"],
    "properties": {
      "name": {"type": "string"}, "datatype": {"type": "string"},
      "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}, "description": "-1: any size"},
      "optional": {"type": "boolean"}
    }
  },
  "ModelMetadata": {
    "type": "object", "required": ["name", "platform", "inputs", "outputs"],
    "properties": {
      "name": {"type": "string"},
      "versions": {"type": "array", "items": {"type": "string"}},
      "platform": {"type": "string"},
      "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/MetadataTensor"}},
      "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/MetadataTensor"}}
    }
  },
  "Datatype": {
    "type": "string",
    "enum": ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
             "FP64", "BYTES"]
  },
  "Parameters": {
    "type": "object", "maxProperties": 64,
    "additionalProperties": {"type": ["string", "number", "boolean"], "maxLength": 4096}
  },
  "Name": {"type": "string", "minLength": 1, "maxLength": 512, "pattern": "^[ -~]+$"},
  "Data": {
    "type": "array", "description": "Flat, or nested as the shape says; the element type that of the datatype.",
    "items": {"anyOf": [{"type": ["number", "boolean", "string"]}, {"$ref": "#/components/schemas/Data"}]}
  },
  "RequestInput": {
    "type": "object", "required": ["name", "shape", "datatype"], "additionalProperties": false,
    "properties": {
      "name": {"$ref": "#/components/schemas/Name"},
      "shape": {"type": "array", "maxItems": 8, "items": {"type": "integer", "minimum": 0}},
      "datatype": {"$ref": "#/components/schemas/Datatype"},
      "parameters": {
        "$ref": "#/components/schemas/Parameters",
        "description": "binary_data_size: this many bytes behind the JSON. content_type: base64, for BYTES."
      },
      "data": {"$ref": "#/components/schemas/Data"}
    }
  },
  "RequestOutput": {
    "type": "object", "required": ["name"], "additionalProperties": false,
    "properties": {
      "name": {"$ref": "#/components/schemas/Name"},
      "parameters": {
        "$ref": "#/components/schemas/Parameters",
        "description": "binary_data: the output comes behind the JSON. classification: the best so many, as texts."
      }
    }
  },
  "InferenceRequest": {
    "type": "object", "required": ["inputs"], "additionalProperties": false,
    "properties": {
      "id": {"type": "string", "maxLength": 512, "pattern": "^[ -~]*$"},
      "model_name": {"type": "string", "description": "The name in the path, if given at all."},
      "model_version": {"type": "string", "description": "The version in the path, if given at all."},
      "parameters": {"$ref": "#/components/schemas/Parameters"},
      "inputs": {
        "type": "array", "minItems": 1, "maxItems": 64, "items": {"$ref": "#/components/schemas/RequestInput"}
      },
      "outputs": {"type": "array", "maxItems": 64, "items": {"$ref": "#/components/schemas/RequestOutput"}}
    }
  },
  "ResponseOutput": {
    "type": "object", "required": ["name", "shape", "datatype"],
    "properties": {
      "name": {"type": "string"},
      "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
      "datatype": {"$ref": "#/components/schemas/Datatype"},
      "parameters": {"$ref": "#/components/schemas/Parameters"},
      "data": {"$ref": "#/components/schemas/Data"}
    }
  },
  "InferenceResponse": {
    "type": "object", "required": ["model_name", "outputs"],
    "properties": {
      "model_name": {"type": "string"}, "model_version": {"type": "string"}, "id": {"type": "string"},
      "parameters": {"$ref": "#/components/schemas/Parameters"},
      "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/ResponseOutput"}}
    }
  },
  "IndexRequest": {
    "type": "object",
    "properties": {"ready": {"type": "boolean", "description": "Only models that answer now."}}
  },
  "Index": {
    "type": "array",
    "items": {
      "type": "object", "required": ["name", "state", "reason"],
      "properties": {
        "name": {"type": "string"}, "version": {"type": "string"}, "state": {"type": "string"},
        "reason": {"type": "string"}
      }
    }
  },
  "LoadRequest": {
    "type": "object",
    "properties": {
      "parameters": {
        "type": "object", "properties": {"config": false}, "patternProperties": {"^file:": false},
        "additionalProperties": {"type": ["string", "number", "boolean"]}
      }
    }
  },
  "UnloadRequest": {
    "type": "object",
    "properties": {
      "parameters": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    }
  },
  "PageSettings": {
    "type": "object", "required": ["version", "tokens", "caller", "may", "image_bytes", "examples"],
    "properties": {
      "version": {"type": "string"},
      "tokens": {"type": "boolean", "description": "Whether the server asks for them."},
      "caller": {"type": ["string", "null"], "description": "The name of the token."},
      "may": {
        "type": "object", "required": ["infer", "read", "correct"],
        "properties": {"infer": {"type": "boolean"}, "read": {"type": "boolean"}, "correct": {"type": "boolean"}}
      },
      "image_bytes": {"type": "integer", "description": "The most that an image may have."},
      "examples": {"type": "array", "items": {"type": "string"}}
    }
  },
  "TaskVersion": {
    "type": "object", "required": ["version"],
    "properties": {
      "task": {"type": "string"},
      "version": {"type": "integer", "minimum": 1},
      "versions": {"type": "integer", "description": "How many there are."},
      "tags": {"type": "array", "items": {"type": "string"}},
      "classes": {"type": "integer"},
      "plugs": {"type": "array", "items": {"type": "string"}},
      "state_bytes": {"type": "integer", "description": "Of its numbers."},
      "file_bytes": {"type": "integer", "description": "In the store."},
      "created_utc": {"type": "string"},
      "validation_top1": {"type": ["number", "null"]},
      "test_top1": {"type": ["number", "null"]}
    }
  },
  "Tasks": {
    "type": "object", "required": ["tasks", "next"],
    "properties": {
      "tasks": {
        "type": "array",
        "items": {
          "type": "object", "required": ["name", "base", "ready"], "$ref": "#/components/schemas/TaskVersion",
          "properties": {"name": {"type": "string"}, "base": {"type": "string"}, "ready": {"type": "boolean"}}
        }
      },
      "next": {"type": ["string", "null"], "description": "For after; null: there are no more."}
    }
  },
  "Task": {
    "type": "object", "required": ["name", "base", "task", "version", "labels", "image_size", "versions"],
    "properties": {
      "name": {"type": "string"}, "base": {"type": "string"}, "task": {"type": "string"},
      "version": {"type": "integer"},
      "labels": {"type": "array", "items": {"type": "string"}},
      "image_size": {"type": "integer", "description": "Pixels a side."},
      "versions": {
        "type": "array", "items": {"$ref": "#/components/schemas/TaskVersion"}, "description": "Oldest first."
      }
    }
  },
  "Correction": {
    "type": "object", "required": ["label", "image"], "additionalProperties": false,
    "properties": {
      "label": {"type": "string", "minLength": 1, "maxLength": 200, "description": "What the image shows."},
      "image": {"type": "string", "contentEncoding": "base64", "description": "A JPEG, PNG or WebP file."},
      "new_label": {"type": "boolean", "description": "The label may be one that the task does not have yet."}
    }
  },
  "SavedCorrection": {
    "type": "object", "required": ["file", "label", "images", "moved_from"],
    "properties": {
      "file": {"type": "string", "description": "In the folder for corrections."},
      "label": {"type": "string"},
      "images": {"type": "integer", "description": "Corrections of the task."},
      "moved_from": {"type": ["string", "null"], "description": "The label that the image had before."}
    }
  },
  "Duration": {
    "type": "object", "required": ["count", "ns"],
    "properties": {"count": {"type": "integer", "minimum": 0}, "ns": {"type": "integer", "minimum": 0}}
  },
  "Statistics": {
    "type": "object", "required": ["model_stats"],
    "properties": {
      "model_stats": {
        "type": "array",
        "items": {
          "type": "object", "required": ["name", "last_inference", "inference_count", "inference_stats"],
          "properties": {
            "name": {"type": "string"}, "version": {"type": "string"},
            "last_inference": {"type": "integer", "description": "Milliseconds since 1970."},
            "inference_count": {"type": "integer", "description": "Rows."},
            "execution_count": {"type": "integer"},
            "inference_stats": {
              "type": "object",
              "additionalProperties": {"$ref": "#/components/schemas/Duration"}
            },
            "batch_stats": {"type": "array"}
          }
        }
      }
    }
  }
})json";

constexpr std::string_view kModelParameter = R"json({
  "name": "model", "in": "path", "required": true,
  "description": "NAME, NAME:VERSION, NAME:TAG, or BASE@ before one of them; recast: rows name their tasks.",
  "schema": {"type": "string"}, "example": "flowers"
})json";
constexpr std::string_view kNamePattern = "([A-Za-z0-9_-][A-Za-z0-9._-]{0,127}@)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}";
/// A number, or a text that is none.
constexpr std::string_view kVersionPattern =
    "([1-9][0-9]{0,17}|[A-Za-z_-][A-Za-z0-9._-]{0,127}|[0-9]{1,60}[A-Za-z._-][A-Za-z0-9._-]{0,60})";

constexpr std::string_view kVersionParameter = R"json({
  "name": "version", "in": "path", "required": true, "description": "A version, or a tag of one.",
  "schema": {"type": "string"}, "example": "1"
})json";

constexpr std::string_view kExampleParameter = R"json({
  "name": "example", "in": "path", "required": true, "description": "One of those in /recast/v1.",
  "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"}, "example": "cat.jpg"
})json";

constexpr std::string_view kTaskParameters = R"json([
  {"name": "after", "in": "query", "description": "What 'next' said before; without it the first page.",
   "schema": {"type": "string"}},
  {"name": "search", "in": "query", "description": "What names hold, capital or not.",
   "schema": {"type": "string", "pattern": "^[ -~]*$"}},
  {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}}
])json";

constexpr std::string_view kLengthParameter = R"json({
  "name": "Inference-Header-Content-Length", "in": "header", "required": false,
  "description": "Bytes of JSON at the start of the body, where binary tensors follow it.",
  "schema": {"type": "integer", "minimum": 0}
})json";

constexpr std::string_view kInferExample = R"json({
  "inputs": [
    {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"content_type": "base64"},
     "data": ["iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4oeAAAALcASk6R5B0AAAAAElFTkSuQmCC"]}
  ],
  "outputs": [{"name": "label"}, {"name": "probabilities"}]
})json";

Json schema(std::string_view name) { return {{"$ref", fmt::format("#/components/schemas/{}", name)}}; }
Json json_content(Json body) { return {{"application/json", {{"schema", std::move(body)}}}}; }

/// What a status means here.
std::string_view meaning(int status) {
  switch (status) {
    case 400:
      return "Malformed HTTP, a name that cannot be one, or a body that cannot be right: the text names the field.";
    case 401:
      return "No token, or a wrong or expired one.";
    case 403:
      return "Not allowed to this token, or, without tokens, to nobody.";
    case 404:
      return "No such model or version; the text names the nearest.";
    case 408:
      return "The request did not arrive in time.";
    case 411:
      return "No Content-Length.";
    case 413:
      return "The body, or the answer, is larger than the limit.";
    case 414:
      return "The URL is longer than the limit.";
    case 415:
      return "A content type or encoding that is not taken.";
    case 417:
      return "An expectation other than 100-continue.";
    case 421:
      return "A name that is not the server's: ask by its number, or start it with --allowed-host.";
    case 429:
      return "Too many wrong tokens just now; see Retry-After.";
    case 431:
      return "The header is larger than the limit.";
    case 500:
      return "A fault of the server, or a damaged task.";
    case 501:
      return "A transfer coding other than chunked.";
    case 503:
      return "Overloaded, shutting down, or too slow; see Retry-After.";
    case 505:
      return "Not HTTP/1.1 or 1.0.";
    default:
      return "An error.";
  }
}

class Document {
 public:
  Document(const HttpOptions& options, bool tokens) : options_(options), tokens_(tokens) {}

  std::string text() {
    add_health();
    if (!options_.metrics_only) {
      add_metadata();
      add_inference();
      add_statistics();
      add_repository();
      add_page();
    }
    add_metrics();
    Json document = {{"openapi", "3.1.0"},
                     {"info",
                      {{"title", "recast"},
                       {"version", "2"},
                       {"description",
                        fmt::format("The Open Inference Protocol v2: every task is a model, and the model recast takes "
                                    "rows of all tasks. Bodies: {} bytes at most. Every path also answers OPTIONS.",
                                    options_.body_bytes)}}},
                     {"servers", Json::array({{{"url", "/"}}})},
                     {"paths", paths_},
                     {"components", {{"schemas", Json::parse(kSchemas)}}}};
    if (tokens_) document["components"]["securitySchemes"]["token"] = {{"type", "http"}, {"scheme", "bearer"}};
    return document.dump();
  }

 private:
  enum class Open { kYes, kNo };

  /// An operation of one path, with every answer that it can have.
  Json operation(std::string_view id, std::string_view summary, Json success, Open open,
                 std::initializer_list<int> refusals) {
    Json responses;
    responses["200"] = std::move(success);
    const auto add = [&](int status) {
      responses[std::to_string(status)] = {{"description", meaning(status)},
                                           {"content", json_content(schema("Error"))}};
    };
    for (const int status : {400, 408, 413, 414, 417, 431, 500, 501, 503, 505}) add(status);
    for (const int status : refusals) add(status);
    if (!tokens_) add(421);
    Json out = {{"operationId", id}, {"summary", summary}, {"responses", nullptr}};
    if (tokens_ && open == Open::kNo) {
      out["security"] = Json::array({{{"token", Json::array()}}});
      for (const int status : {401, 403, 429}) add(status);
      responses["401"]["headers"]["WWW-Authenticate"] = {{"schema", {{"type", "string"}}}, {"required", true}};
    }
    out["responses"] = std::move(responses);
    return out;
  }

  Json described(std::string_view description, std::string_view name) {
    return {{"description", description}, {"content", json_content(schema(name))}};
  }

  void add_get(const std::string& path, Json operation) {
    if (Json parameters = path_parameters(path); !parameters.empty())
      paths_[path]["parameters"] = std::move(parameters);
    Json head = operation;
    head["operationId"] = operation["operationId"].get<std::string>() + "Head";
    head["summary"] = "The header alone of GET.";
    for (auto& response : head["responses"]) response.erase("content");
    paths_[path]["get"] = std::move(operation);
    paths_[path]["head"] = std::move(head);
  }

  void add_post(const std::string& path, Json operation, Json body) {
    if (Json parameters = path_parameters(path); !parameters.empty())
      paths_[path]["parameters"] = std::move(parameters);
    operation["requestBody"] = std::move(body);
    paths_[path]["post"] = std::move(operation);
  }

  static Json path_parameters(const std::string& path) {
    Json list = Json::array();
    const bool versioned = path.find("{version}") != path.npos;
    const auto add = [&](std::string_view parameter, const std::string& pattern) {
      list.push_back(Json::parse(parameter));
      list.back()["schema"]["pattern"] = "^" + pattern + "$";
    };
    // A version in both places must be the same, which a pattern cannot say.
    if (path.find("{model}") != path.npos)
      add(kModelParameter, fmt::format("{}{}", kNamePattern, versioned ? "" : fmt::format("(:{})?", kVersionPattern)));
    if (versioned) add(kVersionParameter, std::string(kVersionPattern));
    if (path.find("{example}") != path.npos) list.push_back(Json::parse(kExampleParameter));
    return list;
  }

  void add_health() {
    Json live = operation("serverLive", "Whether the process answers.", described("It does.", "Live"), Open::kYes, {});
    live["responses"]["503"]["content"] = json_content({{"anyOf", {schema("Live"), schema("Error")}}});
    add_get("/v2/health/live", std::move(live));
    Json ready =
        operation("serverReady", "Whether requests are taken.", described("They are.", "Ready"), Open::kYes, {});
    ready["responses"]["503"]["content"] = json_content({{"anyOf", {schema("Ready"), schema("Error")}}});
    add_get("/v2/health/ready", std::move(ready));
  }

  void add_metadata() {
    add_get("/v2", operation("serverMetadata", "Name, version and extensions of the server.",
                             described("What it is.", "ServerMetadata"), Open::kNo, {}));
    add_get(
        "/v2/openapi.json",
        operation("openapi", "This document.",
                  {{"description", "OpenAPI 3.1."}, {"content", json_content({{"type", "object"}})}}, Open::kYes, {}));
    for (const auto& [infix, suffix] : kVersions) {
      const std::string path = "/v2/models/{model}" + std::string(infix);
      add_get(path, operation("modelMetadata" + std::string(suffix), "Inputs and outputs of a model.",
                              described("What it takes and gives.", "ModelMetadata"), Open::kNo, {404}));
      Json ready = operation("modelReady" + std::string(suffix), "Whether a model answers.",
                             described("It does.", "ModelReady"), Open::kNo, {404});
      ready["responses"]["503"]["content"] = json_content({{"anyOf", {schema("ModelReady"), schema("Error")}}});
      add_get(path + "/ready", std::move(ready));
    }
  }

  void add_inference() {
    for (const auto& [infix, suffix] : kVersions) {
      Json success = described("The outputs.", "InferenceResponse");
      success["content"]["application/octet-stream"] = {{"schema", {{"type", "string"}, {"format", "binary"}}}};
      success["headers"]["Inference-Header-Content-Length"] = {
          {"description", "Bytes of JSON at the start of the body, where binary tensors follow it."},
          {"schema", {{"type", "integer"}}}};
      Json infer = operation("infer" + std::string(suffix), "Runs rows through the model.", std::move(success),
                             Open::kNo, {404, 411, 415});
      infer["parameters"] = Json::array({Json::parse(kLengthParameter)});
      Json content = json_content(schema("InferenceRequest"));
      content["application/json"]["example"] = Json::parse(kInferExample);
      content["application/octet-stream"] = {{"schema", {{"type", "string"}, {"format", "binary"}}}};
      add_post("/v2/models/{model}" + std::string(infix) + "/infer", std::move(infer),
               {{"required", true}, {"content", std::move(content)}});
    }
  }

  void add_statistics() {
    add_get("/v2/models/stats", operation("allStatistics", "Counts and times of all models that were used.",
                                          described("By model.", "Statistics"), Open::kNo, {}));
    for (const auto& [infix, suffix] : kVersions)
      add_get("/v2/models/{model}" + std::string(infix) + "/stats",
              operation("modelStatistics" + std::string(suffix), "Counts and times of a model.",
                        described("By model.", "Statistics"), Open::kNo, {404}));
  }

  void add_repository() {
    add_post("/v2/repository/index",
             operation("repositoryIndex", "All models there are.", described("By name.", "Index"), Open::kNo, {415}),
             {{"content", json_content(schema("IndexRequest"))}});
    const Json done = {{"description", "Done; there is no body."}};
    Json load = operation("loadModel", "Makes a model ready ahead of its first request.", done, Open::kNo, {404, 415});
    Json unload = operation("unloadModel", "Drops what is kept of a model; it answers again once it is loaded.", done,
                            Open::kNo, {404, 415});
    for (Json* manage : {&load, &unload})
      (*manage)["responses"]["403"] = {{"description", meaning(403)}, {"content", json_content(schema("Error"))}};
    add_post("/v2/repository/models/{model}/load", std::move(load), {{"content", json_content(schema("LoadRequest"))}});
    add_post("/v2/repository/models/{model}/unload", std::move(unload),
             {{"content", json_content(schema("UnloadRequest"))}});
  }

  void add_page() {
    const auto file = [&](const std::string& path, std::string_view id, std::string_view type) {
      add_get(path, operation(id, "A page for people: tasks, and what they say of an image.",
                              {{"description", "It, or a part of it."},
                               {"content", {{type, {{"schema", {{"type", "string"}}}}}}}},
                              Open::kYes, {}));
    };
    file("/", "page", "text/html");
    file("/recast/page.css", "pageStyle", "text/css");
    file("/recast/page.js", "pageScript", "text/javascript");
    add_get("/recast/v1", operation("pageSettings", "What the page may do for this caller.",
                                    described("It may.", "PageSettings"), Open::kNo, {}));
    Json list = operation("tasks", "Tasks with their newest versions, by base and name.",
                          described("A page of them.", "Tasks"), Open::kNo, {});
    list["parameters"] = Json::parse(kTaskParameters);
    list["parameters"][0]["schema"]["pattern"] = fmt::format("^({})?$", kNamePattern);
    list["parameters"][1]["schema"]["maxLength"] = kMostQueryValueBytes;
    list["parameters"][2]["schema"]["maximum"] = TaskQuery::kMostTasks;
    add_get("/recast/v1/tasks", std::move(list));
    add_get("/recast/v1/tasks/{model}",
            operation("task", "Labels and all versions of a task.", described("The task.", "Task"), Open::kNo, {404}));
    Json example = operation("example", "An image to ask about.", {{"description", "The file."}}, Open::kNo, {404});
    for (const char* type : {"image/jpeg", "image/png", "image/webp"})
      example["responses"]["200"]["content"][type]["schema"] = {{"type", "string"}, {"format", "binary"}};
    add_get("/recast/v1/examples/{example}", std::move(example));
    Json correct = operation("correct", "Keeps an image with the label that a person gives it, for learning.",
                             described("It is kept.", "SavedCorrection"), Open::kNo, {404, 415});
    correct["responses"]["403"] = {{"description", meaning(403)}, {"content", json_content(schema("Error"))}};
    add_post("/recast/v1/tasks/{model}/corrections", std::move(correct),
             {{"required", true}, {"content", json_content(schema("Correction"))}});
  }

  void add_metrics() {
    add_get("/metrics", operation("metrics", "Prometheus' text format.",
                                  {{"description", "All metrics of the process."},
                                   {"content", {{"text/plain", {{"schema", {{"type", "string"}}}}}}}},
                                  Open::kNo, {}));
  }

  static constexpr std::pair<std::string_view, std::string_view> kVersions[] = {{"", ""},
                                                                                {"/versions/{version}", "Version"}};

  const HttpOptions& options_;
  const bool tokens_;
  Json paths_ = Json::object();
};

}  // namespace

std::string openapi_document(const HttpOptions& options, bool tokens) { return Document(options, tokens).text(); }

}  // namespace recast
