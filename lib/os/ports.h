#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/os/proc.h"

namespace loadstar::os {

// A socket address of either family.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// "HOST:PORT" or "[V6]:PORT" to an address. A host that is no number is asked of the resolver, which may wait: not for
// a thread that must not.
absl::StatusOr<SocketAddress> Resolve(const std::string& host_and_port);

// OK when a listener could be bound to the address now. ALREADY_EXISTS names the process that listens there ("held by
// process 4711 (nginx)") as far as it may be seen; FAILED_PRECONDITION says why not otherwise (an
// address that this host does not have).
absl::Status CheckPortFree(const std::string& host_and_port, const Proc& proc = Proc());

// The TCP ports on which somebody listens in the caller's network namespace, in order.
std::vector<uint16_t> ListeningPorts();

}  // namespace loadstar::os
