#include "agent/tuner/host_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/os/fd.h"

namespace loadstar::agent {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;

std::string FolderOf(const std::string& path) { return std::filesystem::path(path).parent_path().string(); }

absl::Status Failure(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

absl::Status MakeDurable(const std::string& folder) {
  const os::Fd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || fsync(fd.get()) != 0) return Failure("fsync", folder);
  return absl::OkStatus();
}

class RootedFiles final : public HostFiles {
 public:
  explicit RootedFiles(const std::string& root) : root_(root == "/" ? "" : root) {}

  bool Exists(const std::string& path) override { return access(OnDisk(path).c_str(), F_OK) == 0; }

  absl::StatusOr<HostFile> Read(const std::string& path) override {
    const absl::StatusOr<os::FileAccess> access = Look(path);
    if (!access.ok()) return access.status();
    absl::StatusOr<std::string> text = os::ReadFile(OnDisk(path), kMostBytes);
    if (!text.ok()) return text.status();
    return HostFile{.text = *std::move(text), .access = *access};
  }

  absl::Status Write(const std::string& path, const HostFile& file) override {
    const absl::StatusOr<os::FileAccess> there = Look(path);
    if (!there.ok() && !absl::IsNotFound(there.status())) return there.status();
    return os::WriteFileAtomically(OnDisk(path), file.text, file.access);
  }

  absl::Status Remove(const std::string& path) override {
    Tidy(path);
    const absl::StatusOr<os::FileAccess> there = Look(path);
    if (absl::IsNotFound(there.status())) return absl::OkStatus();
    if (!there.ok()) return there.status();
    if (unlink(OnDisk(path).c_str()) != 0) return Failure("remove", path);
    return MakeDurable(FolderOf(OnDisk(path)));
  }

  void Tidy(const std::string& path) override { os::RemoveUnfinished(OnDisk(path)); }

  absl::Status MakeFolder(const std::string& path) override {
    if (mkdir(OnDisk(path).c_str(), 0755) != 0) {
      return errno == EEXIST ? absl::OkStatus() : Failure("make the folder", path);
    }
    return MakeDurable(FolderOf(OnDisk(path)));
  }

  absl::Status RemoveFolder(const std::string& path) override {
    if (rmdir(OnDisk(path).c_str()) == 0) return MakeDurable(FolderOf(OnDisk(path)));
    const bool fine = errno == ENOTEMPTY || errno == EEXIST || errno == ENOENT || errno == ENOTDIR;
    return fine ? absl::OkStatus() : Failure("remove the folder", path);
  }

  std::string OnDisk(const std::string& path) const override { return absl::StrCat(root_, path); }

 private:
  absl::StatusOr<os::FileAccess> Look(const std::string& path) const {
    struct stat info {};
    if (lstat(OnDisk(path).c_str(), &info) != 0) return Failure("look at", path);
    if (S_ISLNK(info.st_mode)) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, " is a symbolic link: whoever made it manages that file elsewhere, and it is left alone"));
    }
    if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError(absl::StrCat(path, " is no file"));
    return os::FileAccess{.mode = info.st_mode & 07777, .user = info.st_uid, .group = info.st_gid};
  }

  const std::string root_;
};

}  // namespace

std::unique_ptr<HostFiles> MakeHostFiles(const std::string& root) { return std::make_unique<RootedFiles>(root); }

}  // namespace loadstar::agent
