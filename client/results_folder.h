// Writes the files that ExportRun streams into a folder on this machine.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "loadstar/v1/coordinator_service.pb.h"

namespace loadstar::client {

// Files appear under their names when all are complete: until then each is NAME.part, so that a broken export leaves
// what was there before. Files of an earlier export are replaced, others are left alone.
class ResultsFolder {
 public:
  // Creates the folder and those above it.
  static absl::StatusOr<std::unique_ptr<ResultsFolder>> Create(const std::string& path);
  // Without Finish, removes what was written, and the folders that were created.
  ~ResultsFolder();

  // Takes the next piece. A name that is not a plain file name is refused: the coordinator does not choose where this
  // program writes.
  absl::Status Take(const v1::ExportRunResponse& piece);
  // The last piece was taken: all files get their names.
  absl::Status Finish();

  const std::string& path() const { return path_; }
  const std::vector<std::string>& files() const { return files_; }

 private:
  ResultsFolder(std::string path, std::vector<std::string> created)
      : path_(std::move(path)), created_(std::move(created)) {}
  absl::Status CloseFile();
  absl::Status Failed(const std::string& what) const;

  const std::string path_;
  std::vector<std::string> created_;  // folders, the innermost first
  std::vector<std::string> files_;    // in order of arrival
  bool finished_ = false;
  std::string name_;  // of the file being written; empty: none
  std::FILE* file_ = nullptr;
};

}  // namespace loadstar::client
