#include "agent/worker/in_flight.h"

#include <algorithm>

namespace loadstar::worker {

void InFlightTable::Add(uint32_t connection, InFlightPlaces* places, uint64_t id, int64_t intended_ns,
                        int64_t sent_ns) {
  InFlightRequest& request = Of(connection)[id & (kMaxPlaces - 1)];
  if (in_order_) {
    places->touched = std::max<uint16_t>(places->touched, static_cast<uint16_t>(1 + (id & (kMaxPlaces - 1))));
  } else if (places->first_free != UINT16_MAX) {
    places->first_free = static_cast<uint16_t>(request.intended_ns);
  } else {
    ++places->touched;
  }
  request = {id, intended_ns, sent_ns};
  ++places->sequence;
  ++places->count;
}

InFlightRequest* InFlightTable::Find(uint32_t connection, const InFlightPlaces& places, uint64_t id) {
  const auto place = static_cast<uint16_t>(id & (kMaxPlaces - 1));
  if (id == 0 || place >= places.touched) return nullptr;
  InFlightRequest* request = &Of(connection)[place];
  return request->id == id ? request : nullptr;
}

void InFlightTable::Remove(uint32_t connection, InFlightPlaces* places, InFlightRequest* request) {
  request->id = 0;
  --places->count;
  if (in_order_) return;
  request->intended_ns = places->first_free;
  places->first_free = static_cast<uint16_t>(request - Of(connection));
}

}  // namespace loadstar::worker
