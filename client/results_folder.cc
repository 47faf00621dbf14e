#include "client/results_folder.h"

#include <cerrno>
#include <filesystem>

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
  std::filesystem::create_directories(path, error);
  if (error) {
    return absl::InternalError(
        absl::StrCat("cannot create the folder ", path, ": ", error.message(), "; choose another with --output"));
  }
  return std::unique_ptr<ResultsFolder>(new ResultsFolder(path));
}

ResultsFolder::~ResultsFolder() {
  if (file_ != nullptr) {
    std::fclose(file_);
    std::remove(absl::StrCat(path_, "/", name_, ".part").c_str());
  }
}

absl::Status ResultsFolder::Failed(const std::string& what) const {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path_, "/", name_));
}

absl::Status ResultsFolder::Take(const v1::ExportRunResponse& piece) {
  if (piece.file_name() != name_) {
    if (!IsPlainName(piece.file_name())) {
      return absl::DataLossError(absl::StrCat("the coordinator sent a file named \"", piece.file_name(),
                                              "\", which is no plain file name; it was not written"));
    }
    if (absl::Status status = Finish(); !status.ok()) {
      return status;
    }
    name_ = piece.file_name();
    file_ = std::fopen(absl::StrCat(path_, "/", name_, ".part").c_str(), "wbe");
    if (file_ == nullptr) {
      absl::Status status = Failed("create");
      name_.clear();
      return status;
    }
  }
  if (std::fwrite(piece.content().data(), 1, piece.content().size(), file_) != piece.content().size()) {
    return Failed("write");
  }
  return absl::OkStatus();
}

absl::Status ResultsFolder::Finish() {
  if (file_ == nullptr) {
    return absl::OkStatus();
  }
  std::FILE* file = file_;
  file_ = nullptr;
  const std::string whole = absl::StrCat(path_, "/", name_);
  const std::string part = whole + ".part";
  if (std::fclose(file) != 0 || std::rename(part.c_str(), whole.c_str()) != 0) {
    absl::Status status = Failed("write");
    std::remove(part.c_str());
    return status;
  }
  files_.push_back(name_);
  name_.clear();
  return absl::OkStatus();
}

}  // namespace loadstar::client
