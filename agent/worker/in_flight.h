#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace loadstar::worker {

// A request, or a heartbeat, that was sent and has no answer yet.
struct InFlightRequest {
  // Intended time of a heartbeat, which no schedule asked for.
  static constexpr int64_t kHeartbeat = INT64_MIN;

  uint64_t id;          // 0: this place is free
  int64_t intended_ns;  // when free: the next free place
  int64_t sent_ns;

  bool heartbeat() const { return intended_ns == kHeartbeat; }
};

// What a connection keeps of its places in the table.
struct InFlightPlaces {
  uint64_t sequence = 0;  // sent on this connection so far
  uint16_t count = 0;     // in flight
  uint16_t touched = 0;   // places used at least once: those below it hold meaning
  uint16_t first_free = UINT16_MAX;
};

// What is in flight on all connections: so many places each, taken at the start. Untouched places cost no memory (the
// kernel gives pages when they are written).
//
// An id is sequence << kPlaceBits | place, with a sequence from 1: ids grow on a connection, an answer finds its place
// without a search, and a late answer does not match the request that has the place now. Sequences are dense, so a
// protocol whose answers come in order is held to it.
class InFlightTable {
 public:
  static constexpr int kPlaceBits = 11;
  static constexpr uint32_t kMaxPlaces = 1U << kPlaceBits;

  // `in_order`: requests of a connection leave in the order in which they came, so that places are a ring and the
  // oldest is found without a search. (When one leaves otherwise, its connection is about to end: the next request is
  // the first of another.) Check ok() before use: false when the memory cannot be had.
  InFlightTable(uint32_t connections, uint32_t places, bool in_order)
      : places_(places),
        in_order_(in_order),
        requests_(static_cast<InFlightRequest*>(
            std::calloc(static_cast<size_t>(connections) * places + 1, sizeof(InFlightRequest)))) {}

  bool ok() const { return requests_ != nullptr; }
  uint32_t places() const { return places_; }

  static uint64_t SequenceOf(uint64_t id) { return id >> kPlaceBits; }
  // The id that Add would give next. Only when places->count < places().
  uint64_t NextId(const InFlightPlaces& places) const {
    const uint64_t place = in_order_                         ? places.sequence % places_
                           : places.first_free != UINT16_MAX ? places.first_free
                                                             : places.touched;
    return (places.sequence + 1) << kPlaceBits | place;
  }
  // The id of the request that has been in flight longest, or 0. Only when in order.
  uint64_t OldestId(const InFlightPlaces& places) const {
    if (places.count == 0) return 0;
    const uint64_t before = places.sequence - places.count;
    return (before + 1) << kPlaceBits | before % places_;
  }
  void Add(uint32_t connection, InFlightPlaces* places, uint64_t id, int64_t intended_ns, int64_t sent_ns);
  // The request with this id, or null when it is not in flight.
  InFlightRequest* Find(uint32_t connection, const InFlightPlaces& places, uint64_t id);
  void Remove(uint32_t connection, InFlightPlaces* places, InFlightRequest* request);
  // The place's request, or null when it is free. place < places.touched.
  InFlightRequest* At(uint32_t connection, uint16_t place) {
    InFlightRequest* request = &Of(connection)[place];
    return request->id != 0 ? request : nullptr;
  }
  // Asks the CPU for the first of the connection's places.
  void Prefetch(uint32_t connection) const {
    __builtin_prefetch(requests_.get() + static_cast<size_t>(connection) * places_, 1);
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  InFlightRequest* Of(uint32_t connection) { return requests_.get() + static_cast<size_t>(connection) * places_; }

  const uint32_t places_;
  const bool in_order_;
  std::unique_ptr<InFlightRequest[], Free> requests_;
};

}  // namespace loadstar::worker
