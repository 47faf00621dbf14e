#include "lib/spec/spec.h"
#include "lib/spec/text.h"

namespace loadstar::spec {

std::string ToString(const v1::DocumentProblem& problem) {
  std::string text = problem.file_name();
  if (problem.line() > 0) {
    text += Cat(text.empty() ? "line " : ":", problem.line());
    if (problem.column() > 0) text += Cat(":", problem.column());
  }
  if (!problem.field().empty()) text += Cat(text.empty() ? "" : ": ", problem.field());
  text += Cat(text.empty() ? "" : ": ", problem.message());
  if (!problem.remedy().empty()) text += Cat(". ", problem.remedy());
  return text;
}

std::string ToString(const Problems& problems) {
  std::string text;
  for (size_t i = 0; i < problems.size(); ++i) {
    text += Cat(i == 0 ? "" : "\n", i + 1, ". ", ToString(problems[i]));
  }
  return text;
}

}  // namespace loadstar::spec
