// A process that is killed at one of its steps: each change that it makes to files (write, rename, unlink) and each
// call of a program is one. The test program's own write, rename, unlink and unlinkat stand before the C library's.
#pragma once

#include <functional>

namespace loadstar::agent {

// When the killed process dies: the step has not begun, is half done (a write; other steps are done whole), or is done.
enum class KilledWhen { kBefore, kHalfWay, kAfter };

// Carries `work` out in a child process, which dies at its step number `step`, from 0. `last_words` is called in the
// child when it dies and when it does not. True when it came to its end before that step.
bool SurvivesStep(int step, KilledWhen when, const std::function<void()>& work,
                  const std::function<void()>& last_words);

// A step of a kind that is not one of files: in a child of SurvivesStep it counts, elsewhere it is only called.
void Step(const std::function<void()>& act);

}  // namespace loadstar::agent
