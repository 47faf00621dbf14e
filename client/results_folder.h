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

// A file appears under its name when it is complete: until then it is NAME.part, so that a broken export leaves no file
// that looks whole. Files of an earlier export are replaced, others are left alone.
class ResultsFolder {
 public:
  // Creates the folder and those above it.
  static absl::StatusOr<std::unique_ptr<ResultsFolder>> Create(const std::string& path);
  // Removes what is incomplete.
  ~ResultsFolder();

  // Takes the next piece. A name that is not a plain file name is refused: the coordinator does not choose where this
  // program writes.
  absl::Status Take(const v1::ExportRunResponse& piece);
  // Completes the last file.
  absl::Status Finish();

  const std::string& path() const { return path_; }
  const std::vector<std::string>& files() const { return files_; }

 private:
  explicit ResultsFolder(std::string path) : path_(std::move(path)) {}
  absl::Status Failed(const std::string& what) const;

  const std::string path_;
  std::vector<std::string> files_;  // complete ones, in order of arrival
  std::string name_;                // of the file being written; empty: none
  std::FILE* file_ = nullptr;
};

}  // namespace loadstar::client
