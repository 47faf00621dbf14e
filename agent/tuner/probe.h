#pragma once

#include <string>
#include <string_view>

namespace loadstar::agent {

// Whether a setting does what it is there for, tried out: a value that reads as it should need not be the one that
// counts.
struct Probe {
  enum class Outcome : uint8_t {
    kWorks,
    kFails,
    kNotTried,  // what it does shows only under load, or it cannot be tried here
  };
  Outcome outcome = Outcome::kNotTried;
  // What was tried and what came of it, for people.
  std::string what;
};

// Tries the key's value (as the kernel shows it) in the calling process and its network namespace: at most 256 sockets
// on loopback without a peer and 4,096 files, all closed on return. Nothing is sent and no setting is changed. Blocks
// for no longer than that takes.
Probe TryOut(std::string_view key, std::string_view value);

}  // namespace loadstar::agent
