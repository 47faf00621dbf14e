#include "agent/policy.h"

#include <arpa/inet.h>
#include <string.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/tuner/host_tuner.h"
#include "lib/spec/name.h"

namespace loadstar::agent {
namespace {

// Numeric host to 16 bytes; false when it is no number. *v4 says which family it was written in.
bool ToBytes(const std::string& host, uint8_t* bytes, bool* v4) {
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  memcpy(bytes, kMapped, sizeof kMapped);
  *v4 = inet_pton(AF_INET, host.c_str(), bytes + sizeof kMapped) == 1;
  return *v4 || inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

std::string HostOf(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  std::string host = endpoint.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return host;
}

// Where a path leads to in the end; the path itself when it leads nowhere.
std::string Canonical(const std::string& path) {
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::canonical(path, error);
  return error ? path : canonical.string();
}

}  // namespace

absl::StatusOr<AddressRange> AddressRange::Parse(const std::string& text) {
  const auto refuse = [&] {
    return absl::InvalidArgumentError(absl::StrCat("\"", text,
                                                   "\" is no address range; write ADDRESS/BITS, such as "
                                                   "10.1.0.0/16 or fd00::/8"));
  };
  const size_t slash = text.find('/');
  AddressRange range;
  bool v4 = false;
  if (!ToBytes(text.substr(0, slash), range.address, &v4)) return refuse();
  if (slash == std::string::npos) return range;
  int bits = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + slash + 1, end, bits);
  if (error != std::errc() || stop != end || bits < 0 || bits > (v4 ? 32 : 128)) return refuse();
  range.prefix_bits = v4 ? 96 + bits : bits;
  return range;
}

bool AddressRange::Contains(const std::string& host) const {
  uint8_t bytes[16];
  bool v4 = false;
  if (!ToBytes(host, bytes, &v4)) return false;
  const int whole = prefix_bits / 8;
  if (memcmp(bytes, address, static_cast<size_t>(whole)) != 0) return false;
  const int rest = prefix_bits % 8;
  if (rest == 0) return true;
  const auto mask = static_cast<uint8_t>(0xff << (8 - rest));
  return (bytes[whole] & mask) == (address[whole] & mask);
}

std::vector<std::string> DefaultTunable() {
  return {
      HostTuner::kDescriptorsAllowed,
      HostTuner::kModulesAllowed,
      HostTuner::kVirtualMachineAllowed,
      "fs.file-max",
      "fs.nr_open",
      "net.core.netdev_max_backlog",
      "net.core.rmem_max",
      "net.core.somaxconn",
      "net.core.wmem_max",
      "net.ipv4.ip_local_port_range",
      "net.ipv4.ip_local_reserved_ports",
      "net.ipv4.tcp_fin_timeout",
      "net.ipv4.tcp_max_orphans",
      "net.ipv4.tcp_max_syn_backlog",
      "net.ipv4.tcp_max_tw_buckets",
      "net.ipv4.tcp_mem",
      "net.ipv4.tcp_rmem",
      "net.ipv4.tcp_tw_reuse",
      "net.ipv4.tcp_wmem",
      "net.netfilter.nf_conntrack_buckets",
      "net.netfilter.nf_conntrack_max",
      "net.netfilter.nf_conntrack_tcp_timeout_established",
  };
}

absl::Status AdmitRun(const Policy& policy, const v1::PrepareRun& prepare) {
  for (const std::string& endpoint : prepare.endpoints()) {
    const std::string host = HostOf(endpoint);
    if (std::none_of(policy.targets.begin(), policy.targets.end(),
                     [&](const AddressRange& range) { return range.Contains(host); })) {
      return absl::PermissionDeniedError(
          absl::StrCat("this agent may not send load to ", endpoint,
                       "; start it with --allow-target and a range that holds the address to admit it"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ResolveProgram(const Policy& policy, const v1::NodeSpec& node) {
  const std::string name = node.command().empty() ? "loadstar-target" : node.command(0);
  if (!name.empty() && name.find('/') == std::string::npos) return absl::StrCat(policy.bin_folder, "/", name);
  if (absl::StartsWith(name, "/")) return name;
  return absl::InvalidArgumentError(absl::StrCat("node ", node.name(), ": the program \"", name,
                                                 "\" must be an absolute path, or a bare name of a program beside "
                                                 "loadstar-agent"));
}

absl::Status AdmitNodes(const Policy& policy, const v1::DeployNodes& deploy) {
  if (!spec::IsName(deploy.deployment())) {
    return absl::InvalidArgumentError(absl::StrCat("\"", deploy.deployment(), "\" is no deployment name"));
  }
  for (const v1::NodeSpec& node : deploy.nodes()) {
    if (!spec::IsName(node.name()))
      return absl::InvalidArgumentError(absl::StrCat("\"", node.name(), "\" is no node name"));
    const absl::StatusOr<std::string> program = ResolveProgram(policy, node);
    if (!program.ok()) return program.status();
    if (std::none_of(policy.programs.begin(), policy.programs.end(), [&](const std::string& allowed) {
          return allowed == *program || Canonical(allowed) == Canonical(*program);
        })) {
      return absl::PermissionDeniedError(absl::StrCat("node ", node.name(), ": this agent may not run ", *program,
                                                      " (allowed: ", absl::StrJoin(policy.programs, ", "),
                                                      "); start it with --allow-program ", *program, " to admit it"));
    }
    for (const std::string& variable : node.environment()) {
      if (absl::StartsWith(variable, "LD_") || absl::StartsWith(variable, "LOADSTAR_NODE=")) {
        return absl::PermissionDeniedError(absl::StrCat("node ", node.name(), ": the variable ", variable,
                                                        " is not allowed; variables of the dynamic linker and of "
                                                        "the agent itself are refused"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace loadstar::agent
