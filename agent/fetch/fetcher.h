#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace loadstar::agent {

// What became of a request.
struct FetchResult {
  std::string error;  // empty: an answer came (or, for a bare connect, the connection)
  int status = 0;     // HTTP status
  std::string body;
};

// Asks nodes for their health and metrics: any number of GETs at once on one thread, each with a deadline for the whole
// of it, however slowly the far side trickles. (cpp-httplib's client bounds single reads only and needs a thread each.)
class Fetcher {
 public:
  struct Request {
    std::string address;  // "HOST:PORT"; a name is resolved in the caller's thread
    std::string path;     // empty: only connect
    int64_t timeout_ns = 0;
  };
  // Called exactly once on the fetcher's thread, unless Stop comes first; must not block.
  using Done = std::function<void(FetchResult)>;
  // More requests at once fail without being tried.
  static constexpr size_t kMaxAtOnce = 2048;

  Fetcher();
  ~Fetcher();  // stops
  void Get(const Request& request, Done done);
  // No callback is running or will come once this has returned. Never from a callback.
  void Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::agent
