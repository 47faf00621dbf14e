// The characters of HTTP (RFC 9110, section 5), for those who read messages and for those who check what a user wrote.
#pragma once

#include <string_view>

namespace loadstar::http {

// A method or the name of a field.
bool IsToken(std::string_view text);
// The value of a field: no control characters but tabs. Empty is one.
bool IsFieldValue(std::string_view text);
// What a request line may have for its target: visible ASCII, nothing else, and not empty.
bool IsTarget(std::string_view text);

// Compares names of fields, and other tokens that ignore case.
bool EqualsIgnoringCase(std::string_view a, std::string_view b);
// Without blanks and tabs at both ends.
std::string_view Trim(std::string_view text);

// Calls visit(item) for each item of a list that commas separate; empty ones do not count.
template <typename Visit>
void ForEachInList(std::string_view list, Visit visit) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (const std::string_view item = Trim(list.substr(0, comma)); !item.empty()) visit(item);
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace loadstar::http
