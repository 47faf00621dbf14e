#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/os/proc.h"

namespace loadstar::agent {

// A program that runs here and sets sysctls itself.
struct OtherTuner {
  std::string name;  // for people: "tuned (process 812, profile throughput-performance)"
  std::string off;   // a sentence: how to end that
  std::set<std::string> keys;
};

// Those of this host that are known: tuned(8). `root` is "/" but in tests.
std::vector<OtherTuner> FindOtherTuners(const std::string& root, const os::Proc& proc);

// What a tuned.conf has of it. Lines that are not understood are passed over: it is not ours to complain.
struct TunedProfile {
  std::vector<std::string> includes;  // names of profiles, in order
  std::set<std::string> keys;         // sysctls, with dots
};
TunedProfile ReadTunedProfile(std::string_view text);

}  // namespace loadstar::agent
