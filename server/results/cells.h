// server/results: from a run and its seconds to the files of the results folder. Pure functions, no I/O. What was not
// measured is an empty cell or the word "not measured", never a zero.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "google/protobuf/timestamp.pb.h"

namespace loadstar::server::results {

// One row of a CSV as RFC 4180 has it, with "\n" at the end. Cells are added from the left.
class Row {
 public:
  explicit Row(std::string* out) : out_(out) {}
  // Ends the row.
  ~Row() { out_->push_back('\n'); }
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;

  Row& Count(uint64_t value);
  // Microseconds, shown as milliseconds with three decimals.
  Row& Ms(uint64_t us);
  // Six significant digits at least, without an exponent.
  Row& Number(double value);
  // Quoted when it has to be.
  Row& Text(absl::string_view text);
  Row& Empty();
  Row& Empty(int cells);

 private:
  void Separate();
  std::string* out_;
  bool first_ = true;
};

// "12.345"
std::string FormatMs(uint64_t us);
// "1,234,567"
std::string FormatCount(uint64_t value);
// RFC 3339, UTC, milliseconds.
std::string FormatTime(const google::protobuf::Timestamp& time);

}  // namespace loadstar::server::results
