#include "target/api.h"

#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/os/ports.h"
#include "target/exposition.h"
#include "target/json_rpc.h"
#include "target/process_usage.h"

namespace loadstar::target {
namespace {

using nlohmann::json;

constexpr const char* kJson = "application/json";
constexpr int kOk = 200;
constexpr int kAccepted = 202;
constexpr int kBadRequest = 400;
constexpr int kServiceUnavailable = 503;
constexpr size_t kThreads = 4;
constexpr time_t kClientPatience_s = 5;

std::string Dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

// Only what it says: no SO_REUSEPORT, by which httplib would share the port with whoever has it already.
void SetSocketOptions(int fd) {
  const int on = 1;
  (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

}  // namespace

class Api::Impl {
 public:
  absl::Status Bind(const net::Address& address) {
    const std::string text = net::ToString(address);
    if (absl::Status free = os::CheckPortFree(text); !free.ok()) {
      return free;
    }
    server_.set_socket_options(SetSocketOptions);
    server_.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    server_.set_read_timeout(kClientPatience_s);
    server_.set_write_timeout(kClientPatience_s);
    server_.set_payload_max_length(NodeServer::kLineMax);
    const size_t colon = text.rfind(':');
    std::string host = text.substr(0, colon);
    if (host.front() == '[') {
      host = host.substr(1, host.size() - 2);
    }
    const std::string port_text = text.substr(colon + 1);
    int port = std::stoi(port_text);
    if (port == 0) {
      port = server_.bind_to_any_port(host);
    } else if (!server_.bind_to_port(host, port)) {
      port = -1;
    }
    if (port < 0) {
      return absl::UnavailableError(absl::StrCat("cannot listen on ", text, " for the API"));
    }
    absl::StatusOr<net::Address> bound = net::ParseAddress(absl::StrCat(text.substr(0, colon), ":", port));
    if (!bound.ok()) {
      return bound.status();
    }
    address_ = *bound;
    return absl::OkStatus();
  }

  void Start(const Options* options, const SharedState* state, Supervisor* supervisor) {
    options_ = options;
    state_ = state;
    supervisor_ = supervisor;
    started_ = std::chrono::steady_clock::now();
    server_.Get("/health", [this](const httplib::Request&, httplib::Response& response) { Health(&response); });
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) { Metrics(&response); });
    server_.Get("/fault", [this](const httplib::Request&, httplib::Response& response) { GetFault(&response); });
    server_.Post("/fault", [this](const httplib::Request& request, httplib::Response& response) {
      PostFault(request.body, &response);
    });
    server_.Post("/", [this](const httplib::Request& request, httplib::Response& response) {
      PostRpc(request.body, &response);
    });
    server_.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
      if (response.body.empty()) {
        const std::string text = absl::StrCat(request.method, " ", request.path.substr(0, 100),
                                              ": there are GET /health, /metrics, /fault and POST /fault, /");
        response.set_content(Dump({{"error", text}}), kJson);
      }
    });
    done_ = std::async(std::launch::async, [this] { server_.listen_after_bind(); });
    while (!server_.is_running() && done_.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
    }
  }

  bool Stop(int patience_ms) {
    if (!done_.valid()) {
      return true;
    }
    server_.stop();
    return done_.wait_for(std::chrono::milliseconds(patience_ms)) == std::future_status::ready;
  }

  const net::Address& address() const { return address_; }

 private:
  void Health(httplib::Response* response) const {
    json pids = json::array();
    uint64_t connections = 0;
    uint64_t restarts = 0;
    bool all_serving = true;
    for (uint32_t i = 0; i < state_->processes(); ++i) {
      const ProcessCells& process = state_->process(i);
      const pid_t pid = process.pid.load();
      all_serving = all_serving && pid != 0 && process.state.load() == ServingState::kServing;
      connections += process.connections.Get();
      restarts += process.restarts.Get();
      pids.push_back(pid);
    }
    const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - started_;
    response->status = all_serving ? kOk : kServiceUnavailable;
    response->set_content(Dump({{"status", all_serving ? "ok" : "degraded"},
                                {"name", options_->name},
                                {"role", options_->role},
                                {"version", LOADSTAR_VERSION},
                                {"pid", getpid()},
                                {"processes", state_->processes()},
                                {"pids", pids},
                                {"restarts", restarts},
                                {"uptime_s", uptime.count()},
                                {"connections", connections},
                                {"listen", net::ToString(options_->listen_address)},
                                {"api", net::ToString(options_->api_address)}}),
                          kJson);
  }

  void Metrics(httplib::Response* response) const {
    const double clock_s = static_cast<double>(net::Loop::ReadClock()) / 1e9;
    response->set_content(RenderMetrics(*options_, *state_, clock_s, ReadUsage(getpid()).value_or(ProcessUsage{}),
                                        [this](uint32_t index) { return supervisor_->Usage(index); }),
                          "text/plain; version=0.0.4; charset=utf-8");
  }

  void GetFault(httplib::Response* response) const {
    response->set_content(FaultsToJson(state_->faults().Read(net::Loop::ReadClock())), kJson);
  }

  void PostFault(const std::string& body, httplib::Response* response) {
    const ParsedFaults parsed = ParseFaults(body);
    if (!parsed.errors.empty()) {
      response->status = kBadRequest;
      response->set_content(FieldErrorsToJson(parsed.errors), kJson);
      return;
    }
    const std::scoped_lock lock(fault_mutex_);  // two clients at once: one whole setting wins, not a mixture
    state_->faults().Apply(parsed.settings, net::Loop::ReadClock());
    supervisor_->AnnounceFaults();
    GetFault(response);
  }

  void PostRpc(const std::string& body, httplib::Response* response) const {
    std::string answer;
    if (JsonRpc(options_->name, LOADSTAR_VERSION).Answer(body, nullptr, &answer).answered) {
      response->set_content(answer, kJson);
    } else {
      response->status = kAccepted;
    }
  }

  httplib::Server server_;
  net::Address address_;
  const Options* options_ = nullptr;
  const SharedState* state_ = nullptr;
  Supervisor* supervisor_ = nullptr;
  std::chrono::steady_clock::time_point started_;
  std::mutex fault_mutex_;
  std::future<void> done_;
};

absl::StatusOr<std::unique_ptr<Api>> Api::Bind(const net::Address& address) {
  auto impl = std::make_unique<Impl>();
  if (absl::Status bound = impl->Bind(address); !bound.ok()) {
    return bound;
  }
  return std::unique_ptr<Api>(new Api(std::move(impl)));
}

Api::Api(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Api::~Api() = default;
const net::Address& Api::address() const { return impl_->address(); }
void Api::Start(const Options* options, const SharedState* state, Supervisor* supervisor) {
  impl_->Start(options, state, supervisor);
}
bool Api::Stop(int patience_ms) { return impl_->Stop(patience_ms); }

}  // namespace loadstar::target
