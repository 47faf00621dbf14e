#pragma once

#include <signal.h>

namespace loadstar::os {

// The signals that end a daemon, SIGTERM and SIGINT, taken by one thread that waits for them.
class StopSignals {
 public:
  // Blocks them, and has writes to a closed socket fail instead of killing the process (SIGPIPE). To be made before
  // there is another thread: each inherits the mask and so leaves them to Wait.
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }

  // Waits for one of them and returns its number.
  int Wait() const {
    int number = 0;
    sigwait(&set_, &number);
    return number;
  }

 private:
  sigset_t set_{};
};

}  // namespace loadstar::os
