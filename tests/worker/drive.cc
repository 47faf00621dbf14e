// A developer's tool: drives real workers by hand, without agent and coordinator, and prints a line a second.
//   worker_drive WORKER_PROGRAM BACKEND WORKERS CONNECTIONS RAMP_S HOLD_S RATE tcp|mcp|http SOURCES ENDPOINT...
// BACKEND: auto, io_uring or epoll. RATE: requests a second in all; 0: closed model without a pause, which asks for all
// there is. SOURCES: how many of 127.0.0.2, 127.0.0.3, ... to bind; 0: the kernel chooses.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <string>

#include "lib/metrics/figures.h"
#include "tests/worker/worker_process.h"

namespace {

using loadstar::metrics::FiguresMerger;
using loadstar::worker::WorkerProcess;
namespace v1 = loadstar::v1;

struct Second {
  FiguresMerger figures;
  int workers = 0;
  uint64_t cpu_ns = 0;
  uint64_t rss = 0;
  uint64_t loop_max_ns = 0;
};

void Print(uint32_t elapsed_s, const Second& second) {
  const auto& c = second.figures.counters();
  const auto& g = second.figures.gauges();
  const auto& latency = second.figures.latency();
  std::printf(
      "%3u target=%lu established=%lu pending=%lu due=%lu sent=%lu answered=%lu failed=%lu lost=%lu backlog=%lu "
      "p50=%.2fms p99=%.2fms max=%.2fms service_p99=%.2fms lag_p99=%.2fms connect_p99=%.2fms cpu=%.2f rss=%.1fMB "
      "loop_max=%.1fms\n",
      elapsed_s, g.connections_target(), g.connections_established(), g.connections_pending(), c.requests_due(),
      c.requests_sent(), c.requests_answered(), c.requests_failed(), c.connections_lost() + c.connects_failed(),
      g.requests_backlog(), static_cast<double>(latency.ValueAtQuantile(0.5)) / 1e3,
      static_cast<double>(latency.ValueAtQuantile(0.99)) / 1e3, static_cast<double>(latency.max_us()) / 1e3,
      static_cast<double>(second.figures.service_time().ValueAtQuantile(0.99)) / 1e3,
      static_cast<double>(second.figures.schedule_lag().ValueAtQuantile(0.99)) / 1e3,
      static_cast<double>(second.figures.connect_time().ValueAtQuantile(0.99)) / 1e3,
      static_cast<double>(second.cpu_ns) / 1e9, static_cast<double>(second.rss) / 1e6,
      static_cast<double>(second.loop_max_ns) / 1e6);
  (void)std::fflush(stdout);
}

v1::WorkerPlan PlanOf(int argc, char** argv, uint32_t workers) {
  v1::WorkerPlan plan;
  plan.set_worker_count(workers);
  const auto connections = std::strtoull(argv[4], nullptr, 10);
  plan.set_connections_max(connections / workers + 1);
  v1::Stage* ramp = plan.mutable_load()->add_connections();
  ramp->mutable_duration()->set_seconds(std::strtoll(argv[5], nullptr, 10));
  ramp->set_to_connections(connections);
  v1::Stage* hold = plan.mutable_load()->add_connections();
  hold->mutable_duration()->set_seconds(std::strtoll(argv[6], nullptr, 10));
  hold->set_to_connections(connections);
  v1::RequestsSpec* requests = plan.mutable_load()->mutable_requests();
  const double rate = std::strtod(argv[7], nullptr);
  requests->set_model(rate > 0 ? v1::REQUEST_MODEL_OPEN : v1::REQUEST_MODEL_CLOSED);
  if (rate > 0) requests->set_rate_scope(v1::RATE_SCOPE_TOTAL);
  requests->set_rate_per_s(rate);
  const std::string protocol = argv[8];
  plan.set_protocol(protocol == "mcp"    ? v1::PROTOCOL_MCP_TCP
                    : protocol == "http" ? v1::PROTOCOL_HTTP
                                         : v1::PROTOCOL_TCP);
  plan.mutable_http()->set_method("GET");
  plan.mutable_http()->set_path("/");
  for (int i = 0; i < std::atoi(argv[9]); ++i) {
    plan.mutable_load()->add_source_addresses("127.0.0." + std::to_string(i + 2));
  }
  for (int i = 10; i < argc; ++i) plan.add_endpoints(argv[i]);
  return plan;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 11) {
    (void)std::fputs("see the head of tests/worker/drive.cc\n", stderr);
    return 2;
  }
  const auto count = static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10));
  v1::WorkerPlan plan = PlanOf(argc, argv, count);
  std::deque<WorkerProcess> workers;
  for (uint32_t i = 0; i < count; ++i) {
    plan.set_worker_index(i);
    workers.emplace_back(argv[1], 0, argv[2]);
    if (!workers.back().SendPlan(plan)) return 4;
    const auto ready = workers.back().Next(std::chrono::seconds(10));
    if (!ready.has_value() || !ready->ready().error().empty()) {
      (void)std::fprintf(stderr, "not ready: %s\n", ready.has_value() ? ready->ready().error().c_str() : "silence");
      return 4;
    }
  }
  const int64_t start_ns = loadstar::net::Loop::ReadClock() + 200'000'000;
  for (const WorkerProcess& worker : workers) {
    if (!worker.SendStart(start_ns)) return 4;
  }
  std::map<uint32_t, Second> seconds;
  Second whole;
  uint32_t finished = 0;
  std::vector<bool> done(count);
  while (finished < count) {
    for (uint32_t i = 0; i < count; ++i) {
      if (done[i]) continue;
      const auto message = workers[i].Next(std::chrono::milliseconds(5));
      if (!message.has_value()) continue;
      if (message->has_finished()) {
        done[i] = true;
        ++finished;
      }
      if (message->has_event()) std::printf("event: %s\n", message->event().message().c_str());
      if (!message->has_sample()) continue;
      const v1::WorkerSample& sample = message->sample();
      Second& second = seconds[sample.elapsed_s()];
      if (!second.figures.AddSource(sample.figures()) || !whole.figures.AddSource(sample.figures())) return 4;
      second.cpu_ns += sample.usage().cpu_ns();
      second.rss += sample.usage().rss_bytes();
      second.loop_max_ns = std::max(second.loop_max_ns, sample.usage().loop_max_ns());
      if (++second.workers == static_cast<int>(count)) Print(sample.elapsed_s(), second);
    }
  }
  std::puts("whole (gauges are meaningless here):");
  Print(0, whole);
  // The hold without its first and last second, for benches.
  const auto first = static_cast<uint32_t>(std::strtoul(argv[5], nullptr, 10)) + 1;
  const auto last = first + static_cast<uint32_t>(std::strtoul(argv[6], nullptr, 10)) - 2;
  FiguresMerger held;
  double cpu_s = 0;
  uint64_t rss = 0;
  for (uint32_t s = first; s < last; ++s) {
    v1::LoadFigures figures;
    seconds[s].figures.ToProto(&figures);
    if (!held.AddLater(figures)) return 4;
    cpu_s += static_cast<double>(seconds[s].cpu_ns) / 1e9;
    rss = std::max(rss, seconds[s].rss);
  }
  const auto requests = static_cast<double>(held.counters().requests_answered());
  const auto ms = [](const loadstar::metrics::Histogram& histogram, double quantile) {
    return static_cast<double>(histogram.ValueAtQuantile(quantile)) / 1e3;
  };
  std::printf(
      "{\"requests_in_all\": %lu, \"requests\": %.0f, \"due\": %lu, \"seconds\": %u, \"requests_per_s\": %.1f, "
      "\"cpu_us_per_request\": %.3f, "
      "\"cpu_share\": %.3f, \"rss_bytes\": %lu, \"latency_p50_ms\": %.3f, \"latency_p99_ms\": %.3f, "
      "\"lag_p99_ms\": %.3f, \"failed\": %lu}\n",
      whole.figures.counters().requests_answered(), requests, held.counters().requests_due(), last - first,
      requests / (last - first), cpu_s / requests * 1e6, cpu_s / (last - first), rss, ms(held.latency(), 0.5),
      ms(held.latency(), 0.99), ms(held.schedule_lag(), 0.99), held.counters().requests_failed());
  return 0;
}
