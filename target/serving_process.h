#pragma once

#include "target/options.h"

namespace loadstar::target {

// The main function of one serving process: makes its loop and listener, serves until the parent closes the control
// channel or dies, and returns the exit code. `options.serving` is set.
int RunServingProcess(const Options& options);

}  // namespace loadstar::target
