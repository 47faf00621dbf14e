#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// The ports of outgoing connections, and those of them that these are not given.
inline constexpr std::string_view kPortRange = "net.ipv4.ip_local_port_range";
inline constexpr std::string_view kReservedPorts = "net.ipv4.ip_local_reserved_ports";

// The profile with what its settings make necessary besides. A wider range of ports for connections takes in those that
// somebody listens on, and a node that is started again would find its port taken: of `listening`, those in the wanted
// range are reserved (net.ipv4.ip_local_reserved_ports) before it is widened. What the profile reserves itself stays.
v1::TuningProfile WithCouplings(const v1::TuningProfile& profile, const std::vector<uint16_t>& listening);

// What the user should know of a value because of what another key will have, as `value_of` tells it (empty: not
// known). Empty: nothing.
std::string CouplingRemark(std::string_view key, const std::string& value,
                           const std::function<std::string(const std::string& key)>& value_of);

}  // namespace loadstar::agent
