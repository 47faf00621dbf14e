#include "lib/spec/complete.h"

#include <algorithm>
#include <string>

#include "lib/spec/name.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/threshold.h"
#include "lib/spec/tree.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

// "My Test" to "my-test": what the name could be.
std::string AsName(std::string_view text) {
  std::string name;
  for (const char c : Lower(text)) {
    if (IsNameCharacter(c)) {
      name += c;
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  name.resize(std::min(name.size(), kMaxName));
  while (!name.empty() && name.back() == '-') name.pop_back();
  return name;
}

}  // namespace

void CheckName(std::string_view field, std::string_view name, std::string_view example, Report* report) {
  if (name.empty()) return report->Add(field, "there is no name", Cat("Give one, such as ", example));
  if (IsName(name)) return;
  const std::string proposal = AsName(name);
  report->Add(field, Cat(Quoted(name), " is no name: lower-case letters, digits and \"-\", at most ", kMaxName),
              Cat("Write it such as ", proposal.empty() ? example : proposal));
}

void CheckDuration(std::string_view field, const google::protobuf::Duration& duration, DurationBounds bounds,
                   Report* report) {
  const bool proper =
      duration.nanos() > -1'000'000'000 && duration.nanos() < 1'000'000'000 &&
      (duration.seconds() == 0 || duration.nanos() == 0 || (duration.seconds() > 0) == (duration.nanos() > 0));
  if (!proper)
    return report->Add(field, "the duration is malformed", "Nanoseconds are of the seconds' sign and below 10^9");
  const absl::Duration value = FromProto(duration);
  if (value < absl::ZeroDuration()) return report->Add(field, "the duration is negative");
  if (value < bounds.least) {
    report->Add(field, Cat(spec::FormatDuration(value), " is too short"),
                Cat("At least ", spec::FormatDuration(bounds.least), " is needed"));
  } else if (value > bounds.most) {
    report->Add(field, Cat(spec::FormatDuration(value), " is too long"),
                Cat("At most ", spec::FormatDuration(bounds.most), " is allowed"));
  }
}

void CheckText(std::string_view field, std::string_view text, size_t most, Report* report) {
  if (text.size() > most) {
    report->Add(field, Cat("the text has ", text.size(), " bytes; at most ", most, " are allowed"));
  } else if (text.find_first_of("\r\n\t") != std::string_view::npos || !IsText(text)) {
    report->Add(field, Cat(Quoted(text), " is not one line of text"));
  }
}

void CompleteTest(v1::TestSpec* test, Report* report) {
  CheckName("name", test->name(), "my-test", report);
  CompleteTarget(test->mutable_target(), report);
  CompleteLoad(test->mutable_load(), report);
  CheckClosingHttp(*test, report);
  CompleteThresholds(test, report);
}

Problems Complete(v1::TestSpec* test) {
  Report report;
  CompleteTest(test, &report);
  return report.Finish();
}

Problems Complete(v1::StackSpec* stack) {
  Report report;
  CompleteStack(stack, &report);
  return report.Finish();
}

Problems Complete(v1::TuningProfile* profile) {
  Report report;
  CompleteTuningProfile(profile, &report);
  return report.Finish();
}

}  // namespace loadstar::spec
