#pragma once

#include <string>

#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// Whether a profile is not in effect because of this outcome.
bool IsObstacle(v1::TuneOutcome outcome);

v1::TuneStep NewStep(const std::string& profile, const std::string& key);
// What came of the step, and whether that is an obstacle.
void Finish(v1::TuneStep* step, v1::TuneOutcome outcome, std::string message);
// Both.
v1::TuneStep FinishedStep(const std::string& profile, const std::string& key, v1::TuneOutcome outcome,
                          std::string message);

// Why a step is forbidden, and the word of --allow-tuning that allows it.
std::string WhyForbidden(const std::string& deed, const std::string& word);

}  // namespace loadstar::agent
