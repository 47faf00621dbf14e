#include "lib/plan/tuning_need.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lib/plan/profile.h"

namespace loadstar::plan {
namespace {

// Longest name (lib/spec/name.h).
constexpr size_t kMaxName = 63;
// Files beside the connections: programs, logs, libraries.
constexpr uint64_t kOtherFiles = 65'536;
// A server that pauses for so long while connections come in needs a queue of as many.
constexpr double kPause_s = 1;
constexpr uint64_t kLongestBacklog = 65'535;
// The ports that a kernel has by default (Documentation/networking/ip-sysctl.rst), of which half are fast, and all that
// may be had.
constexpr uint64_t kDefaultPorts[] = {32'768, 60'999};
constexpr uint64_t kAllPorts[] = {1'024, 65'535};
constexpr uint64_t kFastPortsByDefault = (kDefaultPorts[1] - kDefaultPorts[0] + 1) / 2;

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + static_cast<double>(duration.nanos()) / 1e9;
}

// The most connections that are to be opened in one second.
uint64_t SteepestRamp(const v1::LoadSpec& load) {
  uint64_t before = 0;
  double steepest = 0;
  for (const v1::Stage& stage : load.connections()) {
    const double seconds = Seconds(stage.duration());
    if (stage.to_connections() > before && seconds > 0) {
      steepest = std::max(steepest, static_cast<double>(stage.to_connections() - before) / seconds);
    }
    before = stage.to_connections();
  }
  return static_cast<uint64_t>(std::ceil(steepest * kPause_s));
}

struct Need {
  std::string key;
  std::vector<uint64_t> values;
  v1::SysctlPolicy policy;
  v1::SysctlScope scope;
  std::string effect;
  std::string source;
  std::string module = "";
};

}  // namespace

v1::TuningProfile TuningNeed(const v1::TestSpec& test) {
  const v1::LoadSpec& load = test.load();
  const uint64_t connections = ConnectionProfile(load).Peak();
  const uint64_t ramp = SteepestRamp(load);
  const uint64_t backlog = std::min(std::max<uint64_t>(ramp, 128), kLongestBacklog);
  const auto sources = static_cast<uint64_t>(std::max(load.source_addresses_size(), 1));
  const auto endpoints = static_cast<uint64_t>(std::max(test.target().endpoints_size(), 1));
  const uint64_t pair = (connections + sources * endpoints - 1) / (sources * endpoints);
  const std::string held = std::to_string(connections) + " connections";
  const std::string opened = std::to_string(ramp) + " connections opened in a second";
  constexpr v1::SysctlScope kHost = v1::SYSCTL_SCOPE_HOST;
  constexpr v1::SysctlScope kNamespace = v1::SYSCTL_SCOPE_NETWORK_NAMESPACE;
  constexpr v1::SysctlPolicy kAtLeast = v1::SYSCTL_POLICY_AT_LEAST;

  std::vector<Need> needs = {
      {"fs.file-max",
       {2 * connections + kOtherFiles},
       kAtLeast,
       kHost,
       "Files for both ends of " + held + ".",
       "Documentation/admin-guide/sysctl/fs.rst"},
      {"net.core.somaxconn",
       {backlog},
       kAtLeast,
       kNamespace,
       "A queue for " + opened + " while a server pauses for one.",
       "Documentation/networking/ip-sysctl.rst"},
      {"net.ipv4.tcp_max_syn_backlog",
       {backlog},
       kAtLeast,
       kNamespace,
       "Room for the handshakes of " + opened + ".",
       "Documentation/networking/ip-sysctl.rst"},
      {"net.ipv4.tcp_max_tw_buckets",
       {connections},
       kAtLeast,
       kNamespace,
       "Room in TIME_WAIT for " + held + ".",
       "Documentation/networking/ip-sysctl.rst"},
      {"net.netfilter.nf_conntrack_max",
       {connections + connections / 4},
       kAtLeast,
       kHost,
       "Room in the connection tracking for " + held + " and a quarter more.",
       "Documentation/networking/nf_conntrack-sysctl.rst",
       "nf_conntrack"},
  };
  // The default is asked for where it does, because a host may have less.
  const auto& ports = pair > kFastPortsByDefault ? kAllPorts : kDefaultPorts;
  needs.push_back({"net.ipv4.ip_local_port_range",
                   {ports[0], ports[1]},
                   v1::SYSCTL_POLICY_COVERS,
                   kNamespace,
                   "Ports for " + std::to_string(pair) + " connections from one address to one endpoint.",
                   "Documentation/networking/ip-sysctl.rst"});
  v1::TuningProfile profile;
  profile.set_name(("for-" + test.name()).substr(0, kMaxName));
  for (Need& need : needs) {
    v1::SysctlSetting* setting = profile.add_sysctls();
    setting->set_key(std::move(need.key));
    setting->mutable_values()->Add(need.values.begin(), need.values.end());
    setting->set_policy(need.policy);
    setting->set_scope(need.scope);
    setting->set_module(std::move(need.module));
    setting->set_effect(std::move(need.effect));
    setting->set_source(std::move(need.source));
  }
  return profile;
}

}  // namespace loadstar::plan
