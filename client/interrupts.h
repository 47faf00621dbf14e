// Ctrl-C, SIGTERM and changes of the terminal's size, as something a loop can wait for.
#pragma once

namespace loadstar::client {

// While one exists, SIGINT, SIGTERM and SIGWINCH do not act but make `fd` readable; before and after, they do what they
// did. At most one at a time; used from one thread, but for Wake.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Readable after a signal and after Wake, until Drain.
  int fd() const;
  void Drain();
  // SIGINTs and SIGTERMs so far.
  int count() const;
  // Makes fd readable; from any thread.
  void Wake();
};

}  // namespace loadstar::client
