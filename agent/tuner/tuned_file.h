#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/tuner/host_files.h"
#include "lib/os/limits.h"

namespace loadstar::agent {

// What a profile wants of a file that it was applied to.
struct LimitLayer {
  std::string profile;
  os::DescriptorLimit limit;
};

// A write that was announced and whose end is not recorded.
struct PendingWrite {
  LimitLayer layer;
  bool releasing = false;           // because the profile goes
  std::optional<std::string> from;  // what it replaces; nullopt: no file
};

// All that is known of a file that profiles were applied to: what decision 0015 says of a key, with a file in its
// place. The file holds what fulfils the layers over the base, so that profiles go in any order and the last one leaves
// the base.
//
//   what is durable        what is done next              a crash before the next line leaves
//   nothing, or the end    -                              the file as it is recorded
//   pending                copy of the base, the file     the file with pending.from or with `set`: see Resolve
//   the end: no pending    -                              the file as it is recorded
//
// A file is replaced as a whole; what is neither pending.from nor `set` is somebody else's.
struct TunedFile {
  std::optional<HostFile> base = {};    // before any profile; nullopt: there was none
  std::optional<std::string> set = {};  // after our last write, or the pending one; as the base where none was needed
  os::DescriptorLimit floor = {};       // what counts where the file says nothing
  std::vector<LimitLayer> layers = {};  // in the order in which they were applied
  std::string backup = {};              // where a copy of the base is kept for people; empty: nowhere
  bool made_folder = false;             // the file's folder was not there
  std::string daemon = {};              // the process that ran when the file was written, and may not have read it
  std::optional<PendingWrite> pending = {};

  const LimitLayer* LayerOf(const std::string& profile) const;
  // By a layer, or by a write that is pending.
  bool IsClaimedBy(const std::string& profile) const;
  // In place of an earlier one of the profile.
  void Put(const LimitLayer& layer);
  void Drop(const std::string& profile);
  // What all layers want together; nothing when there is none.
  os::DescriptorLimit Wanted() const;
  // Whether nothing was ever written.
  bool Untouched() const;
  // Brings a pending write to the end that the file's text (nullopt: that is not there) tells of. False when there was
  // none. It stays pending where the text tells of neither.
  bool Resolve(const std::optional<std::string>& text);
};
using TunedFiles = std::map<std::string, TunedFile>;  // by path

// As it is stored: a line with a checksum, and JSON.
std::string ToText(const TunedFiles& files);
// DATA_LOSS when the text was not made by ToText, or is damaged. Empty text is no files.
absl::StatusOr<TunedFiles> ReadTunedFiles(std::string_view text);

}  // namespace loadstar::agent
