// Laws of the units, and that no damage to a document is worse than a report. rapidcheck prints the seed of a
// counterexample; RC_PARAMS="seed=N" repeats it.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>

#include "lib/spec/spec.h"
#include "tests/spec/documents.h"

namespace loadstar::spec {
namespace {

RC_GTEST_PROP(SpecProperty, FormattedDurationsReadBackTheSame, ()) {
  const auto duration = absl::Nanoseconds(*rc::gen::inRange<int64_t>(0, 3'000'000'000'000'000));
  const auto read = ParseDuration(spec::FormatDuration(duration));
  RC_ASSERT(read.ok());
  RC_ASSERT(*read == duration);
}

RC_GTEST_PROP(SpecProperty, RoundCountsReadBackTheSame, ()) {
  const uint64_t factor = *rc::gen::element<uint64_t>(1'000, 1'000'000, 1'000'000'000);
  const uint64_t count = *rc::gen::inRange<uint64_t>(1, 1'000) * factor;
  RC_ASSERT(ParseCount(FormatCount(count)).value() == count);
}

RC_GTEST_PROP(SpecProperty, DamagedDocumentsAreReportedAtPlacesThatExist, ()) {
  std::string text(*rc::gen::element(kTest, kStack));
  const int damages = *rc::gen::inRange(1, 6);
  for (int i = 0; i < damages; ++i) {
    const size_t at = *rc::gen::inRange<size_t>(0, text.size());
    const size_t length = *rc::gen::inRange<size_t>(0, 12);
    const auto with = *rc::gen::container<std::string>(rc::gen::elementOf(std::string("[]{}:,-&*!?#|>'\"%@ \n\t0aZ~")));
    text.replace(at, length, with);
  }
  const auto lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 2;
  const Parsed parsed = ParseText(text);
  RC_ASSERT(parsed.problems.empty() == (parsed.kind != Parsed::Kind::kNone));
  for (const auto& problem : parsed.problems) {
    RC_ASSERT(problem.line() <= lines);
    RC_ASSERT(!problem.message().empty());
  }
}

}  // namespace
}  // namespace loadstar::spec
