#include "client/results_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace loadstar::client {
namespace {

bool IsPlainName(const std::string& name) {
  if (name.empty() || name.size() > 255 || name[0] == '.') {
    return false;
  }
  for (const char c : name) {
    const bool allowed =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
    if (!allowed) {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ResultsFolder>> ResultsFolder::Create(const std::string& path) {
  std::error_code error;
  std::vector<std::string> created;
  for (std::filesystem::path folder = path; !folder.empty() && !std::filesystem::exists(folder, error);
       folder = folder.parent_path()) {
    created.push_back(folder.string());
  }
  std::filesystem::create_directories(path, error);
  if (error) {
    return absl::InternalError(
        absl::StrCat("cannot create the folder ", path, ": ", error.message(), "; choose another with --output"));
  }
  return std::unique_ptr<ResultsFolder>(new ResultsFolder(path, std::move(created)));
}

ResultsFolder::~ResultsFolder() {
  if (finished_) {
    return;
  }
  if (file_ != nullptr) {
    std::fclose(file_);
  }
  for (const std::string& name : files_) {
    std::remove(absl::StrCat(path_, "/", name, ".part").c_str());
  }
  for (const std::string& folder : created_) {
    rmdir(folder.c_str());  // not when somebody put something there meanwhile
  }
}

absl::Status ResultsFolder::Failed(const std::string& what) const {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path_, "/", name_));
}

absl::Status ResultsFolder::Take(const v1::ExportRunResponse& piece) {
  if (file_ == nullptr || piece.file_name() != name_) {
    if (!IsPlainName(piece.file_name())) {
      return absl::DataLossError(absl::StrCat("the coordinator sent a file named \"", piece.file_name(),
                                              "\", which is no plain file name; it was not written"));
    }
    if (absl::Status status = CloseFile(); !status.ok()) {
      return status;
    }
    name_ = piece.file_name();
    if (std::find(files_.begin(), files_.end(), name_) != files_.end()) {
      return absl::DataLossError(absl::StrCat("the coordinator sent ", name_, " twice"));
    }
    file_ = std::fopen(absl::StrCat(path_, "/", name_, ".part").c_str(), "wbe");
    if (file_ == nullptr) {
      return Failed("create");
    }
    files_.push_back(name_);
  }
  if (std::fwrite(piece.content().data(), 1, piece.content().size(), file_) != piece.content().size()) {
    return Failed("write");
  }
  return absl::OkStatus();
}

absl::Status ResultsFolder::CloseFile() {
  std::FILE* file = std::exchange(file_, nullptr);
  return file == nullptr || std::fclose(file) == 0 ? absl::OkStatus() : Failed("write");
}

absl::Status ResultsFolder::Finish() {
  if (absl::Status status = CloseFile(); !status.ok()) {
    return status;
  }
  for (const std::string& name : files_) {
    const std::string whole = absl::StrCat(path_, "/", name);
    if (std::rename((whole + ".part").c_str(), whole.c_str()) != 0) {
      name_ = name;
      return Failed("write");
    }
  }
  finished_ = true;
  return absl::OkStatus();
}

}  // namespace loadstar::client
