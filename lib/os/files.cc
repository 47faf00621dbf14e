#include "lib/os/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace loadstar::os {
namespace {

absl::Status Failure(std::string_view what, std::string_view path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", absl::string_view(what.data(), what.size()), " ",
                                                 absl::string_view(path.data(), path.size())));
}

absl::Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return Failure("write", path);
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::string TemporaryOf(const std::string& path) { return absl::StrCat(path, ".tmp"); }

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Failure("open", path);
  std::string content;
  // Files of /proc have no size: read until the end.
  for (;;) {
    const size_t before = content.size();
    content.resize(before + 16'384);
    const ssize_t got = read(fd.get(), content.data() + before, 16'384);
    if (got < 0) {
      if (errno == EINTR) {
        content.resize(before);
        continue;
      }
      return Failure("read", path);
    }
    content.resize(before + static_cast<size_t>(got));
    if (got == 0) return content;
    if (content.size() > max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(path, " is larger than ", max_bytes, " bytes"));
    }
  }
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view content,
                                 const std::optional<FileAccess>& access) {
  const std::string temporary = TemporaryOf(path);
  Fd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, access.has_value() ? 0600 : 0644));
  if (!fd) return Failure("create", temporary);
  absl::Status status;
  // The owner first: changing it takes bits of the mode away.
  if (access.has_value() &&
      (fchown(fd.get(), access->user, access->group) != 0 || fchmod(fd.get(), access->mode) != 0)) {
    status = Failure("give its owner and mode to", temporary);
  }
  if (status.ok()) status = WriteAll(fd.get(), content, temporary);
  if (status.ok() && fsync(fd.get()) != 0) status = Failure("fsync", temporary);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) status = Failure("rename onto", path);
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  Fd folder(open(FolderOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || fsync(folder.get()) != 0) return Failure("fsync the folder of", path);
  return absl::OkStatus();
}

void RemoveUnfinished(const std::string& path) { unlink(TemporaryOf(path).c_str()); }

absl::Status MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot create the folder ", path));
  return absl::OkStatus();
}

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot remove ", path));
  return absl::OkStatus();
}

absl::StatusOr<Fd> LockFolder(const std::string& path) {
  if (absl::Status status = MakeFolders(path); !status.ok()) return status;
  const std::string file = absl::StrCat(path, "/lock");
  Fd fd(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) return Failure("open", file);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Failure("lock", file);
    const absl::StatusOr<std::string> holder = ReadFile(file, 64);
    return absl::FailedPreconditionError(absl::StrCat("the state folder ", path, " is in use by ",
                                                      holder.ok() && !holder->empty()
                                                          ? absl::StrCat("process ", absl::StripSuffix(*holder, "\n"))
                                                          : std::string("another process"),
                                                      "; stop it or give another folder"));
  }
  if (ftruncate(fd.get(), 0) != 0) return Failure("truncate", file);
  if (absl::Status status = WriteAll(fd.get(), absl::StrCat(getpid(), "\n"), file); !status.ok()) return status;
  return fd;
}

absl::StatusOr<Fd> OpenForAppend(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) return Failure("open", path);
  return fd;
}

absl::Status AppendDurably(const Fd& file, const std::string& path, std::string_view content) {
  const off_t end = lseek(file.get(), 0, SEEK_END);
  if (end < 0) return Failure("find the end of", path);
  absl::Status status = WriteAll(file.get(), content, path);
  if (status.ok() && fdatasync(file.get()) != 0) status = Failure("make durable", path);
  if (!status.ok()) (void)ftruncate(file.get(), end);
  return status;
}

absl::Status RotateByCopy(const std::string& path, uint64_t max_bytes, int keep) {
  Fd from(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!from) return errno == ENOENT ? absl::OkStatus() : Failure("open", path);
  struct stat info {};
  if (fstat(from.get(), &info) != 0) return Failure("stat", path);
  if (static_cast<uint64_t>(info.st_size) <= max_bytes) return absl::OkStatus();
  absl::Status status;
  if (keep > 0) {
    for (int i = keep; i > 1; --i) {
      rename(absl::StrCat(path, ".", i - 1).c_str(), absl::StrCat(path, ".", i).c_str());
    }
    const std::string old = absl::StrCat(path, ".1");
    Fd to(open(old.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!to) status = Failure("create", old);
    off_t offset = info.st_size - static_cast<off_t>(max_bytes);
    while (status.ok() && offset < info.st_size) {
      const ssize_t copied = sendfile(to.get(), from.get(), &offset, static_cast<size_t>(info.st_size - offset));
      if (copied < 0 && errno != EINTR) status = Failure("copy to", old);
      if (copied == 0) break;
    }
  }
  // Cut even when the copy failed (a full disk): the bound is what this is for.
  if (ftruncate(from.get(), 0) != 0) return Failure("truncate", path);
  return status;
}

std::string TailOfFile(const std::string& path, size_t max_lines, size_t max_bytes) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd || fstat(fd.get(), &info) != 0) return "";
  const off_t start = std::max<off_t>(0, info.st_size - static_cast<off_t>(max_bytes));
  std::string tail(static_cast<size_t>(info.st_size - start), '\0');
  const ssize_t got = pread(fd.get(), tail.data(), tail.size(), start);
  tail.resize(static_cast<size_t>(std::max<ssize_t>(0, got)));
  while (!tail.empty() && (tail.back() == '\n' || tail.back() == '\r')) tail.pop_back();
  size_t cut = tail.size();
  for (size_t lines = 0; lines < max_lines && cut != std::string::npos && cut > 0; ++lines) {
    cut = tail.rfind('\n', cut - 1);
  }
  if (cut != std::string::npos && cut < tail.size()) tail.erase(0, tail[cut] == '\n' ? cut + 1 : 0);
  return tail;
}

}  // namespace loadstar::os
