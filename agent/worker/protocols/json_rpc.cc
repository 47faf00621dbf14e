#include "agent/worker/protocols/json_rpc.h"

#include <charconv>

namespace loadstar::worker {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// A cursor over the text. Each method consumes one construct and returns false at the first byte that cannot be.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  void SkipSpace() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\r' || text_[at_] == '\n')) {
      ++at_;
    }
  }
  bool AtEnd() const { return at_ == text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  size_t at() const { return at_; }
  std::string_view From(size_t begin) const { return text_.substr(begin, at_ - begin); }

  bool Take(char c) {
    if (Peek() != c || AtEnd()) return false;
    ++at_;
    return true;
  }

  // *inside: the raw bytes between the quotes.
  bool String(std::string_view* inside) {
    if (!Take('"')) return false;
    const size_t begin = at_;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        *inside = From(begin);
        ++at_;
        return true;
      }
      if (static_cast<unsigned char>(c) < 0x20) return false;
      ++at_;
      if (c == '\\' && !Escape()) return false;
    }
    return false;
  }

  bool Number() {
    Take('-');
    if (Take('0')) {
      if (IsDigit(Peek())) return false;
    } else if (!Digits()) {
      return false;
    }
    if (Take('.') && !Digits()) return false;
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      if (!Digits()) return false;
    }
    return true;
  }

  bool Literal(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  bool Value(int depth) {
    std::string_view ignored;
    switch (Peek()) {
      case '{':
        return Object(depth, [&](std::string_view) { return Value(depth + 1); });
      case '[':
        return Array(depth);
      case '"':
        return String(&ignored);
      case 't':
        return Literal("true");
      case 'f':
        return Literal("false");
      case 'n':
        return Literal("null");
      default:
        return Number();
    }
  }

  // Calls member(key) for each member; it must consume the value.
  template <typename Member>
  bool Object(int depth, Member member) {
    if (depth >= kMaxJsonDepth || !Take('{')) return false;
    SkipSpace();
    if (Take('}')) return true;
    for (;;) {
      std::string_view key;
      if (!String(&key)) return false;
      SkipSpace();
      if (!Take(':')) return false;
      SkipSpace();
      if (!member(key)) return false;
      SkipSpace();
      if (Take('}')) return true;
      if (!Take(',')) return false;
      SkipSpace();
    }
  }

 private:
  bool Digits() {
    if (!IsDigit(Peek())) return false;
    while (IsDigit(Peek())) ++at_;
    return true;
  }

  bool Escape() {
    if (AtEnd()) return false;
    const char c = text_[at_++];
    if (c != 'u') return std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos;
    for (int i = 0; i < 4; ++i) {
      if (!IsHex(Peek())) return false;
      ++at_;
    }
    return true;
  }

  bool Array(int depth) {
    if (depth >= kMaxJsonDepth || !Take('[')) return false;
    SkipSpace();
    if (Take(']')) return true;
    for (;;) {
      if (!Value(depth + 1)) return false;
      SkipSpace();
      if (Take(']')) return true;
      if (!Take(',')) return false;
      SkipSpace();
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

bool ReadId(Scanner* scanner, JsonRpcMessage* message) {
  const size_t begin = scanner->at();
  if (!scanner->Value(1)) return false;
  const std::string_view raw = scanner->From(begin);
  const auto [end, error] = std::from_chars(raw.data(), raw.data() + raw.size(), message->id);
  message->has_id = error == std::errc() && end == raw.data() + raw.size();
  return true;
}

bool ReadError(Scanner* scanner, JsonRpcMessage* message) {
  message->has_error = true;
  if (scanner->Peek() != '{') return scanner->Value(1);
  return scanner->Object(1, [&](std::string_view key) {
    const size_t begin = scanner->at();
    if (!scanner->Value(2)) return false;
    if (key == "code") {
      const std::string_view raw = scanner->From(begin);
      const bool integer = raw.find_first_not_of("-0123456789") == std::string_view::npos;
      message->error_code = integer ? raw : std::string_view();
    }
    return true;
  });
}

bool ReadResult(Scanner* scanner, JsonRpcMessage* message) {
  message->has_result = true;
  message->tool_error = false;
  if (scanner->Peek() != '{') return scanner->Value(1);
  return scanner->Object(1, [&](std::string_view key) {
    const size_t begin = scanner->at();
    if (!scanner->Value(2)) return false;
    if (key == "isError") message->tool_error = scanner->From(begin) == "true";
    return true;
  });
}

}  // namespace

std::optional<JsonRpcMessage> ParseJsonRpc(std::string_view text) {
  JsonRpcMessage message;
  Scanner scanner(text);
  scanner.SkipSpace();
  const bool ok = scanner.Object(0, [&](std::string_view key) {
    if (key == "id") return ReadId(&scanner, &message);
    if (key == "error") return ReadError(&scanner, &message);
    if (key == "result") return ReadResult(&scanner, &message);
    if (key == "method") message.has_method = true;
    return scanner.Value(1);
  });
  if (!ok) return std::nullopt;
  scanner.SkipSpace();
  if (!scanner.AtEnd()) return std::nullopt;
  return message;
}

bool IsJsonObject(std::string_view text) { return ParseJsonRpc(text).has_value(); }

std::string JsonEscape(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string escaped;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      escaped += '\\';
      escaped += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      escaped += "\\u00";
      escaped += kHex[static_cast<unsigned char>(c) >> 4];
      escaped += kHex[static_cast<unsigned char>(c) & 0xF];
    } else {
      escaped += c;
    }
  }
  return escaped;
}

}  // namespace loadstar::worker
