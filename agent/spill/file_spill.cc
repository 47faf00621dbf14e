#include "agent/spill/file_spill.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

namespace loadstar::agent {
namespace {

constexpr uint64_t kIndexEvery = 64;
constexpr uint32_t kMaxRecord = 64u << 20;

// Whether exactly `size` bytes were read.
bool ReadAt(int fd, void* to, size_t size, uint64_t offset) {
  auto* bytes = static_cast<char*>(to);
  while (size > 0) {
    const ssize_t got = pread(fd, bytes, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<size_t>(got);
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileSpill>> FileSpill::Create(const std::string& path, uint64_t max_bytes) {
  os::Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", path));
  return std::unique_ptr<FileSpill>(new FileSpill(path, max_bytes, std::move(fd)));
}

FileSpill::FileSpill(std::string path, uint64_t max_bytes, os::Fd fd)
    : path_(std::move(path)), max_bytes_(max_bytes), fd_(std::move(fd)) {}

absl::Status FileSpill::Append(const v1::Report& report) {
  std::string record(4, '\0');
  report.AppendToString(&record);
  const auto length = static_cast<uint32_t>(record.size() - 4);
  std::memcpy(record.data(), &length, 4);
  const uint64_t start = index_.empty() ? end_ : index_.front().offset;
  if (end_ - start + record.size() > max_bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        path_, " holds ", end_ - start, " bytes of reports that were not acknowledged; the bound is ", max_bytes_));
  }
  for (size_t done = 0; done < record.size();) {
    const ssize_t wrote =
        pwrite(fd_.get(), record.data() + done, record.size() - done, static_cast<off_t>(end_ + done));
    if (wrote < 0 && errno == EINTR) continue;
    // A part that was written is overwritten by the next record: end_ has not moved.
    if (wrote < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
    done += static_cast<size_t>(wrote);
  }
  if (records_++ % kIndexEvery == 0) index_.push_back({.sequence = report.sequence(), .offset = end_});
  end_ += record.size();
  last_ = report.sequence();
  return absl::OkStatus();
}

std::vector<v1::Report> FileSpill::Read(uint64_t after, size_t limit) {
  std::vector<v1::Report> reports;
  after = std::max(after, trimmed_);
  // The last indexed record that is not behind what is wanted.
  auto entry = std::upper_bound(index_.begin(), index_.end(), after + 1,
                                [](uint64_t sequence, const Entry& e) { return sequence < e.sequence; });
  if (entry != index_.begin()) --entry;
  uint64_t offset = entry == index_.end() ? end_ : entry->offset;
  std::string record;
  while (offset < end_ && reports.size() < limit) {
    uint32_t length = 0;
    v1::Report report;
    bool good = ReadAt(fd_.get(), &length, 4, offset) && length <= kMaxRecord;
    if (good) {
      record.resize(length);
      good = ReadAt(fd_.get(), record.data(), length, offset + 4) && report.ParseFromString(record);
    }
    if (!good) {
      spdlog::error("spill: event=unreadable file={} offset={}", path_, offset);
      break;
    }
    offset += 4 + length;
    if (report.sequence() > after) reports.push_back(std::move(report));
  }
  return reports;
}

void FileSpill::Trim(uint64_t through) {
  trimmed_ = std::max(trimmed_, through);
  if (end_ == 0) return;
  if (trimmed_ >= last_) {
    if (ftruncate(fd_.get(), 0) != 0) spdlog::warn("spill: event=not-truncated file={}", path_);
    index_.clear();
    records_ = 0;
    end_ = 0;
    return;
  }
  const uint64_t before = index_.front().offset;
  while (index_.size() > 1 && index_[1].sequence <= trimmed_ + 1) index_.pop_front();
  const uint64_t start = index_.front().offset;
  // Gives the space back where the file system can; where not, the bound still counts what is live.
  if (start > before) {
    fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(before),
              static_cast<off_t>(start - before));
  }
}

}  // namespace loadstar::agent
