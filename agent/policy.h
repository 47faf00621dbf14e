// What this host's own configuration allows, whatever the coordinator says. Pure but for reading where symbolic links
// of programs lead.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "loadstar/v1/agent_service.pb.h"

namespace loadstar::agent {

// A range of addresses, "10.1.0.0/16" or "::1/128". IPv4 is kept as IPv4-mapped IPv6.
struct AddressRange {
  uint8_t address[16] = {};
  int prefix_bits = 128;

  static absl::StatusOr<AddressRange> Parse(const std::string& text);
  // Whether a numeric host lies within. False for what is no number.
  bool Contains(const std::string& host) const;
};

struct Policy {
  std::vector<AddressRange> targets;
  std::vector<std::string> programs;  // absolute paths
  std::string bin_folder;             // where bare program names are looked up
  std::vector<std::string> tunable;   // as HostTuner::Options::allowed
};

// What an agent may tune unless it is told otherwise: the sysctls of the shipped profiles (deploy/tuning/), the ports
// that a wider range of ports makes it reserve, and descriptors.
std::vector<std::string> DefaultTunable();

// PERMISSION_DENIED names the first endpoint that lies outside of the policy's ranges, and the flag that would admit
// it.
absl::Status AdmitRun(const Policy& policy, const v1::PrepareRun& prepare);
// INVALID_ARGUMENT for names that could leave their folder, PERMISSION_DENIED for a program that is not on the list and
// for variables that would make an allowed program run something else (LD_*).
absl::Status AdmitNodes(const Policy& policy, const v1::DeployNodes& deploy);

// The program of a node by the policy: an absolute path as it is, a bare name beside the agent's own binary.
absl::StatusOr<std::string> ResolveProgram(const Policy& policy, const v1::NodeSpec& node);

}  // namespace loadstar::agent
