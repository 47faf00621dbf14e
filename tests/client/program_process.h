// A program under test as a child: its arguments and environment, what it wrote so far, signals, its exit code.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace loadstar::client {

class ProgramProcess {
 public:
  struct Options {
    std::string program = std::string(LOADSTAR_BIN_DIR) + "/loadstar";
    std::vector<std::string> arguments;
    // NAME=VALUE; PATH, HOME and TERM=dumb come with it unless given here.
    std::vector<std::string> environment;
    std::string folder;  // to run in; empty: this one's
    // Stdin, stdout and stderr are a terminal of this size; 0: stdout and stderr are pipes.
    unsigned short columns = 0;
    unsigned short rows = 24;
  };
  explicit ProgramProcess(const Options& options);
  // Kills it when it still runs.
  ~ProgramProcess();

  std::string out();
  std::string err();  // empty on a terminal: it is in out
  // Waits until `done` holds of stdout (or stderr for WaitForErr); false after 20 seconds or when the program ended
  // without.
  bool WaitForOut(const std::function<bool(const std::string&)>& done);
  bool WaitForOut(const std::string& text);
  bool WaitForErr(const std::string& text);
  void Signal(int signal);
  void Resize(unsigned short columns, unsigned short rows);
  // Its exit code, 128 + n for a signal; kills it after 30 seconds (-1).
  int Wait();

 private:
  bool WaitUntil(const std::function<bool()>& done);
  void ReadAll(int fd, std::string* into);

  pid_t pid_ = -1;
  int exit_code_ = -1;
  bool waited_ = false;
  int terminal_ = -1;
  std::vector<std::thread> readers_;
  std::mutex mutex_;
  std::string out_, err_;  // guarded by mutex_
  int open_ = 0;           // readers still reading; guarded by mutex_
};

// The usual: runs to the end.
struct Ended {
  int code;
  std::string out;
  std::string err;
};
Ended RunProgram(const std::vector<std::string>& arguments, const std::vector<std::string>& environment = {},
                 const std::string& folder = "");

// A folder that is removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::string& path() const { return path_; }
  // Writes a file, with the folders above it; returns its path.
  std::string Write(const std::string& name, const std::string& content) const;
  std::string Read(const std::string& name) const;

 private:
  std::string path_;
};

}  // namespace loadstar::client
