#include "agent/tuner/tune_step.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace loadstar::agent {

bool IsObstacle(v1::TuneOutcome outcome) {
  switch (outcome) {
    case v1::TUNE_OUTCOME_READ_ONLY:
    case v1::TUNE_OUTCOME_UNSUITABLE:
    case v1::TUNE_OUTCOME_CONTRADICTS:
    case v1::TUNE_OUTCOME_REFUSED:
    case v1::TUNE_OUTCOME_NOT_TRIED:
    case v1::TUNE_OUTCOME_FORBIDDEN:
    case v1::TUNE_OUTCOME_FOREIGN:
    case v1::TUNE_OUTCOME_UNCERTAIN:
    case v1::TUNE_OUTCOME_FAILS:
      return true;
    default:
      return false;
  }
}

v1::TuneStep NewStep(const std::string& profile, const std::string& key) {
  v1::TuneStep step;
  step.set_profile(profile);
  step.set_key(key);
  return step;
}

void Finish(v1::TuneStep* step, v1::TuneOutcome outcome, std::string message) {
  step->set_outcome(outcome);
  step->set_obstacle(IsObstacle(outcome));
  step->set_message(std::move(message));
}

v1::TuneStep FinishedStep(const std::string& profile, const std::string& key, v1::TuneOutcome outcome,
                          std::string message) {
  v1::TuneStep step = NewStep(profile, key);
  Finish(&step, outcome, std::move(message));
  return step;
}

std::string WhyForbidden(const std::string& deed, const std::string& word) {
  return absl::StrCat("this agent may not ", deed, "; start it with --allow-tuning ", word, " to allow it");
}

}  // namespace loadstar::agent
