#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/net/loop.h"
#include "lib/os/fd.h"
#include "lib/os/subprocess.h"

namespace loadstar::target {

inline constexpr int kPatience_ms = 30'000;

// True as soon as `done` is; false after kPatience_ms.
bool Eventually(const std::function<bool()>& done);

// A blocking client's end of one connection. Every wait is bounded by kPatience_ms.
class Client {
 public:
  explicit Client(const std::string& address);
  int connect_error() const { return connect_error_; }  // 0 or an errno
  bool Send(std::string_view bytes);
  // The next line, without its end; nullopt when the connection ended or nothing came in time.
  std::optional<std::string> ReadLine();
  // Exactly so many bytes, or fewer at the end.
  std::string Read(size_t size);
  // True when the peer closed or reset, with nothing left to read.
  bool Ended();
  void Close() { fd_.Reset(); }
  int fd() const { return fd_.get(); }

 private:
  os::Fd fd_;
  int connect_error_ = 0;
  std::string buffer_;
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};
HttpAnswer Http(const std::string& address, const std::string& method, const std::string& path,
                const std::string& body = "");

struct Ended {
  os::Exit exit;
  std::string log;
};

// A real loadstar-target. Killed, with everything it started, when this goes.
class Target {
 public:
  // Starts it on ports of its own and waits until it is ready. `descriptors`: its limit, 0 for the inherited one.
  static std::unique_ptr<Target> Start(std::vector<std::string> arguments = {}, int descriptors = 0);
  // Starts it with exactly these arguments and waits for its end.
  static Ended RunToEnd(const std::vector<std::string>& arguments);
  ~Target();

  const std::string& listen() const { return listen_; }
  const std::string& api() const { return api_; }
  pid_t pid() const { return child_.pid; }
  HttpAnswer Get(const std::string& path) const { return Http(api_, "GET", path); }
  HttpAnswer Post(const std::string& path, const std::string& body) const { return Http(api_, "POST", path, body); }
  // Sets the faults and expects them to be accepted.
  void Fault(const std::string& body) const;
  // The pids of its serving processes; 0 for one that is down.
  std::vector<pid_t> Pids() const;
  // The value of a sample line, such as `loadstar_target_connections{process="total"}`; -1 when it is not there.
  double Sample(const std::string& series) const;
  double Total(const std::string& metric) const { return Sample(metric + "{process=\"total\"}"); }
  double Errors(const std::string& kind) const {
    return Sample("loadstar_target_errors_total{process=\"total\",kind=\"" + kind + "\"}");
  }
  void Signal(int signal) const;
  // Waits for the end; nullopt when it does not come in time.
  std::optional<os::Exit> WaitForEnd();

 private:
  bool Spawn(const std::vector<std::string>& arguments, int descriptors);
  // Reads the log until a line contains `text` (empty: to its end).
  bool ReadLog(const std::string& text);

  os::Child child_;
  os::Fd log_fd_;
  std::string log_;
  std::string listen_, api_;
  bool ended_ = false;
};

// True when no process of that number runs any more. One that nobody has waited for yet is gone: in a container the
// first process may never do that for orphans.
bool Gone(pid_t pid);

}  // namespace loadstar::target
