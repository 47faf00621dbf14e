#include "server/service/listener.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/os/ports.h"
#include "lib/rpc/rpc.h"
#include "loadstar/v1/coordinator_service.grpc.pb.h"
#include "server/service/probe.h"

namespace loadstar::server {
namespace {

// Enough for a probe, and for the listener, epoll and wake-up descriptors of a fresh server.
constexpr size_t kReserve = 16;

bool IsUnix(const std::string& address) { return absl::StartsWith(address, "unix:"); }

std::chrono::system_clock::time_point After(absl::Duration duration) {
  return std::chrono::system_clock::now() + absl::ToChronoMilliseconds(duration);
}

}  // namespace

Listener::Listener(Options options, std::function<Services()> make_services, std::function<void()> each_second)
    : options_(std::move(options)), make_services_(std::move(make_services)), each_second_(std::move(each_second)) {}

Listener::~Listener() { Stop(); }

std::string Listener::address() const {
  if (IsUnix(options_.address)) return options_.address;
  return absl::StrCat(options_.address.substr(0, options_.address.rfind(':') + 1), port_);
}

int Listener::rebuilds() const {
  absl::MutexLock lock(&mutex_);
  return rebuilds_;
}

absl::Status Listener::Start() {
  const bool any_port = absl::EndsWith(options_.address, ":0");
  if (!IsUnix(options_.address) && !any_port) {
    if (absl::Status status = os::CheckPortFree(options_.address); !status.ok()) return status;
  }
  if (absl::Status status = Build(); !status.ok()) return status;
  HoldReserve();
  if (!IsUnix(options_.address)) {
    standing_ = rpc::MakeChannel(address());
    // Dialled now, so that it stands before descriptors can run out.
    standing_->WaitForConnected(After(absl::Seconds(2)));
  }
  watchdog_ = std::thread([this] { Watch(); });
  return absl::OkStatus();
}

absl::Status Listener::Build() {
  grpc::ServerBuilder builder;
  rpc::ConfigureServer(&builder);
  int port = 0;
  builder.AddListeningPort(port_ == 0 ? options_.address : address(), grpc::InsecureServerCredentials(), &port);
  Services services = make_services_();
  for (auto& service : services) builder.RegisterService(service.get());
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.address,
                                               ": gRPC does not say why; is the address this host's, and free?"));
  }
  services_ = std::move(services);
  server_ = std::move(server);
  if (port_ == 0) port_ = port;
  return absl::OkStatus();
}

void Listener::TearDown(absl::Duration within) {
  if (server_ == nullptr) return;
  server_->Shutdown(After(within));
  server_->Wait();
  server_.reset();
  services_.clear();
}

void Listener::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (watchdog_.joinable()) watchdog_.join();
  standing_.reset();
  TearDown(options_.shutdown_within);
}

void Listener::HoldReserve() {
  while (reserve_.size() < kReserve) {
    os::Fd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!fd) return;
    reserve_.push_back(std::move(fd));
  }
}

bool Listener::AnswersOnStandingConnection() {
  grpc::ClientContext context;
  context.set_deadline(After(absl::Seconds(1)));
  v1::GetRunRequest request;  // names no run: refused at once, by a handler that needs nothing else
  v1::GetRunResponse response;
  const grpc::Status status = v1::CoordinatorService::NewStub(standing_)->GetRun(&context, request, &response);
  return status.error_code() == grpc::StatusCode::INVALID_ARGUMENT;
}

void Listener::Watch() {
  absl::Time alive_at = absl::Now();
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(this, &Listener::IsStopping), options_.probe_every)) return;
    }
    each_second_();
    if (IsUnix(options_.address)) continue;
    ProbeResult result = ProbeListener(address(), options_.probe_timeout);
    if (result == ProbeResult::kNoDescriptors) {
      spdlog::error("listener: event=no-descriptors remedy=\"raise the limit (ulimit -n) or close connections\"");
      reserve_.clear();
      result = ProbeListener(address(), options_.probe_timeout);
    }
    if (result == ProbeResult::kAlive) {
      alive_at = absl::Now();
      HoldReserve();
      continue;
    }
    const bool answers = AnswersOnStandingConnection();
    if (!answers && absl::Now() - alive_at < options_.rebuild_after) continue;
    spdlog::error("listener: event=dead address={} reason=\"no new connection is accepted\" action=rebuild", address());
    reserve_.clear();
    TearDown(absl::Milliseconds(300));
    while (true) {
      const absl::Status status = Build();
      if (status.ok()) break;
      spdlog::error("listener: event=rebuild-failed error=\"{}\" retry_in=200ms", std::string(status.message()));
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(this, &Listener::IsStopping), absl::Milliseconds(200))) return;
    }
    HoldReserve();
    standing_->WaitForConnected(After(absl::Milliseconds(500)));
    alive_at = absl::Now();
    absl::MutexLock lock(&mutex_);
    ++rebuilds_;
    spdlog::warn("listener: event=rebuilt address={} rebuilds={}", address(), rebuilds_);
  }
}

}  // namespace loadstar::server
