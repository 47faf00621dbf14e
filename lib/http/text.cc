#include "lib/http/text.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace loadstar::http {
namespace {

constexpr uint8_t kToken = 1;
constexpr uint8_t kValue = 2;
constexpr uint8_t kTarget = 4;
constexpr std::array<uint8_t, 256> kCharacters = [] {
  std::array<uint8_t, 256> table{};
  for (unsigned c = 0; c < 256; ++c) {
    const bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool mark = std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
    if (alphanumeric || (mark && c < 128)) table[c] |= kToken;
    if ((c >= ' ' && c != 127) || c == '\t') table[c] |= kValue;
    if (c > ' ' && c < 127) table[c] |= kTarget;
  }
  return table;
}();

bool All(std::string_view text, uint8_t kind) {
  uint8_t common = kind;
  for (const char c : text) common &= kCharacters[static_cast<unsigned char>(c)];
  return common != 0;
}

bool IsBlank(char c) { return c == ' ' || c == '\t'; }
constexpr char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

}  // namespace

bool IsToken(std::string_view text) { return !text.empty() && All(text, kToken); }
bool IsFieldValue(std::string_view text) { return All(text, kValue); }
bool IsTarget(std::string_view text) { return !text.empty() && All(text, kTarget); }

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return Lower(x) == Lower(y); });
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace loadstar::http
