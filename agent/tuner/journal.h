#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/tuner/wish.h"

namespace loadstar::agent {

// One line of the journal: a step that is about to be made, or what became of the one before it on that key.
struct JournalRecord {
  enum class Kind : uint8_t {
    kApplying,   // `to` is about to be written over `from`, for `profile`, whose wish it is
    kApplied,    // it was, and reads back as `to`
    kFound,      // it reads back as `to`, which is not what was written: `from` is about to be written again
    kDropped,    // the step came to nothing: the key is as it was before it
    kJoined,     // `profile` wants what the key already holds (`to`), with or without us
    kReleasing,  // `to` is about to be written over `from`, because `profile` goes
    kReleased,   // `profile` has no claim any more; the key reads back as `to`
    kDoubted,    // a line about the key is damaged or missing: what it holds can no longer be told to be ours
  };
  Kind kind = Kind::kApplying;
  std::string profile = {};  // all but kDoubted
  std::string key = {};
  std::string era = {};   // see Era
  Wish wish = {};         // kApplying, kJoined
  std::string base = {};  // kApplying, kJoined: what the key held before any profile
  std::string from = {};  // kApplying, kReleasing
  std::string to = {};    // all but kDropped and kDoubted

  bool operator==(const JournalRecord&) const = default;
};

// How long a setting lasts, as text that is never the same twice: one of the host until it is booted again, one of a
// network namespace until that is gone as well. What was set in another era is not there any more.
struct Era {
  std::string of_host;
  std::string of_network_namespace;

  const std::string& Of(v1::SysctlScope scope) const {
    return scope == v1::SYSCTL_SCOPE_NETWORK_NAMESPACE ? of_network_namespace : of_host;
  }
};

// What a profile wants of a key that it was applied to.
struct Layer {
  std::string profile;
  Wish wish;

  bool operator==(const Layer&) const = default;
};

// A step that was begun and whose end is not known.
struct Pending {
  bool releasing = false;
  Layer layer;
  std::string base;
  std::string from;
  std::string to;
  std::optional<std::string> found;  // what the kernel made of `to`

  bool operator==(const Pending&) const = default;
};

// All that is known of a key that a profile was applied to.
//
//   event        from             to
//   kApplying    any              pending
//   kApplied     pending          the layer is on, `set` is what was written
//   kFound       pending          pending, with what the kernel made of it
//   kDropped     pending          as before kApplying or kReleasing; the key is forgotten when no layer is on
//   kJoined      any but pending  one layer more
//   kReleasing   a layer is on    pending
//   kReleased    pending          one less; the key is forgotten when no layer is left
//   kDoubted     any              the same, doubted until it is released
//
// The first event of another era begins anew.
struct TunedKey {
  std::string era;
  std::string base;           // before any profile
  std::string set;            // what it read as after our last write; equal to base where none was needed
  std::vector<Layer> layers;  // in the order in which they were applied
  std::optional<Pending> pending;
  bool doubted = false;
  uint64_t order = 0;  // of the first step on it

  bool IsClaimedBy(const std::string& profile) const;
  bool operator==(const TunedKey&) const = default;
};
using TunedKeys = std::map<std::string, TunedKey>;
// The keys' names, the one that was tuned first in front.
std::vector<std::string> InOrder(const TunedKeys& keys);

// Applies one record. False when it does not fit what is known: then nothing is changed.
bool Follow(const JournalRecord& record, uint64_t order, TunedKeys* keys);

// A line as it is stored: checksum, sequence number and record. Texts must be UTF-8.
std::string ToLine(const JournalRecord& record, uint64_t sequence);

// What a journal's text says.
struct Replayed {
  TunedKeys keys;  // of this era
  uint64_t last_sequence = 0;
  // Lines that are damaged, missing or do not fit what is before them, in words, with their numbers. They were left
  // out, and the keys that they are known to be about are doubted.
  std::vector<std::string> problems;
  // The last line was cut off by a crash or a full disk, which is no problem: what it announced was not begun.
  bool torn_end = false;
};
Replayed Replay(std::string_view text, const Era& era);

// The shortest journal that says the same. Numbers its lines from *sequence + 1 on.
std::string Compacted(const TunedKeys& keys, uint64_t* sequence);

// Where a journal is kept. Owned by the thread that tunes.
class JournalStore {
 public:
  virtual ~JournalStore() = default;
  // Empty when there is none yet.
  virtual absl::StatusOr<std::string> Load() = 0;
  // Durable when it returns OK. After an error nothing of it counts: either nothing of it is there, or nothing can be
  // appended until the journal was loaded again.
  virtual absl::Status Append(std::string_view line) = 0;
  // The old text or the new one, whatever happens; durable when it returns OK. After an error nothing can be appended
  // until the journal was loaded again.
  virtual absl::Status Replace(std::string_view text) = 0;
  // Keeps a copy of a damaged journal's text for whoever looks into it. Returns where.
  virtual absl::StatusOr<std::string> KeepDamaged(std::string_view text) = 0;
};

// A file in a folder that is there; damaged texts go to PATH.damaged.
std::unique_ptr<JournalStore> MakeJournalFile(std::string path);

// That of a tuner which only looks: it is empty, and nothing can be written to it.
std::unique_ptr<JournalStore> MakeNoJournal();

}  // namespace loadstar::agent
