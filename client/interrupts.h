// Ctrl-C, SIGTERM and changes of the terminal's size, as something a loop can wait for.
#pragma once

#include "absl/time/time.h"

namespace loadstar::client {

// While one exists, SIGINT, SIGTERM and SIGWINCH do not act but end a Wait; before and after, they do what they did. At
// most one at a time; used from one thread, but for Wake.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // True once for each SIGINT or SIGTERM since the beginning.
  bool Take();
  // Until a signal, a Wake, `fd` (-1: none) being readable, or the limit. True when it was a signal or a Wake, of which
  // one that came before the call counts.
  bool Wait(int fd, absl::Duration limit);
  // Ends a Wait; from any thread.
  void Wake();

 private:
  int taken_ = 0;
};

}  // namespace loadstar::client
