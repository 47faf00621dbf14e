#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/core/agent_core.h"
#include "lib/os/fd.h"

namespace loadstar::agent {

// Reports that wait for a coordinator out of reach, in one append-only file of length-prefixed messages. A new instance
// of the agent numbers its reports anew and has no claim on older ones: an earlier file is emptied at the start, and
// nothing is synced (the reports live as long as the agent does). Space is given back when reports are trimmed. Used by
// the core's thread alone.
class FileSpill final : public ReportSpill {
 public:
  static constexpr uint64_t kMaxBytes = 4ull << 30;

  static absl::StatusOr<std::unique_ptr<FileSpill>> Create(const std::string& path, uint64_t max_bytes = kMaxBytes);

  // RESOURCE_EXHAUSTED past the bound, or what the disk says; nothing is kept of the report then.
  absl::Status Append(const v1::Report& report) override;
  std::vector<v1::Report> Read(uint64_t after, size_t limit) override;
  void Trim(uint64_t through) override;

 private:
  struct Entry {
    uint64_t sequence;
    uint64_t offset;
  };

  FileSpill(std::string path, uint64_t max_bytes, os::Fd fd);

  const std::string path_;
  const uint64_t max_bytes_;
  const os::Fd fd_;
  std::deque<Entry> index_;  // every kIndexEvery-th record, and the first that is still wanted
  uint64_t records_ = 0;     // since the file was last empty
  uint64_t end_ = 0;         // bytes in the file
  uint64_t last_ = 0;        // sequence of the last record
  uint64_t trimmed_ = 0;     // acknowledged through here
};

}  // namespace loadstar::agent
