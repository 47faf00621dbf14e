#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "lib/spec/tree.h"

namespace loadstar::spec {

// A key that a mapping may have. The tables of these are the reference of the document format.
struct KeyInfo {
  std::string_view name;
  std::string_view expects;   // type and unit, with an example: "a duration such as 10s"
  std::string_view fallback;  // default; empty: there is none
  std::string_view doc;       // what it means
  bool supported = true;      // false: known, and not supported by this version
};

// A word that a value may be.
struct Choice {
  std::string_view word;
  int value;
  bool supported = true;  // false: known, and not supported by this version
};

// Reads one mapping by its table of keys. Every member function reports what is wrong, leaves `out` alone then and
// when the key is absent, and returns whether it set it.
class Reader {
 public:
  // Reports it when `node` is no mapping (`what` says what was expected then), and every key that the table lacks.
  Reader(const Node& node, std::string path, std::string_view what, absl::Span<const KeyInfo> keys, Report* report);

  // Value of a key of the table; nullptr when it is absent or has no value (which is reported).
  const Node* Find(std::string_view name) const;
  std::string PathOf(std::string_view name) const { return Join(path_, name); }
  // Reports a value of the wrong kind.
  void Expected(std::string_view name, const Node& found) const;
  void Wrong(std::string_view name, const Node& found, Flaw flaw) const;

  bool Text(std::string_view name, std::string* out) const;
  std::optional<google::protobuf::Duration> Duration(std::string_view name) const;
  bool Count(std::string_view name, uint64_t* out) const;
  bool Count(std::string_view name, uint32_t* out) const;
  bool Size(std::string_view name, uint64_t* out) const;
  bool Size(std::string_view name, uint32_t* out) const;
  bool Texts(std::string_view name, google::protobuf::RepeatedPtrField<std::string>* out) const;
  bool Choose(std::string_view name, absl::Span<const Choice> choices, int* out) const;

  Report& report() const { return report_; }

 private:
  const KeyInfo& Info(std::string_view name) const;
  const Node* Scalar(std::string_view name) const;
  template <typename T, typename Read>
  bool Value(std::string_view name, Read read, T* out) const;

  const Node& node_;
  const std::string path_;
  const absl::Span<const KeyInfo> keys_;
  Report& report_;
};

}  // namespace loadstar::spec
