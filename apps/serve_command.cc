#include <fmt/format.h>

#include <limits>
#include <memory>

#include "command_line.h"
#include "recast/format/printable.h"
#include "recast/serve/server.h"
#include "serve_library.h"
#include "table.h"

namespace recast {
namespace {

struct Flags {
  std::vector<std::string> directories;
  std::int64_t http_port = 8000, grpc_port = 8001, metrics_port = 8002;
  bool no_http = false, no_grpc = false, no_metrics = false;
  std::string address = "127.0.0.1", tokens, certificate, key, client_ca;
  bool insecure = false, management = false;
  std::string mixing = "auto", amp = "fp32", device = "cpu";
  std::int64_t max_batch = 8, max_delay_ms = 0, task_memory_mb = 512, weight_memory_mb = 2048, drain_s = 30;
};

Mixing mixing(const std::string& text) {
  return text == "grouped" ? Mixing::kGrouped : text == "templates" ? Mixing::kTemplates : Mixing::kAuto;
}

std::int64_t within(const char* flag, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return value;
  fail(Code::kInvalidArgument, "[serve] {} must lie in {}..{}, got {}", flag, least, most, value);
}

/// `port` with what all ports share.
template <class Port>
std::optional<Port> port(const Flags& flags, const char* flag, std::int64_t number, bool absent, Port options) {
  if (absent) return {};
  options.address = flags.address;
  options.port = static_cast<std::uint16_t>(within(flag, number, 0, 65'535));
  options.insecure = flags.insecure;
  options.management = flags.management;
  options.certificate = flags.certificate;
  options.key = flags.key;
  options.client_ca = flags.client_ca;
  return options;
}

ServerOptions options(const Flags& flags) {
  constexpr std::int64_t kMostMegabytes = std::numeric_limits<std::int64_t>::max() >> 20;
  ServerOptions options;
  options.http = port(flags, "--http-port", flags.http_port, flags.no_http, HttpOptions());
  options.grpc = port(flags, "--grpc-port", flags.grpc_port, flags.no_grpc, GrpcOptions());
  options.metrics = port(flags, "--metrics-port", flags.metrics_port, flags.no_metrics, metrics_port());
  options.tokens = flags.tokens;
  options.drain = std::chrono::seconds(within("--drain", flags.drain_s, 0, 86'400));
  EngineOptions& engine = options.engine;
  engine.directories.assign(flags.directories.begin(), flags.directories.end());
  engine.device = flags.device;
  engine.bf16 = flags.amp == "bf16";
  engine.mixing = mixing(flags.mixing);
  engine.max_batch = within("--max-batch", flags.max_batch, 1, 1024);
  engine.max_delay = std::chrono::milliseconds(within("--max-delay", flags.max_delay_ms, 0, 60'000));
  engine.task_bytes = within("--task-memory", flags.task_memory_mb, 1, kMostMegabytes) << 20;
  engine.weight_bytes = within("--weight-memory", flags.weight_memory_mb, 1, kMostMegabytes) << 20;
  return options;
}

nlohmann::json document(const Flags& flags, const ServerPorts& ports) {
  const auto number = [](const std::optional<std::uint16_t>& port) {
    return port ? nlohmann::json(*port) : nlohmann::json();
  };
  return {{"address", flags.address},
          {"tls", !flags.certificate.empty()},
          {"directories", flags.directories},
          {"http_port", number(ports.http)},
          {"grpc_port", number(ports.grpc)},
          {"metrics_port", number(ports.metrics)},
          {"tokens", flags.tokens.empty() ? nlohmann::json() : nlohmann::json(flags.tokens)}};
}

std::string text(const nlohmann::json& started) {
  const std::string address = started["address"], scheme = started["tls"].get<bool>() ? "https" : "http";
  const std::string host = address.find(':') == address.npos ? address : "[" + address + "]";
  Table table({"speaks", "at"});
  if (!started["http_port"].is_null())
    table.add({"HTTP", fmt::format("{}://{}:{}/v2", scheme, host, started["http_port"].get<int>())});
  if (!started["grpc_port"].is_null()) table.add({"gRPC", fmt::format("{}:{}", host, started["grpc_port"].get<int>())});
  if (!started["metrics_port"].is_null())
    table.add({"metrics", fmt::format("{}://{}:{}/metrics", scheme, host, started["metrics_port"].get<int>())});
  return fmt::format("serving every task of {}; Ctrl-C ends it\n{}", joined(started["directories"]), table.text());
}

}  // namespace

void add_serve(CommandLine& line) {
  auto flags = std::make_shared<Flags>();
  Command& command =
      line.add("serve", "answer for every task over the network (Open Inference Protocol v2)",
               "recast serve model\n  recast serve vit cnn --address 0.0.0.0 --no-grpc --tokens tokens.yaml "
               "--certificate chain.pem --key key.pem");
  command.option("dirs", flags->directories, "model directories; their names are those of the bases").required();
  command.option("--http-port", flags->http_port, "HTTP; 0 is any free port", "PORT");
  command.option("--grpc-port", flags->grpc_port, "gRPC; 0 is any free port", "PORT");
  command.option("--metrics-port", flags->metrics_port, "Prometheus metrics and health alone", "PORT");
  command.flag("--no-http", flags->no_http, "no HTTP");
  command.flag("--no-grpc", flags->no_grpc, "no gRPC");
  command.flag("--no-metrics", flags->no_metrics, "no port for metrics");
  command.option("--address", flags->address, "listen here, in numbers; others than this machine's need --tokens",
                 "IP");
  command.option("--tokens", flags->tokens, "who may do what; recast token makes the file", "FILE");
  command.flag("--insecure", flags->insecure, "let other machines in without tokens");
  command.flag("--management", flags->management, "without tokens: clients may load and unload tasks");
  command.option("--certificate", flags->certificate, "TLS: the chain in PEM, own certificate first", "FILE");
  command.option("--key", flags->key, "TLS: its key in PEM", "FILE");
  command.option("--client-ca", flags->client_ca, "TLS: clients must show a certificate that this one signed", "FILE");
  command.option("--mixing", flags->mixing, "how rows of different tasks run; auto takes what costs less", "WAY")
      .one_of({"auto", "grouped", "templates"});
  command.option("--amp", flags->amp, "number format of matrix products: bf16 or fp32", "FORMAT")
      .one_of({"bf16", "fp32"});
  command.option("--device", flags->device, "cpu, cuda or cuda:N", "NAME");
  command.option("--max-batch", flags->max_batch, "rows that a thread takes at a time", "N");
  command.option("--max-delay", flags->max_delay_ms, "how long a row waits for others at most, ms", "MS");
  command.option("--task-memory", flags->task_memory_mb, "for tasks that are kept ready", "MB");
  command.option("--weight-memory", flags->weight_memory_mb, "for weights that are kept made", "MB");
  command.option("--drain", flags->drain_s, "at the end: time for what was taken to be answered", "SECONDS");
  command.on([&line, flags] {
    const auto serve = *static_cast<const RecastServe*>(serve_symbol("recast_serve"));
    const std::atomic<bool>* stop = line.stop("answering what was taken");
    const bool all =
        serve(options(*flags), *stop, [&](const ServerPorts& ports) { line.print(document(*flags, ports), text); });
    if (!all)
      fail(Code::kUnavailable, "[serve] what was not answered within {} s was cut off; --drain SECONDS gives more time",
           flags->drain_s);
  });
}

}  // namespace recast
