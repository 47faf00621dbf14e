#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/os/fd.h"

namespace loadstar::os {

// The whole file. NOT_FOUND when it is missing, RESOURCE_EXHAUSTED when it is larger than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes = 16u << 20);

// Whose a file is and who may do what with it.
struct FileAccess {
  mode_t mode = 0644;
  uid_t user = static_cast<uid_t>(-1);  // -1: the caller's
  gid_t group = static_cast<gid_t>(-1);
};

// Replaces a file so that a crash at any moment leaves the old or the new content, durably: temporary file (PATH.tmp)
// beside it, fsync, rename, fsync of the folder. On failure the old content stands, or (where only the folder could not
// be made durable) one of the two. `access`: of the new file, before there is anything in it; without, it is the
// caller's and may be read by all, as far as the umask lets them.
absl::Status WriteFileAtomically(const std::string& path, std::string_view content,
                                 const std::optional<FileAccess>& access = std::nullopt);
// Removes the temporary file that a crash in WriteFileAtomically left. Only for who alone may write `path` now.
void RemoveUnfinished(const std::string& path);

// Creates a folder and those above it; OK when it is there.
absl::Status MakeFolders(const std::string& path);
// Removes a file or a whole folder; OK when it is not there.
absl::Status RemoveTree(const std::string& path);

// Takes the folder (created when missing) for this process: an flock on PATH/lock for as long as the descriptor lives.
// FAILED_PRECONDITION names the process that has it.
absl::StatusOr<Fd> LockFolder(const std::string& path);

// Opens for appending, created when missing, close-on-exec.
absl::StatusOr<Fd> OpenForAppend(const std::string& path);
// Appends to such a file; durable when it returns OK. After an error the file is as long as it was, unless the disk
// refuses even that. `path` is for the error.
absl::Status AppendDurably(const Fd& file, const std::string& path, std::string_view content);

// Bounds a log that another process keeps appending to (O_APPEND): past `max_bytes` its last `max_bytes` are copied to
// PATH.1 (PATH.1 to PATH.2 and so on, `keep` old ones) and it is cut to nothing. What is written between the copy and
// the cut is lost: the price of a writer that knows nothing of it. OK when there is nothing to do.
absl::Status RotateByCopy(const std::string& path, uint64_t max_bytes, int keep);

// The last lines of a file, at most `max_lines` and `max_bytes`; empty when it cannot be read.
std::string TailOfFile(const std::string& path, size_t max_lines, size_t max_bytes);

}  // namespace loadstar::os
