#include "agent/tuner/wish.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/os/proc.h"

namespace loadstar::agent {
namespace {

using Numbers = std::vector<uint64_t>;
using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;

std::string ToText(const Numbers& numbers) {
  std::string text;
  for (const uint64_t number : numbers) absl::StrAppend(&text, text.empty() ? "" : "\t", number);
  return text;
}

std::string ToText(const Ranges& ranges) {
  std::string text;
  for (const auto& [first, last] : ranges) {
    absl::StrAppend(&text, text.empty() ? "" : ",", first);
    if (last != first) absl::StrAppend(&text, "-", last);
  }
  return text;
}

Ranges RangesOf(const Numbers& pairs) {
  Ranges ranges;
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
    ranges.emplace_back(static_cast<uint32_t>(pairs[i]), static_cast<uint32_t>(pairs[i + 1]));
  }
  return ranges;
}

// In order, with those that overlap or touch made one, as the kernel shows them.
Ranges Joined(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end());
  Ranges joined;
  for (const auto& [first, last] : ranges) {
    if (joined.empty() || first > joined.back().second + 1) {
      joined.emplace_back(first, last);
    } else {
      joined.back().second = std::max(joined.back().second, last);
    }
  }
  return joined;
}

std::optional<std::string> Include(std::string_view base, const Wish& wish) {
  const std::optional<Ranges> now = os::ParsePortList(base);
  if (!now.has_value()) return std::nullopt;
  Ranges both = *now;
  const Ranges wanted = RangesOf(wish.values);
  both.insert(both.end(), wanted.begin(), wanted.end());
  both = Joined(std::move(both));
  return both == Joined(*now) ? std::string(base) : ToText(both);
}

Numbers Raise(Numbers now, const Wish& wish) {
  switch (wish.policy) {
    case v1::SYSCTL_POLICY_EXACTLY:
      return wish.values;
    case v1::SYSCTL_POLICY_COVERS:
      return {std::min(now[0], wish.values[0]), std::max(now[1], wish.values[1])};
    default:
      for (size_t i = 0; i < now.size(); ++i) now[i] = std::max(now[i], wish.values[i]);
      return now;
  }
}

}  // namespace

Wish WishOf(const v1::SysctlSetting& setting) {
  return {.values = {setting.values().begin(), setting.values().end()},
          .policy = setting.policy() == v1::SYSCTL_POLICY_UNSPECIFIED ? v1::SYSCTL_POLICY_AT_LEAST : setting.policy()};
}

std::optional<std::string> Fulfil(std::string_view base, const std::vector<Wish>& wishes) {
  std::string text(base);
  // What is wanted exactly comes first, so that the others are measured by it whatever their order.
  for (const bool exactly : {true, false}) {
    for (const Wish& wish : wishes) {
      if ((wish.policy == v1::SYSCTL_POLICY_EXACTLY) != exactly) continue;
      if (wish.policy == v1::SYSCTL_POLICY_INCLUDES) {
        std::optional<std::string> included = Include(text, wish);
        if (!included.has_value()) return std::nullopt;
        text = *std::move(included);
        continue;
      }
      const std::optional<Numbers> now = os::ParseNumbers(text);
      if (!now.has_value() || now->size() != wish.values.size()) return std::nullopt;
      if (Numbers raised = Raise(*now, wish); raised != *now) text = ToText(raised);
    }
  }
  return text;
}

bool SameValue(std::string_view one, std::string_view other) {
  if (one == other) return true;
  const std::optional<Numbers> numbers = os::ParseNumbers(one);
  return numbers.has_value() && numbers == os::ParseNumbers(other);
}

bool Contradict(const Wish& one, const Wish& other) {
  const auto exactly = [](const Wish& wish) { return wish.policy == v1::SYSCTL_POLICY_EXACTLY; };
  if (!exactly(one) && !exactly(other)) {
    const bool list = one.policy == v1::SYSCTL_POLICY_INCLUDES;
    return one.policy != other.policy || (!list && one.values.size() != other.values.size());
  }
  const Wish& fixed = exactly(one) ? one : other;
  const Wish& free = exactly(one) ? other : one;
  return Fulfil(ToText(fixed.values), {free}) != ToText(fixed.values);
}

bool Lowers(std::string_view before, std::string_view after, spec::SysctlKind kind) {
  if (kind == spec::SysctlKind::kChoice) return false;
  if (kind == spec::SysctlKind::kPorts) {
    const std::optional<Ranges> had = os::ParsePortList(before);
    const std::optional<Ranges> has = os::ParsePortList(after);
    if (!had.has_value() || !has.has_value()) return false;
    Ranges both = *had;
    both.insert(both.end(), has->begin(), has->end());
    return Joined(both) != Joined(*has);
  }
  const std::optional<Numbers> had = os::ParseNumbers(before);
  const std::optional<Numbers> has = os::ParseNumbers(after);
  if (!had.has_value() || !has.has_value() || had->size() != has->size()) return false;
  for (size_t i = 0; i < had->size(); ++i) {
    const bool begins = kind == spec::SysctlKind::kRange && i == 0;
    if (begins ? (*has)[i] > (*had)[i] : (*has)[i] < (*had)[i]) return true;
  }
  return false;
}

}  // namespace loadstar::agent
