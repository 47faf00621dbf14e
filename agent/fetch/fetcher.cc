#include "agent/fetch/fetcher.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/fetch/http_response.h"
#include "lib/os/clock.h"
#include "lib/os/fd.h"
#include "lib/os/ports.h"
#include "lib/os/wait_set.h"

namespace loadstar::agent {
namespace {

std::string ErrnoText(int error) { return std::string(absl::ErrnoToStatus(error, "").message()); }

}  // namespace

class Fetcher::Impl {
 public:
  Impl() : thread_([this] { Run(); }) {}
  ~Impl() { Stop(); }

  void Get(const Request& request, Done done) {
    Job job;
    job.done = std::move(done);
    job.deadline_ns = os::MonotonicNs() + request.timeout_ns;
    if (!request.path.empty()) {
      job.unsent = absl::StrCat("GET ", request.path, " HTTP/1.1\r\nHost: ", request.address,
                                "\r\nUser-Agent: loadstar-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    }
    job.wants_answer = !request.path.empty();
    Begin(request.address, &job);
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    if (incoming_.size() + running_ >= kMaxAtOnce) job.error = "too many requests at once";
    incoming_.push_back(std::move(job));
    waits_.Wake();
  }

  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      waits_.Wake();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  struct Job {
    Done done;
    os::Fd fd;
    int64_t deadline_ns = 0;
    bool connected = false;
    bool wants_answer = false;
    std::string unsent;
    HttpResponse response;
    std::string error;  // set: over
    bool complete = false;
    uint64_t tag = 0;  // in the wait set

    bool over() const { return complete || !error.empty(); }
    uint32_t awaited() const { return !connected || !unsent.empty() ? EPOLLOUT : EPOLLIN; }
  };

  static void Begin(const std::string& address, Job* job) {
    const absl::StatusOr<os::SocketAddress> peer = os::Resolve(address);
    if (!peer.ok()) {
      job->error = std::string(peer.status().message());
      return;
    }
    job->fd.Reset(socket(peer->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!job->fd || (connect(job->fd.get(), peer->get(), peer->length) != 0 && errno != EINPROGRESS)) {
      job->error = ErrnoText(errno);
    }
  }

  void Run() {
    std::list<Job> jobs;
    std::vector<os::WaitSet::Event> events;
    uint64_t last_tag = 0;
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
        for (Job& job : incoming_) {
          job.tag = ++last_tag;
          if (!job.over()) waits_.Add(job.fd, job.tag, job.awaited());
          jobs.push_back(std::move(job));
        }
        incoming_.clear();
        running_ = jobs.size();
      }
      int64_t wait_until = INT64_MAX;
      for (const Job& job : jobs) wait_until = std::min(wait_until, job.over() ? 0 : job.deadline_ns);
      waits_.Wait(wait_until, &events);
      for (const os::WaitSet::Event& event : events) {
        const auto job = std::find_if(jobs.begin(), jobs.end(), [&](const Job& each) { return each.tag == event.tag; });
        if (job == jobs.end()) continue;
        Advance(&*job);
        if (!job->over()) waits_.Change(job->fd, job->tag, job->awaited());
      }
      const int64_t now = os::MonotonicNs();
      for (auto job = jobs.begin(); job != jobs.end();) {
        if (!job->over() && now >= job->deadline_ns) {
          job->error = job->connected ? "no answer in time" : "no connection in time";
        }
        if (!job->over()) {
          ++job;
          continue;
        }
        FetchResult result{.error = job->error, .status = job->response.status(), .body = job->response.body()};
        const Done done = std::move(job->done);
        if (job->fd) waits_.Remove(job->fd);
        job = jobs.erase(job);
        done(std::move(result));
      }
    }
  }

  static void Advance(Job* job) {
    if (!job->connected) {
      int error = 0;
      socklen_t length = sizeof error;
      getsockopt(job->fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0) {
        job->error = ErrnoText(error);
        return;
      }
      job->connected = true;
      job->complete = !job->wants_answer;
      if (job->complete) return;
    }
    if (!job->unsent.empty()) {
      const ssize_t sent = send(job->fd.get(), job->unsent.data(), job->unsent.size(), MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) job->error = ErrnoText(errno);
        return;
      }
      job->unsent.erase(0, static_cast<size_t>(sent));
      return;
    }
    char buffer[16'384];
    const ssize_t got = recv(job->fd.get(), buffer, sizeof buffer, 0);
    if (got < 0) {
      if (errno != EAGAIN && errno != EINTR) job->error = ErrnoText(errno);
    } else if (got == 0) {
      const absl::Status status = job->response.Finish();
      job->complete = status.ok();
      if (!status.ok()) job->error = std::string(status.message());
    } else {
      const absl::StatusOr<bool> complete = job->response.Append({buffer, static_cast<size_t>(got)});
      if (!complete.ok()) {
        job->error = std::string(complete.status().message());
      } else {
        job->complete = *complete;
      }
    }
  }

  os::WaitSet waits_;  // but for Wake, the thread's own
  std::mutex mutex_;
  std::vector<Job> incoming_;  // guarded by mutex_
  size_t running_ = 0;         // guarded by mutex_
  bool stopping_ = false;      // guarded by mutex_
  std::thread thread_;         // last: starts when all else stands
};

Fetcher::Fetcher() : impl_(std::make_unique<Impl>()) {}
Fetcher::~Fetcher() = default;
void Fetcher::Get(const Request& request, Done done) { impl_->Get(request, std::move(done)); }
void Fetcher::Stop() { impl_->Stop(); }

}  // namespace loadstar::agent
