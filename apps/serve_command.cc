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

template <class Unit>
std::int64_t in(std::chrono::microseconds time) {
  return std::chrono::duration_cast<Unit>(time).count();
}

/// `options` with what has another unit or type on the command line beside it.
struct ServeFlags {
  ServerOptions options;
  std::vector<std::string> directories;
  std::int64_t http_port = options.http->port, grpc_port = options.grpc->port, metrics_port = options.metrics->port;
  bool no_http = false, no_grpc = false, no_metrics = false;
  std::string address = options.http->address, tokens, certificate, key, client_ca, examples, corrections;
  bool insecure = options.http->insecure, management = options.http->management;
  std::vector<std::string> allowed_hosts;
  std::string mixing = "auto", amp = options.engine.bf16 ? "bf16" : "fp32";
  std::int64_t max_delay_ms = in<std::chrono::milliseconds>(options.engine.max_delay),
               task_memory_mb = options.engine.task_bytes >> 20, weight_memory_mb = options.engine.weight_bytes >> 20,
               drain_s = in<std::chrono::seconds>(options.drain);
};

Mixing mixing(const std::string& text) {
  return text == "grouped" ? Mixing::kGrouped : text == "templates" ? Mixing::kTemplates : Mixing::kAuto;
}

std::int64_t within(const char* flag, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return value;
  fail(Code::kInvalidArgument, "[serve] {} must lie in {}..{}, got {}", flag, least, most, value);
}

/// What all ports share.
template <class Port>
void set_port(const ServeFlags& flags, const char* flag, std::int64_t number, bool absent, std::optional<Port>& port) {
  if (absent) return port.reset();
  port->address = flags.address;
  port->port = static_cast<std::uint16_t>(within(flag, number, 0, 65'535));
  port->insecure = flags.insecure;
  port->management = flags.management;
  port->certificate = flags.certificate;
  port->key = flags.key;
  port->client_ca = flags.client_ca;
}

ServerOptions options(const ServeFlags& flags) {
  constexpr std::int64_t kMostMegabytes = std::numeric_limits<std::int64_t>::max() >> 20;
  ServerOptions options = flags.options;
  set_port(flags, "--http-port", flags.http_port, flags.no_http, options.http);
  set_port(flags, "--grpc-port", flags.grpc_port, flags.no_grpc, options.grpc);
  set_port(flags, "--metrics-port", flags.metrics_port, flags.no_metrics, options.metrics);
  for (std::optional<HttpOptions>* port : {&options.http, &options.metrics})
    if (*port) (*port)->allowed_hosts = flags.allowed_hosts;
  if (options.http) {
    options.http->examples = flags.examples;
    options.http->corrections = flags.corrections;
  }
  options.tokens = flags.tokens;
  options.drain = std::chrono::seconds(within("--drain", flags.drain_s, 0, 86'400));
  EngineOptions& engine = options.engine;
  engine.directories.assign(flags.directories.begin(), flags.directories.end());
  engine.bf16 = flags.amp == "bf16";
  engine.mixing = mixing(flags.mixing);
  within("--max-batch", engine.max_batch, 1, 1024);
  engine.max_delay = std::chrono::milliseconds(within("--max-delay", flags.max_delay_ms, 0, 60'000));
  engine.task_bytes = within("--task-memory", flags.task_memory_mb, 1, kMostMegabytes) << 20;
  engine.weight_bytes = within("--weight-memory", flags.weight_memory_mb, 1, kMostMegabytes) << 20;
  return options;
}

nlohmann::json document(const ServeFlags& flags, const ServerPorts& ports) {
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

std::string serve_text(const nlohmann::json& started) {
  const std::string address = started["address"], scheme = started["tls"].get<bool>() ? "https" : "http";
  const std::string host = address.find(':') == address.npos ? address : "[" + address + "]";
  Table table({"speaks", "at"});
  if (!started["http_port"].is_null()) {
    const std::string page = fmt::format("{}://{}:{}/", scheme, host, started["http_port"].get<int>());
    table.add({"HTTP", page + "v2"});
    table.add({"page", page});
  }
  if (!started["grpc_port"].is_null()) table.add({"gRPC", fmt::format("{}:{}", host, started["grpc_port"].get<int>())});
  if (!started["metrics_port"].is_null())
    table.add({"metrics", fmt::format("{}://{}:{}/metrics", scheme, host, started["metrics_port"].get<int>())});
  return fmt::format("serving every task of {}; Ctrl-C ends it\n{}", joined(started["directories"]), table.text());
}

}  // namespace

void add_serve(CommandLine& line) {
  auto flags = std::make_shared<ServeFlags>();
  Command& command =
      line.add("serve", "answer for every task over the network (Open Inference Protocol v2)",
               "recast serve model\n  recast serve vit cnn --address 0.0.0.0 --no-grpc --tokens tokens.yaml "
               "--certificate chain.pem --key key.pem");
  command.option("dirs", flags->directories, "model directories; their names are those of the bases").required();
  command.store(flags->options.engine.store);
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
  command.option("--allowed-host", flags->allowed_hosts,
                 "without tokens: answer HTTP under this name, beside numbers and localhost; several times for more",
                 "NAME");
  command.flag("--management", flags->management, "without tokens: clients may load and unload tasks");
  command.option("--examples", flags->examples, "images that the page for people offers", "FOLDER");
  command.option("--corrections", flags->corrections,
                 "keep images that people correct on the page here, as learn takes them", "FOLDER");
  command.option("--certificate", flags->certificate, "TLS: the chain in PEM, own certificate first", "FILE");
  command.option("--key", flags->key, "TLS: its key in PEM", "FILE");
  command.option("--client-ca", flags->client_ca, "TLS: clients must show a certificate that this one signed", "FILE");
  command.option("--mixing", flags->mixing, "how rows of different tasks run; auto takes what costs less", "WAY")
      .one_of({"auto", "grouped", "templates"});
  command.option("--amp", flags->amp, "number format of matrix products: bf16 or fp32", "FORMAT")
      .one_of({"bf16", "fp32"});
  command.option("--device", flags->options.engine.device, "cpu, cuda or cuda:N", "NAME");
  command.option("--max-batch", flags->options.engine.max_batch, "rows that a thread takes at a time", "N");
  command.option("--max-delay", flags->max_delay_ms, "how long a row waits for others at most, ms", "MS");
  command.option("--task-memory", flags->task_memory_mb, "for tasks that are kept ready", "MB");
  command.option("--weight-memory", flags->weight_memory_mb, "for weights that are kept made", "MB");
  command.option("--access-log", flags->options.access_log,
                 "a line of JSON for each request, - for standard error; SIGHUP opens the file anew", "FILE");
  command.option("--limit", flags->options.limits, "sets a limit of docs/serving.md; several times for more",
                 "NAME=VALUE");
  command.option("--drain", flags->drain_s, "at the end: time for what was taken to be answered", "SECONDS");
  command.on([&line, flags] {
    const auto serve = *static_cast<const RecastServe*>(serve_symbol("recast_serve"));
    const ServerOptions chosen = options(*flags);
    const std::atomic<bool>* stop = line.stop("answering what was taken");
    const bool has_file = line.logs_to_file() || (!chosen.access_log.empty() && chosen.access_log != "-");
    std::atomic<bool>* const hangup = has_file ? line.hangup() : nullptr;
    const auto reopen_logs = [&] {
      if (hangup == nullptr || !hangup->exchange(false)) return false;
      line.reopen_log();
      return true;
    };
    const bool all = serve(chosen, *stop, reopen_logs,
                           [&](const ServerPorts& ports) { line.print(document(*flags, ports), serve_text); });
    if (!all)
      fail(Code::kUnavailable, "[serve] what was not answered within {} s was cut off; --drain SECONDS gives more time",
           flags->drain_s);
  });
}

}  // namespace recast
