#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace loadstar::target {

// Cuts a stream of bytes into the lines that '\n' ends. One pointer per connection: memory is held only while a line
// has come in part.
class LineSplitter {
 public:
  enum class Result : uint8_t {
    kMore,     // everything was used; a partial line may be kept
    kStopped,  // on_line said so; the rest was dropped
    kTooLong,  // a line exceeds line_max; the rest was dropped
  };

  // Calls on_line(line without '\n') -> bool (go on?) for each line that `bytes` complete. The line lives until the
  // call returns. After anything but kMore the stream has lost its place: nothing more may be fed.
  template <typename OnLine>
  Result Feed(std::string_view bytes, size_t line_max, OnLine&& on_line) {
    while (!bytes.empty()) {
      const size_t end = bytes.find('\n');
      const std::string_view piece = bytes.substr(0, end);
      if ((partial_ ? partial_->size() : 0) + piece.size() > line_max) {
        return Result::kTooLong;
      }
      if (end == std::string_view::npos) {
        if (!partial_) {
          partial_ = std::make_unique<std::string>();
        }
        partial_->append(piece);
        return Result::kMore;
      }
      bool go_on = false;
      if (partial_) {
        partial_->append(piece);
        go_on = on_line(std::string_view(*partial_));
        partial_.reset();
      } else {
        go_on = on_line(piece);
      }
      if (!go_on) {
        return Result::kStopped;
      }
      bytes.remove_prefix(end + 1);
    }
    return Result::kMore;
  }

  bool holds_partial() const { return partial_ != nullptr; }

 private:
  std::unique_ptr<std::string> partial_;
};

}  // namespace loadstar::target
