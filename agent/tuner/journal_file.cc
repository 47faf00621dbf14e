#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/tuner/journal.h"
#include "lib/os/fd.h"
#include "lib/os/files.h"

namespace loadstar::agent {
namespace {

class JournalFile final : public JournalStore {
 public:
  explicit JournalFile(std::string path) : path_(std::move(path)) {}

  absl::StatusOr<std::string> Load() override {
    absl::StatusOr<std::string> text = os::ReadFile(path_);
    if (absl::IsNotFound(text.status())) {
      if (absl::Status made = os::WriteFileAtomically(path_, ""); !made.ok()) return made;
      text = "";
    }
    if (!text.ok()) return text;
    if (absl::Status opened = Open(); !opened.ok()) return opened;
    return text;
  }

  absl::Status Append(std::string_view line) override {
    if (!file_) return absl::FailedPreconditionError(absl::StrCat(path_, " is not open; start the agent again"));
    const off_t end = lseek(file_.get(), 0, SEEK_END);
    absl::Status appended = os::AppendDurably(file_, path_, line);
    // What could not be cut off again would be glued to the next line.
    if (!appended.ok() && lseek(file_.get(), 0, SEEK_END) != end) file_.Reset();
    return appended;
  }

  absl::Status Replace(std::string_view text) override {
    file_.Reset();  // when this fails, nobody knows which file a crash would leave
    if (absl::Status replaced = os::WriteFileAtomically(path_, text); !replaced.ok()) return replaced;
    return Open();
  }

  absl::StatusOr<std::string> KeepDamaged(std::string_view text) override {
    const std::string copy = path_ + ".damaged";
    if (absl::Status kept = os::WriteFileAtomically(copy, text); !kept.ok()) return kept;
    return copy;
  }

 private:
  absl::Status Open() {
    absl::StatusOr<os::Fd> file = os::OpenForAppend(path_);
    if (!file.ok()) return file.status();
    file_ = *std::move(file);
    return absl::OkStatus();
  }

  const std::string path_;
  os::Fd file_;
};

class NoJournal final : public JournalStore {
 public:
  absl::StatusOr<std::string> Load() override { return std::string(); }
  absl::Status Append(std::string_view /*line*/) override { return Refused(); }
  absl::Status Replace(std::string_view /*text*/) override { return Refused(); }
  absl::StatusOr<std::string> KeepDamaged(std::string_view /*text*/) override { return Refused(); }

 private:
  static absl::Status Refused() { return absl::FailedPreconditionError("there is no journal to write to"); }
};

}  // namespace

std::unique_ptr<JournalStore> MakeJournalFile(std::string path) {
  return std::make_unique<JournalFile>(std::move(path));
}

std::unique_ptr<JournalStore> MakeNoJournal() { return std::make_unique<NoJournal>(); }

}  // namespace loadstar::agent
