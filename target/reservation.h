#pragma once

#include "absl/status/statusor.h"
#include "lib/net/loop.h"
#include "lib/os/fd.h"

namespace loadstar::target {

// The parent's hold on the listener's address. The serving processes share the port, and sharing would let a second
// node of the same user slip in unnoticed; so the parent binds it first without sharing, which fails when anybody
// listens, and then keeps it bound (not listening) with sharing allowed. Port 0 becomes a port of its own that the
// processes can all bind.
struct Reservation {
  os::Fd fd;
  net::Address address;
};

// ALREADY_EXISTS names the process that holds the port.
absl::StatusOr<Reservation> Reserve(const net::Address& address);

}  // namespace loadstar::target
