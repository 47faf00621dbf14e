#include "lib/plan/profile.h"

#include <algorithm>
#include <iterator>
#include <limits>

namespace loadstar::plan {
namespace {

// 10^8 connections times 31 days in nanoseconds needs 78 bits.
__extension__ typedef unsigned __int128 Wide;

constexpr int64_t kNsPerSecond = 1'000'000'000;

int64_t ToNs(const google::protobuf::Duration& duration) {
  if (duration.seconds() < 0 || duration.nanos() < 0) return 0;
  if (duration.seconds() >= std::numeric_limits<int64_t>::max() / kNsPerSecond) {
    return std::numeric_limits<int64_t>::max();
  }
  return duration.seconds() * kNsPerSecond + duration.nanos();
}

int64_t SaturatingAdd(int64_t left, int64_t right) {
  const int64_t room = std::numeric_limits<int64_t>::max() - left;
  return right > room ? std::numeric_limits<int64_t>::max() : left + right;
}

}  // namespace

uint64_t ConnectionProfile::Line::At(int64_t elapsed_ns) const {
  if (elapsed_ns >= end_ns) return to;
  const Wide length = static_cast<Wide>(end_ns - begin_ns);
  const Wide passed = static_cast<Wide>(elapsed_ns - begin_ns);
  if (to >= from) return from + static_cast<uint64_t>((to - from) * passed / length);
  return from - static_cast<uint64_t>(((from - to) * passed + length - 1) / length);
}

int64_t ConnectionProfile::Line::FirstOther(uint64_t value, int64_t first_ns, int64_t last_ns) const {
  if (first_ns > last_ns) return -1;
  if (At(first_ns) != value) return first_ns;
  if (from == to || first_ns >= end_ns) return -1;
  const Wide length = static_cast<Wide>(end_ns - begin_ns);
  Wide offset;
  if (to > from) {
    if (value >= to) return -1;
    const Wide rise = to - from;
    offset = ((value + 1 - from) * length + rise - 1) / rise;  // least x with from + rise * x / length >= value + 1
  } else {
    if (value <= to) return -1;
    offset = (from - value) * length / (from - to) + 1;  // least x at which the line is below value
    offset = std::min(offset, length);                   // the line's own end is exact
  }
  const int64_t at = begin_ns + static_cast<int64_t>(offset);
  return at <= last_ns ? at : -1;
}

ConnectionProfile::ConnectionProfile(const v1::LoadSpec& load) {
  uint64_t from = 0;
  for (const v1::Stage& stage : load.connections()) {
    const int64_t duration_ns = ToNs(stage.duration());
    if (duration_ns > 0) {
      const int64_t begin_ns = end_ns_;
      end_ns_ = SaturatingAdd(end_ns_, duration_ns);
      if (end_ns_ > begin_ns) lines_.push_back({begin_ns, end_ns_, from, stage.to_connections()});
    }
    from = stage.to_connections();
    stage_ends_ns_.push_back(end_ns_);
  }
}

int64_t ConnectionProfile::LastOf(size_t index) const {
  return index + 1 < lines_.size() ? lines_[index + 1].begin_ns - 1 : end_ns_;
}

size_t ConnectionProfile::LineAt(int64_t elapsed_ns) const {
  const auto next = std::upper_bound(lines_.begin(), lines_.end(), elapsed_ns,
                                     [](int64_t at, const Line& line) { return at < line.begin_ns; });
  return static_cast<size_t>(std::distance(lines_.begin(), next)) - 1;
}

uint64_t ConnectionProfile::TargetAt(int64_t elapsed_ns) const {
  if (elapsed_ns < 0 || elapsed_ns > end_ns_ || lines_.empty()) return 0;
  return lines_[LineAt(elapsed_ns)].At(elapsed_ns);
}

int64_t ConnectionProfile::NextChange(int64_t after_ns) const {
  if (lines_.empty() || after_ns >= end_ns_) return -1;
  const uint64_t value = TargetAt(after_ns);
  const int64_t first_ns = after_ns < 0 ? 0 : after_ns + 1;
  for (size_t i = LineAt(first_ns); i < lines_.size(); ++i) {
    const int64_t found = lines_[i].FirstOther(value, std::max(first_ns, lines_[i].begin_ns), LastOf(i));
    if (found >= 0) return found;
  }
  return -1;
}

uint64_t ConnectionProfile::Peak() const {
  uint64_t peak = 0;
  for (size_t i = 0; i < lines_.size(); ++i) {
    peak = std::max({peak, lines_[i].At(lines_[i].begin_ns), lines_[i].At(LastOf(i))});
  }
  return peak;
}

uint32_t ConnectionProfile::StageAt(int64_t elapsed_ns) const {
  if (stage_ends_ns_.empty()) return 0;
  const auto stage = std::upper_bound(stage_ends_ns_.begin(), stage_ends_ns_.end(), elapsed_ns);
  const auto index = std::distance(stage_ends_ns_.begin(), stage);
  return static_cast<uint32_t>(std::min<size_t>(static_cast<size_t>(index), stage_ends_ns_.size() - 1));
}

void ConnectionProfile::Update(int64_t at_ns, const v1::LoadUpdate& update) {
  if (!update.has_connections() || lines_.empty() || at_ns >= end_ns_) return;
  at_ns = std::max<int64_t>(at_ns, 0);
  const uint64_t from = TargetAt(at_ns);
  const uint64_t to = update.connections();
  const int64_t ramp_end_ns = SaturatingAdd(at_ns, ToNs(update.ramp()));
  std::erase_if(lines_, [at_ns](const Line& line) { return line.begin_ns >= at_ns; });
  if (ramp_end_ns > at_ns) lines_.push_back({at_ns, ramp_end_ns, from, to});
  if (ramp_end_ns < end_ns_) lines_.push_back({ramp_end_ns, end_ns_, to, to});
}

}  // namespace loadstar::plan
