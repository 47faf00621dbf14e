#pragma once

#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/spec/flaw.h"
#include "lib/spec/spec.h"

namespace loadstar::spec {

// Where something stands: in the document's text, or in a --set override (by its number).
struct Place {
  int override_index = -1;  // -1: the document
  uint32_t line = 0;        // 1-based; 0: not known
  uint32_t column = 0;
};

// Path of a field within a field, and of an item of a list.
std::string Join(std::string_view path, std::string_view key);
std::string Index(std::string_view path, size_t index);

// The problems found so far, and which fields they spoil: a value that could not be read is reported once, as that, and
// not a second time as missing or out of bounds.
class Report {
 public:
  // A problem at a place.
  void AddAt(const Place& place, std::string_view field, Flaw flaw);
  // A problem of a value; its place is looked up at the end. Left out when the field, or one above it, has a problem
  // already.
  void Add(std::string_view field, std::string message, std::string remedy = "");
  void Add(std::string_view field, Flaw flaw);
  // Marks a field as spoilt by a problem that is reported elsewhere (a misspelt key spoils the key that was meant).
  void Spoil(std::string_view field);

  // Whether a problem stands at the field, above it or below it, so that nothing can be said of its value.
  bool Spoilt(std::string_view field) const;
  bool empty() const { return entries_.empty(); }

  // All problems: those of the document by line and column, then those of overrides; at most 100 and one that says how
  // many were left out. `locate` finds places by field; `labels` name the overrides.
  Problems Finish(std::string_view file_name, const std::vector<std::string>& labels,
                  const std::function<Place(std::string_view field)>& locate);
  // The same for a message, which has no text.
  Problems Finish();

 private:
  struct Entry {
    Place place;
    bool placed;
    std::string field;
    Flaw flaw;
  };

  bool SpoiltAtOrAbove(std::string_view field) const;

  std::vector<Entry> entries_;
  std::set<std::string, std::less<>> spoilt_;
};

}  // namespace loadstar::spec
