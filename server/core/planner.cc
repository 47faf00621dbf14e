#include "server/core/planner.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lib/plan/capacity.h"
#include "lib/plan/profile.h"

namespace loadstar::server {
namespace {

uint64_t CeilDiv(uint64_t a, uint64_t b) { return b == 0 ? UINT64_MAX : a / b + (a % b != 0 ? 1 : 0); }
uint64_t Less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

// Arrivals at random: in so many standard deviations above the mean lie all but one of some millions of intervals.
constexpr double kPoissonDeviations = 5;

uint64_t SaturatingMultiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + static_cast<double>(duration.nanos()) / 1e9;
}

// No more than so many.
uint64_t AtMost(double number, uint64_t bound) {
  return number < static_cast<double>(bound) ? static_cast<uint64_t>(std::ceil(number)) : bound;
}

// Rule 5: the capacity with the limit of socket memory only where it binds this test.
v1::Capacity CapacityFor(const Candidate& candidate, uint64_t in_flight) {
  v1::Capacity capacity = candidate.capacity;
  capacity.clear_limits();
  bool counted = false;
  for (const v1::CapacityLimit& limit : candidate.capacity.limits()) {
    if (limit.name() != plan::kTcpMemoryLimit) {
      *capacity.add_limits() = limit;
      continue;
    }
    counted = true;
    const uint64_t left = Less(limit.connections(), candidate.held_in_flight);
    if (in_flight <= left) continue;
    *capacity.add_limits() = limit;
    // What others hold is taken off every limit; of this one they take what they have in flight.
    capacity.mutable_limits()->rbegin()->set_connections(left + candidate.held);
  }
  if (counted) plan::BindLeast(&capacity);
  return capacity;
}

// Rule 6.
std::optional<v1::MemoryNeed> NeedOf(const Candidate& candidate, uint64_t connections, uint32_t workers,
                                     size_t endpoints) {
  if (!candidate.capacity.has_kernel_bytes_per_end()) return std::nullopt;
  const uint64_t ends = connections + connections * candidate.endpoints_here / std::max<size_t>(endpoints, 1);
  v1::MemoryNeed need;
  need.set_connections(connections);
  const uint64_t kernel_each = candidate.capacity.kernel_bytes_per_end();
  need.set_kernel_bytes(plan::MemoryOfEnds(ends, kernel_each).kernel_bytes);
  // What other programs than loadstar-target take for their ends nobody knows.
  const uint64_t own_ends = candidate.node_processes_here > 0 ? ends : connections;
  const uint64_t processes = uint64_t{workers} + candidate.node_processes_here;
  need.set_user_bytes(processes * plan::kProcessMemory + plan::MemoryOfEnds(own_ends, kernel_each).user_bytes);
  return need;
}

// Everything about a plan but its peak, so that other peaks can be tried.
class Planner {
 public:
  Planner(uint32_t workers_wanted, uint64_t address_pairs, const std::vector<Candidate>& candidates)
      : workers_wanted_(workers_wanted), address_pairs_(address_pairs), candidates_(candidates) {
    for (const Candidate& candidate : candidates_) {
      const uint64_t ports =
          Less(SaturatingMultiply(candidate.capacity.per_address_pair(), address_pairs), candidate.held_to_endpoints);
      const uint64_t total = Less(candidate.capacity.connections(), candidate.held);
      total_.push_back(total);
      ports_.push_back(ports);
      free_.push_back(std::min(total, ports));
    }
  }

  // Workers of each candidate for this peak; empty when none fits.
  std::vector<uint32_t> Fit(uint64_t peak) const {
    const uint64_t first = workers_wanted_ > 0 ? workers_wanted_ : WorkersFor(peak);
    const uint64_t last = workers_wanted_ > 0 ? workers_wanted_ : first + 4 * candidates_.size() + 16;
    for (uint64_t workers = first; workers <= std::min<uint64_t>(last, kMaxWorkers); ++workers) {
      std::vector<uint32_t> dealt = Deal(static_cast<uint32_t>(workers));
      if (Holds(dealt, CeilDiv(peak, workers))) return dealt;
    }
    return {};
  }

  // The largest peak below `peak` that fits, found by halving: a smaller peak never needs more.
  uint64_t LargestFit(uint64_t peak) const {
    uint64_t fits = 0;
    uint64_t too_much = peak;
    while (too_much - fits > 1) {
      const uint64_t middle = fits + (too_much - fits) / 2;
      (Fit(middle).empty() ? too_much : fits) = middle;
    }
    return fits;
  }

  Misfit Explain(uint64_t peak) const;

 private:
  uint64_t WorkersFor(uint64_t peak) const {
    long double all = 0;
    for (const uint64_t free : free_) all += static_cast<long double>(free);
    uint64_t workers = 0;
    for (size_t i = 0; i < candidates_.size(); ++i) {
      if (free_[i] == 0 && all > 0) continue;
      const long double part = all > 0 ? static_cast<long double>(free_[i]) / all : 1.0L;
      const auto share = static_cast<uint64_t>(std::ceil(part * static_cast<long double>(peak)));
      const uint64_t by_descriptors =
          std::min<uint64_t>(CeilDiv(share, candidates_[i].capacity.per_worker()), kMaxWorkers);
      const uint64_t by_cores = std::min<uint64_t>(candidates_[i].cores, CeilDiv(share, kConnectionsWorthACore));
      workers += std::max<uint64_t>({by_descriptors, by_cores, 1});
    }
    return std::min<uint64_t>(workers, kMaxWorkers);
  }

  std::vector<uint32_t> Deal(uint32_t workers) const {
    std::vector<uint32_t> dealt(candidates_.size(), 0);
    for (uint32_t i = 0; i < workers; ++i) {
      size_t best = 0;
      long double best_average = -1;
      for (size_t a = 0; a < dealt.size(); ++a) {
        const long double average = static_cast<long double>(free_[a]) / (dealt[a] + 1);
        if (average > best_average) {
          best_average = average;
          best = a;
        }
      }
      ++dealt[best];
    }
    return dealt;
  }

  bool Holds(const std::vector<uint32_t>& dealt, uint64_t each) const {
    for (size_t a = 0; a < dealt.size(); ++a) {
      if (dealt[a] == 0) continue;
      if (each > candidates_[a].capacity.per_worker()) return false;
      if (SaturatingMultiply(each, dealt[a]) > free_[a]) return false;
    }
    return true;
  }

  const uint32_t workers_wanted_;
  const uint64_t address_pairs_;
  const std::vector<Candidate>& candidates_;
  std::vector<uint64_t> total_;  // by candidate: connections it can still hold, ports aside
  std::vector<uint64_t> ports_;  // and by its ports to these endpoints
  std::vector<uint64_t> free_;   // and both together
};

// Of as many agents as a person would read.
constexpr size_t kAgentsNamed = 8;

std::string NameOf(const Candidate& candidate) {
  return absl::StrCat("agent ", candidate.name,
                      candidate.host.empty() ? "" : absl::StrCat(" on host ", candidate.host));
}

// What the agent says would raise the limit that binds on its host.
std::string RemedyOf(const Candidate& candidate) {
  for (const v1::CapacityLimit& limit : candidate.capacity.limits()) {
    if (limit.name() == candidate.capacity.binding_limit() && !limit.remedy().empty()) {
      return absl::StrCat("on ", candidate.host.empty() ? candidate.name : candidate.host, " ", limit.remedy());
    }
  }
  return "";
}

// The limit is found by lifting one at a time: the total first, as it is the host's, then ports, then descriptors.
Misfit Planner::Explain(uint64_t peak) const {
  Misfit misfit;
  uint64_t total = 0;
  uint64_t both = 0;
  for (size_t a = 0; a < candidates_.size(); ++a) {
    total += total_[a];
    both += free_[a];
  }
  const size_t named = std::min(candidates_.size(), kAgentsNamed);
  const std::string wants = absl::StrCat("the test asks for ", peak, " connections at its peak, but ");
  std::string other_remedy;
  if (total < peak) {
    misfit.limit = candidates_.front().capacity.binding_limit();
    misfit.message = absl::StrCat(wants, "the agents can hold ", total, ": ");
    other_remedy = "add agents on other hosts";
    for (size_t a = 0; a < named; ++a) {
      const Candidate& c = candidates_[a];
      absl::StrAppend(&misfit.message, a == 0 ? "" : "; ", NameOf(c), " can hold ", total_[a],
                      " (limit: ", c.capacity.binding_limit(), ")");
      if (c.held > 0) absl::StrAppend(&misfit.message, ", as its other runs hold up to ", c.held);
      const std::string remedy = RemedyOf(c);
      if (!remedy.empty()) absl::StrAppend(&other_remedy, a == 0 ? ", or " : "; ", remedy);
    }
  } else if (both < peak) {
    misfit.limit = "ports";
    misfit.message = absl::StrCat(wants, "from their source addresses the agents can hold ", both,
                                  " towards these endpoints at full speed (limit: ports): ");
    uint64_t slow = 0;
    for (size_t a = 0; a < candidates_.size(); ++a) {
      const Candidate& c = candidates_[a];
      slow += std::min(
          total_[a], Less(SaturatingMultiply(c.capacity.per_address_pair_max(), address_pairs_), c.held_to_endpoints));
      if (a >= named) continue;
      absl::StrAppend(&misfit.message, a == 0 ? "" : "; ", NameOf(c), " ", free_[a], " (", address_pairs_,
                      " pairs of source address and endpoint, ", c.capacity.per_address_pair(), " ports each)");
      if (c.held_to_endpoints > 0) {
        absl::StrAppend(&misfit.message, ", as its other runs hold up to ", c.held_to_endpoints);
      }
    }
    if (slow >= peak) {
      absl::StrAppend(&misfit.message,
                      "; the other half of the port range would do, but connects there run at a few hundred a second");
    }
    other_remedy =
        "give load.sourceAddresses more addresses, use more endpoints, or widen net.ipv4.ip_local_port_range on the "
        "agents' hosts";
    const auto widened = std::find_if(candidates_.begin(), candidates_.end(), [](const Candidate& candidate) {
      return candidate.capacity.tuned().per_address_pair() > candidate.capacity.per_address_pair();
    });
    if (widened != candidates_.end()) {
      absl::StrAppend(&other_remedy, ": loadstar tune apply ", widened->capacity.tuned().profile());
    }
  } else {
    const auto least = std::min_element(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) {
      return a.capacity.per_worker() < b.capacity.per_worker();
    });
    misfit.limit = workers_wanted_ > 0 ? "workers" : "descriptors";
    misfit.message =
        absl::StrCat(wants,
                     workers_wanted_ > 0 ? absl::StrCat("its ", workers_wanted_, " workers")
                                         : absl::StrCat("the agents' workers, at most ", kMaxWorkers, " in all,"),
                     " can hold no more than ", least->capacity.per_worker(), " each on ", NameOf(*least),
                     " (limit: descriptors of one process)");
    other_remedy = absl::StrCat(workers_wanted_ > 0 ? "raise load.workers or leave it out, or " : "",
                                "start the agent with a higher hard limit of descriptors (ulimit -Hn, LimitNOFILE=)");
  }
  // In thousandths, rounded down; and as workers are whole, a little less may not fit where a little more did.
  auto thousandths = static_cast<uint64_t>(static_cast<double>(LargestFit(peak)) / static_cast<double>(peak) * 1000);
  while (thousandths > 0 && (Fit(std::max<uint64_t>(peak * thousandths / 1000, 1)).empty() ||
                             Fit(CeilDiv(peak * thousandths, 1000)).empty())) {
    --thousandths;
  }
  misfit.scale = static_cast<double>(thousandths) / 1000;
  misfit.remedy = misfit.scale > 0 ? absl::StrFormat("run it with --scale %g, or %s", misfit.scale, other_remedy)
                                   : absl::StrCat("no scale fits; ", other_remedy);
  return misfit;
}

}  // namespace

Plan MakePlan(const v1::TestSpec& test, const std::vector<std::string>& endpoints,
              const std::vector<Candidate>& on_offer) {
  const uint64_t peak = std::max<uint64_t>(plan::ConnectionProfile(test.load()).Peak(), 1);
  const std::set<std::string> distinct(endpoints.begin(), endpoints.end());
  const std::set<std::string> sources(test.load().source_addresses().begin(), test.load().source_addresses().end());
  const uint64_t address_pairs = distinct.size() * std::max<size_t>(sources.size(), 1);

  Plan plan;
  if (test.load().workers() > kMaxWorkers) {
    plan.misfit = {"workers", absl::StrCat("load.workers is ", test.load().workers(), ", the limit is ", kMaxWorkers),
                   "ask for fewer workers or leave load.workers out", 0};
    return plan;
  }
  std::vector<Candidate> candidates = on_offer;
  // Of the whole test, as each candidate may get most of it.
  const uint64_t in_flight = MostInFlight(test, 1, 1);
  for (Candidate& candidate : candidates) candidate.capacity = CapacityFor(candidate, in_flight);
  const Planner planner(test.load().workers(), address_pairs, candidates);
  const std::vector<uint32_t> dealt = planner.Fit(peak);
  if (dealt.empty()) {
    plan.misfit = planner.Explain(peak);
    return plan;
  }
  const uint32_t workers = std::accumulate(dealt.begin(), dealt.end(), 0U);
  for (size_t a = 0; a < dealt.size(); ++a) {
    if (dealt[a] == 0) continue;
    const uint64_t connections = Reserved(test, dealt[a], workers);
    plan.assignment.push_back({candidates[a].name, plan.workers_total, dealt[a],
                               NeedOf(candidates[a], connections, dealt[a], endpoints.size())});
    plan.workers_total += dealt[a];
  }
  return plan;
}

uint64_t Reserved(const v1::TestSpec& test, uint32_t workers, uint32_t workers_total) {
  if (workers == 0 || workers_total == 0) return 0;
  const uint64_t peak = plan::ConnectionProfile(test.load()).Peak();
  return SaturatingMultiply(CeilDiv(peak, workers_total), workers);
}

uint64_t MostInFlight(const v1::TestSpec& test, uint32_t workers, uint32_t workers_total) {
  const uint64_t connections = Reserved(test, workers, workers_total);
  const auto held = static_cast<double>(connections);
  uint64_t heartbeats = 0;
  if (test.load().has_heartbeat()) {
    const double every_s = Seconds(test.load().heartbeat().every());
    const double timeout_s = Seconds(test.load().heartbeat().timeout());
    heartbeats = every_s > timeout_s && timeout_s > 0 ? AtMost(held * timeout_s / every_s, connections) : connections;
  }
  if (!test.load().has_requests()) return heartbeats;
  const v1::RequestsSpec& requests = test.load().requests();
  const uint64_t places = SaturatingMultiply(connections, std::max<uint32_t>(requests.pipeline(), 1));
  uint64_t sent = places;
  if (requests.model() == v1::REQUEST_MODEL_OPEN && requests.has_timeout() && connections > 0) {
    const bool total = requests.rate_scope() != v1::RATE_SCOPE_PER_CONNECTION;
    const double rate = requests.rate_per_s() * (total ? static_cast<double>(workers) / workers_total : held);
    double due = rate * Seconds(requests.timeout());
    if (requests.arrival() == v1::ARRIVAL_POISSON) due += kPoissonDeviations * std::sqrt(due);
    if (requests.arrival() == v1::ARRIVAL_BURST && total) {
      const double burst = std::max<uint32_t>(requests.burst_requests(), 1);
      due = std::ceil(due / burst) * burst;
    }
    sent = AtMost(due, places);
  }
  return sent > UINT64_MAX - heartbeats ? UINT64_MAX : sent + heartbeats;
}

}  // namespace loadstar::server
