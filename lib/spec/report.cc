#include "lib/spec/report.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "lib/spec/text.h"

namespace loadstar::spec {
namespace {

constexpr size_t kMaxProblems = 100;
constexpr size_t kMaxKeyShown = 64;

}  // namespace

std::string Join(std::string_view path, std::string_view key) {
  std::string shown = Escaped(Clipped(key, kMaxKeyShown));
  return path.empty() ? shown : Cat(path, ".", shown);
}

std::string Index(std::string_view path, size_t index) { return Cat(path, "[", index, "]"); }

void Report::AddAt(const Place& place, std::string_view field, Flaw flaw) {
  entries_.push_back({place, true, std::string(field), std::move(flaw)});
  Spoil(field);
}

void Report::Add(std::string_view field, std::string message, std::string remedy) {
  Add(field, Flaw{std::move(message), std::move(remedy)});
}

void Report::Add(std::string_view field, Flaw flaw) {
  if (SpoiltAtOrAbove(field)) return;
  entries_.push_back({Place{}, false, std::string(field), std::move(flaw)});
  Spoil(field);
}

void Report::Spoil(std::string_view field) { spoilt_.emplace(field); }

bool Report::SpoiltAtOrAbove(std::string_view field) const {
  if (spoilt_.contains("")) return true;
  for (size_t end = 1; end <= field.size(); ++end) {
    if (end < field.size() && field[end] != '.' && field[end] != '[') continue;
    if (spoilt_.contains(field.substr(0, end))) return true;
  }
  return false;
}

bool Report::Spoilt(std::string_view field) const {
  if (SpoiltAtOrAbove(field)) return true;
  for (const char separator : {'.', '['}) {
    const std::string below = Cat(field, std::string_view(&separator, 1));
    const auto found = spoilt_.lower_bound(below);
    if (found != spoilt_.end() && found->starts_with(below)) return true;
  }
  return false;
}

Problems Report::Finish(std::string_view file_name, const std::vector<std::string>& labels,
                        const std::function<Place(std::string_view field)>& locate) {
  for (Entry& entry : entries_) {
    if (!entry.placed) entry.place = locate(entry.field);
  }
  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& left, const Entry& right) {
    return std::tie(left.place.override_index, left.place.line, left.place.column) <
           std::tie(right.place.override_index, right.place.line, right.place.column);
  });
  Problems problems;
  for (Entry& entry : entries_) {
    if (problems.size() == kMaxProblems) {
      v1::DocumentProblem rest;
      rest.set_file_name(std::string(file_name));
      rest.set_message(Cat("there are ", entries_.size() - kMaxProblems, " more problems"));
      problems.push_back(std::move(rest));
      break;
    }
    v1::DocumentProblem problem;
    if (entry.place.override_index >= 0) {
      problem.set_file_name(labels.at(static_cast<size_t>(entry.place.override_index)));
    } else {
      problem.set_file_name(std::string(file_name));
      problem.set_line(entry.place.line);
      problem.set_column(entry.place.column);
    }
    problem.set_field(std::move(entry.field));
    problem.set_message(std::move(entry.flaw.message));
    problem.set_remedy(std::move(entry.flaw.remedy));
    problems.push_back(std::move(problem));
  }
  return problems;
}

Problems Report::Finish() {
  return Finish("", {}, [](std::string_view) { return Place{}; });
}

}  // namespace loadstar::spec
