// The small parts: requests in flight, errors, settings, the control channel's frames, the recorder's bounds.
#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <string>

#include "agent/worker/control.h"
#include "agent/worker/errors.h"
#include "agent/worker/in_flight.h"
#include "agent/worker/recorder.h"
#include "agent/worker/settings.h"
#include "agent/worker/usage.h"
#include "tests/worker/sim_run.h"

namespace loadstar::worker {
namespace {

TEST(InFlightTest, InOrderTheOldestIsKnown) {
  InFlightTable table(1, 3, /*in_order=*/true);
  InFlightPlaces places;
  EXPECT_EQ(table.OldestId(places), 0U);
  std::vector<uint64_t> ids;
  for (int round = 0; round < 10; ++round) {
    while (places.count < 3) {
      ids.push_back(table.NextId(places));
      table.Add(0, &places, ids.back(), round, round);
    }
    for (int leaving = 0; leaving <= round % 3; ++leaving) {
      ASSERT_EQ(table.OldestId(places), ids.front());
      InFlightRequest* oldest = table.Find(0, places, ids.front());
      ASSERT_NE(oldest, nullptr);
      table.Remove(0, &places, oldest);
      EXPECT_EQ(table.Find(0, places, ids.front()), nullptr);
      ids.erase(ids.begin());
    }
  }
  EXPECT_EQ(InFlightTable::SequenceOf(ids.front()), places.sequence - places.count + 1);
}

TEST(InFlightTest, IdsGrowAndPlacesAreUsedAgain) {
  InFlightTable table(2, 3, /*in_order=*/false);
  ASSERT_TRUE(table.ok());
  InFlightPlaces places;
  uint64_t last = 0;
  std::set<uint64_t> ids;
  for (int i = 0; i < 3; ++i) {
    const uint64_t id = table.NextId(places);
    EXPECT_GT(id, last);
    last = id;
    ids.insert(id);
    table.Add(1, &places, id, i, i);
  }
  EXPECT_EQ(places.count, 3);
  const uint64_t gone = *ids.begin();
  table.Remove(1, &places, table.Find(1, places, gone));
  EXPECT_EQ(table.Find(1, places, gone), nullptr);
  const uint64_t id = table.NextId(places);
  EXPECT_GT(id, last);
  table.Add(1, &places, id, 77, 78);
  EXPECT_EQ(table.Find(1, places, gone), nullptr) << "a late answer does not match the place's new request";
  ASSERT_NE(table.Find(1, places, id), nullptr);
  EXPECT_EQ(table.Find(1, places, id)->intended_ns, 77);
  EXPECT_EQ(table.Find(0, InFlightPlaces(), id), nullptr);
}

TEST(InFlightTest, ManyPlacesComeAndGoInAnyOrder) {
  InFlightTable table(1, InFlightTable::kMaxPlaces, /*in_order=*/false);
  InFlightPlaces places;
  std::vector<uint64_t> ids;
  for (uint64_t round = 0; round < 20'000; ++round) {
    if (places.count < table.places() && round % 3 != 0) {
      ids.push_back(table.NextId(places));
      table.Add(0, &places, ids.back(), static_cast<int64_t>(ids.back()), 0);
    } else if (!ids.empty()) {
      const size_t pick = (round * 7919) % ids.size();
      InFlightRequest* request = table.Find(0, places, ids[pick]);
      ASSERT_NE(request, nullptr);
      EXPECT_EQ(request->intended_ns, static_cast<int64_t>(ids[pick]));
      table.Remove(0, &places, request);
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(pick));
    }
    ASSERT_EQ(places.count, ids.size());
  }
}

TEST(ErrorsTest, EveryErrnoHasItsKind) {
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECTION, 0).kind, v1::ERROR_KIND_CLOSED_BY_PEER);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, ECONNREFUSED).kind, v1::ERROR_KIND_REFUSED);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, ECONNRESET).kind, v1::ERROR_KIND_RESET);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, EPIPE).kind, v1::ERROR_KIND_RESET);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, ETIMEDOUT).kind, v1::ERROR_KIND_CONNECT_TIMEOUT);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECTION, ETIMEDOUT).kind, v1::ERROR_KIND_TRANSPORT_TIMEOUT);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECTION, ECONNRESET).kind, v1::ERROR_KIND_RESET);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, EMFILE).kind, v1::ERROR_KIND_NO_DESCRIPTORS);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, ENFILE).kind, v1::ERROR_KIND_NO_DESCRIPTORS);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, EADDRNOTAVAIL).kind, v1::ERROR_KIND_NO_PORTS);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, ENOBUFS).kind, v1::ERROR_KIND_NO_MEMORY);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, EHOSTUNREACH).kind, v1::ERROR_KIND_OTHER);
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, EHOSTUNREACH).detail, "EHOSTUNREACH");
  EXPECT_EQ(FailureOfErrno(v1::ERROR_PHASE_CONNECT, 9999).detail, "errno 9999");
}

TEST(SettingsTest, DefaultsAreFilledIn) {
  auto settings = Settings::From(PlanBuilder().Hold(kS, 5).plan());
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->connect_timeout_ns, 10 * kS);
  EXPECT_EQ(settings->request_timeout_ns, 30 * kS);
  EXPECT_EQ(settings->initial_backoff_ns, 100 * kMs);
  EXPECT_EQ(settings->max_backoff_ns, 10 * kS);
  EXPECT_EQ(settings->pace, Pace::kNone);
  EXPECT_EQ(settings->pipeline, 1u);
  EXPECT_FALSE(settings->reconnect);
  EXPECT_EQ(settings->heartbeat_every_ns, 0);
  EXPECT_FALSE(settings->keepalive.has_value());
}

TEST(SettingsTest, HeartbeatAndKeepaliveHaveDefaults) {
  PlanBuilder plan;
  plan.Hold(kS, 5).plan().mutable_load()->mutable_heartbeat()->mutable_every()->set_seconds(30);
  plan.plan().mutable_load()->mutable_keepalive()->mutable_idle()->set_seconds(60);
  auto settings = Settings::From(plan.plan());
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->heartbeat_every_ns, 30 * kS);
  EXPECT_EQ(settings->heartbeat_timeout_ns, 10 * kS);
  EXPECT_EQ(settings->keepalive->idle_s, 60);
  EXPECT_EQ(settings->keepalive->interval_s, 10);
  EXPECT_EQ(settings->keepalive->probes, 3);
}

TEST(SettingsTest, WrongPlansAreRefusedWithTheFieldsName) {
  struct Row {
    const char* field;
    void (*spoil)(v1::WorkerPlan*);
  };
  const Row rows[] = {
      {"worker_index", [](v1::WorkerPlan* plan) { plan->set_worker_index(3); }},
      {"endpoints", [](v1::WorkerPlan* plan) { plan->clear_endpoints(); }},
      {"endpoints", [](v1::WorkerPlan* plan) { plan->add_endpoints("localhost:1"); }},
      {"source_addresses", [](v1::WorkerPlan* plan) { plan->mutable_load()->add_source_addresses("eth0"); }},
      {"connections_max", [](v1::WorkerPlan* plan) { plan->set_connections_max(UINT64_MAX); }},
      {"pipeline", [](v1::WorkerPlan* plan) { plan->mutable_load()->mutable_requests()->set_pipeline(2000); }},
      {"model", [](v1::WorkerPlan* plan) { plan->mutable_load()->mutable_requests()->clear_model(); }},
      {"rate_scope", [](v1::WorkerPlan* plan) { plan->mutable_load()->mutable_requests()->clear_rate_scope(); }},
      {"rate_per_s", [](v1::WorkerPlan* plan) { plan->mutable_load()->mutable_requests()->set_rate_per_s(NAN); }},
      {"think", [](v1::WorkerPlan* plan) { plan->mutable_load()->mutable_requests()->mutable_think()->set_nanos(-1); }},
      {"heartbeat.every", [](v1::WorkerPlan* plan) { plan->mutable_load()->mutable_heartbeat(); }},
      {"keepalive.idle", [](v1::WorkerPlan* plan) { plan->mutable_load()->mutable_keepalive(); }},
      {"keepalive.interval",
       [](v1::WorkerPlan* plan) {
         plan->mutable_load()->mutable_keepalive()->mutable_idle()->set_seconds(1);
         plan->mutable_load()->mutable_keepalive()->mutable_interval()->set_seconds(40'000);
       }},
      {"connect_timeout",
       [](v1::WorkerPlan* plan) { plan->mutable_load()->mutable_connect_timeout()->set_seconds(INT64_MAX); }},
  };
  for (const Row& row : rows) {
    v1::WorkerPlan plan = PlanBuilder().Hold(kS, 5).Open(1, v1::RATE_SCOPE_TOTAL).plan();
    row.spoil(&plan);
    const auto settings = Settings::From(plan);
    ASSERT_FALSE(settings.ok()) << row.field;
    EXPECT_NE(settings.status().message().find(row.field), absl::string_view::npos) << settings.status();
  }
}

TEST(ControlTest, MessagesSurviveAnyCut) {
  std::string stream;
  for (int64_t i = 0; i < 20; ++i) {
    v1::AgentToWorker message;
    message.mutable_stop()->set_at_elapsed_ns(i * 1'000'000);
    stream += Frame(message);
  }
  for (size_t step = 1; step < 40; ++step) {
    FrameReader reader;
    std::vector<int64_t> got;
    for (size_t at = 0; at < stream.size(); at += step) {
      const std::string part = stream.substr(at, step);
      ASSERT_TRUE(reader
                      .Feed(std::as_bytes(std::span(part)),
                            [&](v1::AgentToWorker&& message) { got.push_back(message.stop().at_elapsed_ns()); })
                      .ok());
    }
    ASSERT_EQ(got.size(), 20u);
    EXPECT_EQ(got[19], 19'000'000);
  }
}

TEST(ControlTest, WrongLengthsAndBytesAreRefused) {
  for (const std::string& bytes : {std::string("\0\0\0\0", 4), std::string("\xff\xff\xff\xff", 4),
                                   std::string("\0\0\0\2\xff\xff", 6), std::string("GET / HTTP/1.1\r\n\r\n")}) {
    FrameReader reader;
    EXPECT_FALSE(reader.Feed(std::as_bytes(std::span(bytes)), [](v1::AgentToWorker&&) { FAIL(); }).ok());
  }
}

TEST(RecorderTest, KindsOfErrorsAreBounded) {
  Recorder recorder({"a"});
  for (int i = 0; i < 1000; ++i) {
    recorder.ConnectBegun(0);
    recorder.ConnectFailed(0, {v1::ERROR_KIND_OTHER, "E" + std::to_string(i)});
  }
  v1::WorkerSample sample;
  recorder.TakeSecond(&sample);
  EXPECT_LE(sample.figures().errors_size(), static_cast<int>(Recorder::kMaxErrorKeys) + 1);
  uint64_t others = 0;
  for (const v1::ErrorCount& error : sample.figures().errors()) {
    if (error.detail() == Recorder::kOtherDetail) others = error.count();
  }
  EXPECT_EQ(others, 1000 - Recorder::kMaxErrorKeys);
  EXPECT_EQ(ErrorsOf(sample.figures(), v1::ERROR_PHASE_CONNECT), 1000u);
}

TEST(RecorderTest, TotalsAreTheSumOfEndpointsAndSilentEndpointsAreLeftOut) {
  Recorder recorder({"a", "b", "c"});
  for (const uint32_t endpoint : {0U, 2U}) {
    recorder.ConnectBegun(endpoint);
    recorder.ConnectDone(endpoint, 5000);
    recorder.RequestDue(endpoint);
    recorder.RequestSent(endpoint, false, 64, -5);
    recorder.RequestAnswered(endpoint, 3'000'000, 2'000'000);
  }
  v1::WorkerSample sample;
  recorder.TakeSecond(&sample);
  EXPECT_EQ(sample.endpoints_size(), 2);
  EXPECT_EQ(sample.figures().counters().bytes_sent(), 128u);
  EXPECT_EQ(sample.figures().latency().max_us(), 3000u);
  EXPECT_EQ(sample.figures().schedule_lag().max_us(), 0u);
  recorder.TakeSecond(&sample);
  EXPECT_EQ(sample.figures().counters().ByteSizeLong(), 0u) << "counters are of one second";
  EXPECT_EQ(sample.figures().gauges().connections_established(), 2u) << "gauges stay";
}

TEST(RecorderTest, WaitsOfTheTotalRatesDroppedRequestsAreOfNoEndpoint) {
  Recorder recorder({"a"});
  recorder.TotalRequestsDue(2);
  recorder.TotalRequestDropped(4'000'000);
  recorder.RequestDue(0);
  recorder.RequestDropped(0, 3'000'000);
  v1::WorkerSample sample;
  recorder.TakeSecond(&sample);
  EXPECT_EQ(sample.figures().counters().requests_dropped(), 2u);
  EXPECT_EQ(sample.figures().gauges().requests_backlog(), 1u);
  EXPECT_EQ(sample.figures().latency().sum_us(), 7000u);
  EXPECT_EQ(sample.endpoints(0).latency().sum_us(), 3000u);
  EXPECT_EQ(sample.figures().service_time().counts_size(), 0) << "there was no send to count from";
  recorder.TakeSecond(&sample);
  EXPECT_EQ(sample.figures().latency().counts_size(), 0);
}

TEST(UsageTest, MeasuresThisProcess) {
  UsageMeter meter;
  v1::WorkerUsage usage;
  const int64_t begin_ns = net::Loop::ReadClock();
  meter.Begin(begin_ns, {.turns = 3, .queue_overflows = 1});
  int64_t now_ns = begin_ns;
  while (now_ns < begin_ns + 20'000'000) now_ns = net::Loop::ReadClock();
  meter.Take(now_ns, {.turns = 10, .queue_overflows = 5}, &usage);
  EXPECT_EQ(usage.interval_ns(), static_cast<uint64_t>(now_ns - begin_ns));
  EXPECT_GT(usage.cpu_ns(), 1'000'000u);
  ASSERT_TRUE(usage.has_core_wait_ns()) << "this kernel has schedstat";
  EXPECT_GE(usage.interval_ns() + 2'000'000, usage.core_wait_ns() + usage.cpu_ns());
  EXPECT_EQ(usage.loop_turns(), 7u);
  EXPECT_EQ(usage.queue_overflows(), 4u);
  EXPECT_GT(usage.rss_bytes(), 1'000'000u);
  ASSERT_TRUE(usage.has_rss_anon_bytes());
  EXPECT_GT(usage.rss_anon_bytes(), 0u);
  EXPECT_LT(usage.rss_anon_bytes(), usage.rss_bytes());
  meter.Take(now_ns + 5, {.turns = 11, .queue_overflows = 5}, &usage);
  EXPECT_EQ(usage.interval_ns(), 5u);
  EXPECT_EQ(usage.loop_turns(), 1u);
  EXPECT_EQ(usage.queue_overflows(), 0u);
}

TEST(UsageTest, KernelThatDoesNotCountWaitsIsNotTakenForOneThatHadNone) {
  const std::string self = testing::TempDir() + "loadstar-usage-" + std::to_string(getpid());
  std::filesystem::create_directories(self);
  const auto waits = [&](const char* first, const char* second) {
    std::ofstream(self + "/schedstat") << first;
    UsageMeter meter(self);
    meter.Begin(0, {});
    std::ofstream(self + "/schedstat") << second;
    v1::WorkerUsage usage;
    meter.Take(1, {}, &usage);
    return usage.has_core_wait_ns() ? std::optional(usage.core_wait_ns()) : std::nullopt;
  };
  EXPECT_EQ(waits("500 70 1\n", "900 70 2\n"), 0u);
  EXPECT_EQ(waits("500 70 1\n", "900 75 2\n"), 5u);
  EXPECT_EQ(waits("0 0 0\n", "0 0 0\n"), std::nullopt) << "schedstats are switched off";
  EXPECT_EQ(waits("500 70\n", "900 75\n"), std::nullopt);
  std::filesystem::remove_all(self);
}

}  // namespace
}  // namespace loadstar::worker
