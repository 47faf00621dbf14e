#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "lib/spec/complete.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

MaybeFlaw ReadConnections(const std::string& value, v1::LoadUpdate* update) {
  uint64_t connections = 0;
  if (MaybeFlaw flaw = ReadCount(value, &connections)) return flaw;
  if (connections > kMaxConnections) {
    return Flaw{Cat(FormatCount(connections), " connections are absurd"),
                Cat("At most ", FormatCount(kMaxConnections), " are possible")};
  }
  update->set_connections(connections);
  return std::nullopt;
}

MaybeFlaw ReadRamp(const std::string& value, v1::LoadUpdate* update) {
  absl::Duration ramp;
  if (MaybeFlaw flaw = ReadDuration(value, &ramp)) return flaw;
  if (ramp > kMaxRunTime)
    return Flaw{Cat(spec::FormatDuration(ramp), " is too long"),
                Cat("At most ", spec::FormatDuration(kMaxRunTime), " is allowed")};
  ToProto(ramp, update->mutable_ramp());
  return std::nullopt;
}

MaybeFlaw ReadNewRate(const std::string& value, v1::LoadUpdate* update) {
  if (value.find(' ') != std::string::npos) {
    return Flaw{Cat(Quoted(value), " says more than a rate"),
                "Whether it is per connection or total stays as in the test: write it such as 20k/s"};
  }
  double per_s = 0;
  if (MaybeFlaw flaw = ReadRate(value, &per_s)) return flaw;
  if (per_s <= 0 || per_s > kMaxRequestsPerSecond) {
    return Flaw{Cat("a rate of ", FormatRate(per_s), " is out of bounds"),
                Cat("Above zero and at most ", FormatRate(kMaxRequestsPerSecond), " is possible")};
  }
  update->set_rate_per_s(per_s);
  return std::nullopt;
}

}  // namespace

absl::StatusOr<v1::LoadUpdate> ParseLoadUpdate(const std::vector<Override>& changes) {
  v1::LoadUpdate update;
  std::set<std::string> seen;
  if (changes.empty()) {
    return absl::InvalidArgumentError("there is nothing to change. Write --set connections=50k, ramp=1m or rate=20k/s");
  }
  for (const Override& change : changes) {
    MaybeFlaw flaw;
    if (!seen.insert(change.path).second) {
      flaw = Flaw{"it is there twice", "Keep one of them"};
    } else if (change.path == "connections") {
      flaw = ReadConnections(change.value, &update);
    } else if (change.path == "ramp") {
      flaw = ReadRamp(change.value, &update);
    } else if (change.path == "rate") {
      flaw = ReadNewRate(change.value, &update);
    } else {
      const std::string nearest = Nearest(change.path, {"connections", "ramp", "rate"});
      flaw = Flaw{"a running test has no such setting",
                  nearest.empty() ? "Known: connections, ramp, rate" : Cat("Did you mean \"", nearest, "\"?")};
    }
    if (flaw) {
      return absl::InvalidArgumentError(
          Cat("--set ", change.path.substr(0, 256), ": ", flaw->message, ". ", flaw->remedy));
    }
  }
  if (update.has_ramp() && !update.has_connections()) {
    return absl::InvalidArgumentError(
        "--set ramp: there is no new number of connections to ramp to. Add --set connections=COUNT");
  }
  return update;
}

}  // namespace loadstar::spec
