// Small things with text. Debian's Abseil has a string_view of its own that does not convert from the standard one, so
// what takes views here is not Abseil's.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <vector>

namespace loadstar::spec {

namespace text_internal {
inline void Append(std::string* out, std::string_view part) { out->append(part); }
inline void Append(std::string* out, std::integral auto number) { out->append(std::to_string(number)); }
}  // namespace text_internal

// The parts, texts and whole numbers, one after the other.
template <typename... Parts>
std::string Cat(const Parts&... parts) {
  std::string text;
  (text_internal::Append(&text, parts), ...);
  return text;
}

std::string JoinWords(const std::vector<std::string>& words, std::string_view separator);
std::string Lower(std::string_view text);
// Without blanks at both ends.
std::string_view Trim(std::string_view text);
// Unprintable characters escaped, UTF-8 kept.
std::string Escaped(std::string_view text);
// The first bytes, at most `most`, that do not end within a UTF-8 sequence.
std::string_view Clipped(std::string_view text, size_t most);
// Escaped and in quotes, at most 60 bytes of it.
std::string Quoted(std::string_view text);
// Digits alone, and no more than fit.
bool ReadDigits(std::string_view text, size_t* out);

}  // namespace loadstar::spec
