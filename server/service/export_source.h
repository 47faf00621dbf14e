#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "lib/rpc/pull_writer.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "server/store/reader.h"

namespace loadstar::server {

// The results folder of one finished run, piece by piece: tables are made from a few hundred seconds at a time, so that
// a long run costs no more memory than a short one.
class ExportSource {
 public:
  static constexpr size_t kPieceMax = 256 << 10;

  ExportSource(std::string run_id, std::string version) : run_id_(std::move(run_id)), version_(std::move(version)) {}

  // The next piece, or the end with its status: NOT_FOUND, FAILED_PRECONDITION while the run is not finished.
  rpc::Pulled Next(Reader* reader, v1::ExportRunResponse* message, absl::Status* end);

 private:
  absl::Status Begin(Reader* reader);
  // Appends to buffer_ until there is a piece or the file is complete.
  absl::Status Fill(Reader* reader);

  const std::string run_id_;
  const std::string version_;
  bool begun_ = false;
  v1::Run run_;
  size_t file_ = 0;          // index in the list of files
  bool file_begun_ = false;  // header is in buffer_
  bool file_done_ = false;   // everything of it is in buffer_
  int64_t next_s_ = 0;
  std::string buffer_;
};

}  // namespace loadstar::server
