#include "server/results/cells.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace loadstar::server::results {

void Row::Separate() {
  if (!first_) out_->push_back(',');
  first_ = false;
}

Row& Row::Count(uint64_t value) {
  Separate();
  absl::StrAppend(out_, value);
  return *this;
}

Row& Row::Ms(uint64_t us) {
  Separate();
  out_->append(FormatMs(us));
  return *this;
}

Row& Row::Number(double value) {
  Separate();
  std::string text = absl::StrFormat("%.6f", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  out_->append(text);
  return *this;
}

Row& Row::Text(absl::string_view text) {
  Separate();
  if (text.find_first_of(",\"\r\n") == absl::string_view::npos) {
    absl::StrAppend(out_, text);
    return *this;
  }
  out_->push_back('"');
  for (char c : text) {
    if (c == '"') out_->push_back('"');
    out_->push_back(c);
  }
  out_->push_back('"');
  return *this;
}

Row& Row::Empty() {
  Separate();
  return *this;
}

Row& Row::Empty(int cells) {
  for (int i = 0; i < cells; ++i) Separate();
  return *this;
}

std::string FormatMs(uint64_t us) { return absl::StrFormat("%d.%03d", us / 1000, us % 1000); }

std::string FormatCount(uint64_t value) {
  std::string text = absl::StrCat(value);
  for (size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

std::string FormatTime(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ",
                          absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos()), absl::UTCTimeZone());
}

}  // namespace loadstar::server::results
