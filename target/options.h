#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/net/loop.h"
#include "target/node_server.h"

namespace loadstar::target {

// Exit codes, as every program of Loadstar has them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitBadInput = 2;
inline constexpr int kExitFailed = 4;

// What the parent hands to a process that it starts, by flags that no user gives.
struct ServingRole {
  uint32_t index = 0;
  int state_fd = -1;
  int control_fd = -1;
};

struct Options {
  std::string listen = "127.0.0.1:9100";
  std::string api = "127.0.0.1:8080";
  uint32_t processes = 1;
  std::string name = "node";
  std::string role = "worker";
  Protocol protocol = Protocol::kAuto;
  uint32_t tcp_payload = 0;
  uint32_t http_body = 100;
  std::string backend = "auto";  // as net::Loop::Create takes it
  bool insecure = false;
  std::string log_level = "info";
  std::optional<ServingRole> serving;

  // Set by Check.
  net::Address listen_address;
  net::Address api_address;
};

// Reads the command line. The alternative is the exit code when there is nothing to do (--help, or an error that was
// printed).
std::variant<Options, int> ParseCommandLine(int argc, const char* const* argv);

// Parses the addresses and refuses what is not loopback unless insecure. All errors in one status.
absl::Status Check(Options* options);

// The command line (without the program) of the serving process `role`.
std::vector<std::string> ServingCommandLine(const Options& options, const ServingRole& role);

}  // namespace loadstar::target
