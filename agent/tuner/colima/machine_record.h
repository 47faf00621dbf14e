// What Loadstar keeps in the folder of a machine's colima.yaml, so that it goes with the machine: which profiles are
// applied to it and how its configuration was left (loadstar.record), the journal of the settings inside
// (loadstar.journal, see journal.h), and the configuration as it was before (colima.yaml.before-loadstar).
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/os/fd.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

std::string RecordOf(const std::string& folder);
std::string JournalOf(const std::string& folder);
// Beside the file itself, which the folder may only have a link to.
std::string OriginalOf(const std::string& config_path);

// Written before what it tells of is done, so that it never says less than what is.
struct MachineRecord {
  struct Entry {
    v1::TuningProfile profile = {};
    // The boot of the machine that it was applied in while the machine ran; empty when it was applied by a start. In
    // every other boot the configuration made the settings.
    std::string applied_in = {};
    bool configured = true;  // colima.yaml has it in it
    // Those of its modules that the configuration loads at each boot: decided by who applied it, so that what another
    // program may do changes nothing of what is configured.
    std::set<std::string> modules = {};

    bool operator==(const Entry& other) const;
  };
  std::vector<Entry> entries;  // in the order in which they were applied
  bool created = false;        // there was no machine before the first of them
  bool had_config = false;     // there was a colima.yaml before the first of them
  std::string left;            // colima.yaml as it was left; empty when nothing of it is ours
  // What `left` was written over. A crash between the record and the file leaves that, and not an edit of the user's.
  std::string earlier;

  const Entry* Find(const std::string& profile) const;
  // Of all that the configuration has in it: "a, b".
  std::string Names() const;
  // Which of the two texts a configuration is, or else was made of: see `earlier`.
  const std::string& LeftAs(const std::string& config) const;
  // All that the configuration has to have in it, as one profile. What an earlier one contradicts is left out, and so
  // are modules that are loaded for none of them.
  v1::TuningProfile Together() const;
  bool operator==(const MachineRecord&) const = default;
};

// Pure. FAILED_PRECONDITION: the text is no record, or has a profile that is not sound. What it has in it becomes a
// script that root runs and arguments of programs, and the file may have been written by anybody.
absl::StatusOr<MachineRecord> ParseRecord(std::string_view text);
std::string ToText(const MachineRecord& record);

// An empty one when there is none. Errors name the file and what to do.
absl::StatusOr<MachineRecord> ReadRecord(const std::string& folder);
// The file is removed when there is nothing to be kept.
absl::Status WriteRecord(const std::string& folder, const MachineRecord& record);

// Takes a machine's folder for this process, for as long as the descriptor lives, so that an agent
// and loadstar-colima are never at work on the same machine at once. FAILED_PRECONDITION names who has it; NOT_FOUND
// when there is no such folder. Leaves nothing in it.
absl::StatusOr<os::Fd> LockMachine(const std::string& folder);

}  // namespace loadstar::agent
