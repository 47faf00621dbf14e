#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/tree.h"

namespace loadstar::spec {
namespace {

constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxListed = 10'000;

std::string ReasonOf(int error) { return std::generic_category().message(error); }

// Documents in the same folder whose names are near, for a path that is not there.
std::string NearNames(const std::string& path) {
  const std::filesystem::path wanted(path);
  std::error_code error;
  std::filesystem::path folder = wanted.parent_path();
  if (folder.empty()) folder = ".";
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator entry(folder, error), end;
       !error && entry != end && names.size() < kMaxListed; entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (IsText(name)) names.push_back(std::move(name));
  }
  if (error) return Cat("There is no folder ", folder.string());
  std::sort(names.begin(), names.end());
  const std::string nearest = Nearest(wanted.filename().string(), names);
  if (nearest.empty()) return "Check the path";
  return Cat("Did you mean ", (wanted.parent_path() / nearest).string(), "?");
}

}  // namespace

absl::StatusOr<v1::Document> ReadDocument(const std::string& path) {
  if (path.empty() || path.size() > kMaxPath || path.find('\0') != std::string::npos || !IsText(path)) {
    return absl::InvalidArgumentError("the path of the document is empty, too long or no text");
  }
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (file < 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      return absl::NotFoundError(Cat(path, ": there is no such file. ", NearNames(path)));
    }
    return absl::InvalidArgumentError(Cat(path, ": cannot be opened: ", ReasonOf(error)));
  }
  const absl::Cleanup close_file = [file] { close(file); };
  struct stat info {};
  if (fstat(file, &info) != 0) {
    return absl::InvalidArgumentError(Cat(path, ": cannot be examined: ", ReasonOf(errno)));
  }
  if (S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(Cat(path, ": is a directory. Give the path of a YAML file in it"));
  }
  const auto too_large = [&path](std::string_view size) {
    return absl::InvalidArgumentError(
        Cat(path, ": has ", size, "; a document has at most 1 MiB. Is it the right file?"));
  };
  if (S_ISREG(info.st_mode) && static_cast<size_t>(info.st_size) > kMaxDocumentBytes) {
    return too_large(Cat(info.st_size, " bytes"));
  }
  // Pipes have no size, and a file may grow: reading is bounded on its own.
  std::string text(kMaxDocumentBytes + 1, '\0');
  size_t length = 0;
  while (length < text.size()) {
    const ssize_t got = read(file, text.data() + length, text.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::InvalidArgumentError(Cat(path, ": cannot be read: ", ReasonOf(errno)));
    if (got == 0) break;
    length += static_cast<size_t>(got);
  }
  if (length > kMaxDocumentBytes) return too_large("more than 1,048,576 bytes");
  text.resize(length);
  if (!IsText(text)) {
    return absl::InvalidArgumentError(Cat(path, ": is no text but binary data. Give a YAML document in UTF-8"));
  }
  v1::Document document;
  document.set_file_name(path);
  document.set_yaml(std::move(text));
  return document;
}

}  // namespace loadstar::spec
