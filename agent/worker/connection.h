#pragma once

#include <cstdint>

#include "agent/worker/in_flight.h"
#include "agent/worker/pacer.h"
#include "lib/net/loop.h"

namespace loadstar::worker {

// Life of one of the worker's connections:
//
//            Connect             connected            handshake over
//   kFree ------------> kPending ---------> kHandshake -------------> kReady
//     ^                    |                    |                        |  Send found it broken
//     |                    | failed             | lost                   | ----> kDying (OnClosed is on its way)
//     |                    v                    v                        v          |
//     +--- not wanted -- (failed or lost) <-----+------------------------+<---------+
//     |                    |  reconnect       no reconnect
//     |                    v                    v
//     +---- released --- kBackoff             kGone
//
// A connection is wanted when its number is below Load::wanted_; one that is not wanted any more (the profile went
// down) finishes what is in flight and is closed, or, when the profile comes back first, goes on.
enum class ConnectionState : uint8_t { kFree, kPending, kHandshake, kReady, kDying, kBackoff, kGone };

inline constexpr uint32_t kNoConnection = UINT32_MAX;

// All that the engine keeps for one connection, besides its places in the InFlightTable and the protocol's own state.
struct alignas(64) Connection {
  net::SocketId socket = net::kNoSocket;
  uint32_t endpoint = 0;  // constant
  // Neighbours in the load's list.
  uint32_t next = kNoConnection;
  uint32_t previous = kNoConnection;
  // Requests that wait: due by the number's own schedule, or owed in the closed model.
  uint32_t waiting = 0;
  uint16_t first_owed = 0;  // closed model: place of the oldest in the ring of owed times
  uint8_t attempts = 0;     // connects since it last was ready, for the backoff
  ConnectionState state = ConnectionState::kFree;
  bool listed = false;
  bool blocked = false;    // the loop's queue is full: wait for OnDrained
  bool heartbeat = false;  // one is in flight, in a place beside those of requests
  InFlightPlaces places;

  // All of these are on the loop's clock, ns.
  int64_t timer_ns = kNever;            // what the wheel is set to
  int64_t since_ns = 0;                 // connect begun; from kHandshake on: established
  int64_t room_since_ns = 0;            // when the last lack of room ended
  int64_t heard_ns = 0;                 // when it became ready or last received something
  int64_t oldest_deadline_ns = kNever;  // nothing in flight times out before this
  int64_t due_ns = kNever;              // next request of the number's own schedule; kNever: it is not running

  // The number's own schedule, which outlives its TCP connections: next request to become due, next to be sent.
  ArrivalCursor due;
  ArrivalCursor sent;
};
static_assert(sizeof(Connection) <= 128, "two cache lines a connection: a worker holds tens of thousands");

}  // namespace loadstar::worker
