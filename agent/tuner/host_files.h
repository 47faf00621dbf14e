#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "lib/os/files.h"

namespace loadstar::agent {

struct HostFile {
  std::string text;
  os::FileAccess access;
};

// Configuration of this host's by absolute path. What returns OK is durable. Symbolic links are not written through and
// not replaced: who put one there manages the file elsewhere. Faked in tests. Owned by the thread that tunes.
class HostFiles {
 public:
  virtual ~HostFiles() = default;
  // Whether anything is there, a folder or the end of a link included.
  virtual bool Exists(const std::string& path) = 0;
  // NOT_FOUND; FAILED_PRECONDITION: a link, or no file; RESOURCE_EXHAUSTED: larger than a mebibyte.
  virtual absl::StatusOr<HostFile> Read(const std::string& path) = 0;
  // The old text or the new one, whatever happens. Errors as above.
  virtual absl::Status Write(const std::string& path, const HostFile& file) = 0;
  // OK when there is none. Takes what an interrupted Write of the path left beside it, too.
  virtual absl::Status Remove(const std::string& path) = 0;
  // Takes only what an interrupted Write of the path left beside it.
  virtual void Tidy(const std::string& path) = 0;
  // The last part of the path; OK when it is there.
  virtual absl::Status MakeFolder(const std::string& path) = 0;
  // OK, and nothing done, when there is something in it, or no folder.
  virtual absl::Status RemoveFolder(const std::string& path) = 0;
  // The path as other programs find it.
  virtual std::string OnDisk(const std::string& path) const = 0;
};

// Below `root`, "/" but in tests.
std::unique_ptr<HostFiles> MakeHostFiles(const std::string& root = "/");

}  // namespace loadstar::agent
