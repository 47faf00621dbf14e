#include "target/options.h"

#include <CLI/CLI.hpp>
#include <map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "target/shared_state.h"

namespace loadstar::target {
namespace {

const std::map<std::string, Protocol>& Protocols() {
  static const std::map<std::string, Protocol> protocols = {
      {"auto", Protocol::kAuto}, {"tcp", Protocol::kTcp}, {"mcp-tcp", Protocol::kMcpTcp}, {"http", Protocol::kHttp}};
  return protocols;
}

std::string ProtocolName(Protocol protocol) {
  for (const auto& [name, value] : Protocols()) {
    if (value == protocol) {
      return name;
    }
  }
  return "auto";
}

}  // namespace

std::variant<Options, int> ParseCommandLine(int argc, const char* const* argv) {
  Options options;
  ServingRole serving;
  serving.index = UINT32_MAX;
  std::string protocol = "auto";
  CLI::App app("Loadstar's reference node: an honest server to test against.", "loadstar-target");
  app.set_version_flag("--version", LOADSTAR_VERSION);
  app.add_option("--listen", options.listen, "HOST:PORT that is tested; port 0 chooses a free one")
      ->capture_default_str();
  app.add_option("--api", options.api, "HOST:PORT of /health, /metrics, /fault and JSON-RPC over HTTP")
      ->capture_default_str();
  app.add_option("--processes", options.processes, "serving processes that share the listener's port")
      ->check(CLI::Range(1U, SharedState::kMaxProcesses))
      ->capture_default_str();
  app.add_option("--name", options.name, "the node's name, as /health says it")->capture_default_str();
  app.add_option("--role", options.role, "the node's role, as /health says it")->capture_default_str();
  app.add_option("--protocol", protocol, "auto (by each connection's first byte), tcp (echo), mcp-tcp or http")
      ->check(CLI::IsMember({"auto", "tcp", "mcp-tcp", "http"}))
      ->capture_default_str();
  app.add_option("--tcp-payload", options.tcp_payload,
                 "bytes of one echoed request, so that requests_total is exact for tcp; 0: every piece received counts")
      ->check(CLI::Range(0U, 1U << 20))
      ->capture_default_str();
  app.add_option("--http-body", options.http_body, "bytes of the body of every HTTP answer that is not JSON-RPC's")
      ->check(CLI::Range(0U, 1U << 20))
      ->capture_default_str();
  app.add_option("--backend", options.backend, "how connections are served: auto, io_uring or epoll")
      ->check(CLI::IsMember({"auto", "io_uring", "epoll"}))
      ->capture_default_str();
  app.add_flag("--insecure", options.insecure, "allow addresses beyond loopback, without any protection");
  app.add_option("--log-level", options.log_level, "trace, debug, info, warn, error or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  app.add_option("--serve-index", serving.index)->group("");
  app.add_option("--state-fd", serving.state_fd)->group("");
  app.add_option("--control-fd", serving.control_fd)->group("");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? kExitOk : kExitBadInput;
  }
  options.protocol = Protocols().at(protocol);
  if (serving.index != UINT32_MAX) {
    options.serving = serving;
  }
  return options;
}

absl::Status Check(Options* options) {
  std::vector<std::string> errors;
  const auto read = [&](const char* flag, const std::string& text, net::Address* address) {
    absl::StatusOr<net::Address> parsed = net::ParseAddress(text);
    if (!parsed.ok()) {
      errors.push_back(absl::StrCat(flag, ": ", parsed.status().message()));
      return;
    }
    *address = *parsed;
    if (!options->insecure && !net::IsLoopback(*parsed)) {
      errors.push_back(absl::StrCat(flag, ": ", text,
                                    " is not a loopback address, and there is no protection yet; use 127.0.0.1 or ::1, "
                                    "or allow it with --insecure"));
    }
  };
  read("--listen", options->listen, &options->listen_address);
  read("--api", options->api, &options->api_address);
  return errors.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(errors, "\n"));
}

std::vector<std::string> ServingCommandLine(const Options& options, const ServingRole& role) {
  std::vector<std::string> words = {"--listen",      net::ToString(options.listen_address),
                                    "--api",         net::ToString(options.api_address),
                                    "--processes",   absl::StrCat(options.processes),
                                    "--name",        options.name,
                                    "--role",        options.role,
                                    "--protocol",    ProtocolName(options.protocol),
                                    "--tcp-payload", absl::StrCat(options.tcp_payload),
                                    "--http-body",   absl::StrCat(options.http_body),
                                    "--backend",     options.backend,
                                    "--log-level",   options.log_level,
                                    "--serve-index", absl::StrCat(role.index),
                                    "--state-fd",    absl::StrCat(role.state_fd),
                                    "--control-fd",  absl::StrCat(role.control_fd)};
  if (options.insecure) {
    words.emplace_back("--insecure");
  }
  return words;
}

}  // namespace loadstar::target
