#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "lib/metrics/figures.h"
#include "server/results/cells.h"
#include "server/results/documents.h"
#include "server/results/summary_parts.h"
#include "server/results/tables.h"

namespace loadstar::server::results {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

void RecordInto(v1::Histogram* wire, const std::vector<uint64_t>& values_us) {
  metrics::Histogram histogram;
  for (uint64_t value : values_us) histogram.Record(value);
  histogram.ToProto(wire);
}

v1::Snapshot FullSnapshot() {
  v1::Snapshot snapshot;
  snapshot.set_from_elapsed_s(3);
  snapshot.set_to_elapsed_s(3);
  snapshot.mutable_time()->set_seconds(1'700'000'004);
  snapshot.mutable_time()->set_nanos(500'000'000);
  v1::Counters* counters = snapshot.mutable_figures()->mutable_counters();
  counters->set_connects_established(250);
  counters->set_connects_failed(3);
  counters->set_connections_closed(10);
  counters->set_connections_lost(2);
  counters->set_requests_answered(1000);
  v1::Gauges* gauges = snapshot.mutable_figures()->mutable_gauges();
  gauges->set_connections_target(1000);
  gauges->set_connections_established(990);
  v1::Percentiles* latency = snapshot.mutable_latency();
  latency->set_count(1000);
  latency->set_p50_us(1234);
  latency->set_p90_us(2000);
  latency->set_p95_us(2500);
  latency->set_p99_us(5000);
  latency->set_p999_us(10'000);
  latency->set_max_us(1'000'001);
  *snapshot.mutable_service_time() = *latency;
  v1::EndpointFigures* endpoint = snapshot.add_endpoints();
  endpoint->set_endpoint("127.0.0.1:9100");
  endpoint->set_node("node1");
  endpoint->mutable_counters()->set_requests_answered(400);
  endpoint->mutable_counters()->set_requests_failed(4);
  endpoint->mutable_counters()->set_connections_lost(2);
  endpoint->mutable_counters()->set_connects_failed(1);
  endpoint->mutable_gauges()->set_connections_established(500);
  RecordInto(endpoint->mutable_latency(), {1000, 1000, 2000});
  v1::NodeFigures* node = snapshot.add_nodes();
  node->set_node("node1");
  node->set_reachable(true);
  node->set_connections(500);
  node->set_requests_total(4000);
  node->set_cpu_seconds_total(1.25);
  return snapshot;
}

std::string Append(size_t table, const v1::Run& run, const v1::Snapshot& snapshot) {
  std::string out;
  Tables()[table].append(run, snapshot, &out);
  return out;
}

TEST(Tables, HeadersAreThoseOfTheIssue) {
  ASSERT_EQ(Tables().size(), 4u);
  EXPECT_EQ(Tables()[0].file_name, "connections.csv");
  EXPECT_EQ(Tables()[0].header, "elapsed_s,time,target,established,opened,closed,failed,opened_per_s\n");
  EXPECT_EQ(Tables()[1].file_name, "latency.csv");
  EXPECT_THAT(Tables()[1].header,
              ::testing::StartsWith("elapsed_s,requests,p50_ms,p90_ms,p95_ms,p99_ms,p999_ms,max_ms,"));
  EXPECT_EQ(Tables()[2].file_name, "node-metrics.csv");
}

TEST(Tables, ConnectionsRow) {
  EXPECT_EQ(Append(0, {}, FullSnapshot()), "3,2023-11-14T22:13:24.500Z,1000,990,250,12,3,250\n");
}

TEST(Tables, LatencyRowLeavesWhatWasNotMeasuredEmpty) {
  EXPECT_EQ(Append(1, {}, FullSnapshot()),
            "3,1000,1.234,2.000,2.500,5.000,10.000,1000.001,1.234,2.000,2.500,5.000,10.000,1000.001,,,,,,\n");
}

TEST(Tables, NodesRowHasBothWitnessesInTheirOwnColumns) {
  EXPECT_EQ(Append(2, {}, FullSnapshot()), "3,node1,127.0.0.1:9100,500,400,7,1.000,2.000,500,,4000,,,,1.25,\n");
}

TEST(Tables, ANodeThatDidNotAnswerHasEmptyCellsAndNoZeros) {
  v1::Snapshot snapshot = FullSnapshot();
  snapshot.mutable_nodes(0)->set_reachable(false);
  EXPECT_EQ(Append(2, {}, snapshot), "3,node1,127.0.0.1:9100,500,400,7,1.000,2.000,,,,,,,,\n");
}

TEST(Tables, ANodeThatTheWorkersDidNotSeeStillHasItsOwnFigures) {
  v1::Run run;
  run.add_endpoints("127.0.0.1:9100");
  run.add_nodes("node1");
  v1::Snapshot snapshot = FullSnapshot();
  snapshot.clear_endpoints();
  EXPECT_EQ(Append(2, run, snapshot), "3,node1,127.0.0.1:9100,,,,,,500,,4000,,,,1.25,\n");
}

TEST(Tables, NothingMeasuredIsNothingWritten) {
  v1::Snapshot empty;
  empty.set_to_elapsed_s(5);
  empty.set_from_elapsed_s(5);
  EXPECT_EQ(Append(0, {}, empty), "5,,,,,,,\n");
  EXPECT_EQ(Append(1, {}, empty), "5,,,,,,,,,,,,,,,,,,,\n");
  EXPECT_EQ(Append(2, {}, empty), "");
}

TEST(Tables, EveryRowHasTheCellsOfItsHeader) {
  for (size_t table = 0; table < Tables().size(); ++table) {
    const size_t columns = std::vector<std::string>(absl::StrSplit(Tables()[table].header, ',')).size();
    EXPECT_EQ(std::vector<std::string>(absl::StrSplit(Append(table, {}, FullSnapshot()), ',')).size(), columns)
        << Tables()[table].file_name;
  }
}

TEST(Row, QuotesAsRfc4180Has) {
  std::string out;
  Row(&out).Text("plain").Text("a,b").Text("say \"no\"").Text("two\nlines").Text("");
  EXPECT_EQ(out, "plain,\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",\n");
}

TEST(Cells, Numbers) {
  std::string out;
  Row(&out).Number(250).Number(0.5).Number(1e7).Number(0).Ms(999).Ms(1'000'000);
  EXPECT_EQ(out, "250,0.5,10000000,0,0.999,1000.000\n");
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(12345678), "12,345,678");
}

// The sums of the tables' columns are the totals of the run, for random runs.
TEST(Tables, SumsEqualTheTotals) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    metrics::FiguresMerger total;
    std::map<std::string, uint64_t> sums;
    std::string connections, latency, nodes;
    const auto seconds = static_cast<uint32_t>(1 + random() % 40);
    for (uint32_t second = 0; second < seconds; ++second) {
      v1::Snapshot snapshot;
      snapshot.set_from_elapsed_s(second);
      snapshot.set_to_elapsed_s(second);
      for (int node = 0; node < 3; ++node) {
        v1::EndpointFigures* endpoint = snapshot.add_endpoints();
        endpoint->set_node(absl::StrCat("node", node));
        v1::Counters* counters = endpoint->mutable_counters();
        counters->set_connects_established(random() % 1000);
        counters->set_connects_failed(random() % 10);
        counters->set_connections_closed(random() % 500);
        counters->set_connections_lost(random() % 5);
        counters->set_requests_answered(random() % 100'000);
        counters->set_requests_failed(random() % 100);
        metrics::AddCounters(*counters, snapshot.mutable_figures()->mutable_counters());
      }
      ASSERT_TRUE(total.AddLater(snapshot.figures()));
      Tables()[0].append({}, snapshot, &connections);
      Tables()[1].append({}, snapshot, &latency);
      Tables()[2].append({}, snapshot, &nodes);
    }
    const auto sum = [](const std::string& rows, size_t column) {
      uint64_t result = 0;
      for (const auto& line : absl::StrSplit(rows, '\n', absl::SkipEmpty())) {
        const std::vector<std::string> cells = absl::StrSplit(line, ',');
        uint64_t cell = 0;
        if (!cells[column].empty()) {
          EXPECT_TRUE(absl::SimpleAtoi(cells[column], &cell)) << cells[column];
        }
        result += cell;
      }
      return result;
    };
    const v1::Counters& c = total.counters();
    ASSERT_EQ(sum(connections, 4), c.connects_established()) << "seed " << seed;
    ASSERT_EQ(sum(connections, 5), c.connections_closed() + c.connections_lost()) << "seed " << seed;
    ASSERT_EQ(sum(connections, 6), c.connects_failed()) << "seed " << seed;
    ASSERT_EQ(sum(latency, 1), c.requests_answered()) << "seed " << seed;
    ASSERT_EQ(sum(nodes, 4), c.requests_answered()) << "seed " << seed;
    ASSERT_EQ(sum(nodes, 5), c.connects_failed() + c.connections_lost() + c.requests_failed()) << "seed " << seed;
  }
}

v1::Run FullRun() {
  v1::Run run;
  run.set_run_id("smoke-20250131-120000");
  run.mutable_test()->set_name("smoke");
  run.mutable_test()->mutable_target()->set_stack("four-nodes");
  run.mutable_test()->mutable_target()->set_protocol(v1::PROTOCOL_MCP_TCP);
  v1::LoadSpec* load = run.mutable_test()->mutable_load();
  v1::Stage* ramp = load->add_connections();
  ramp->mutable_duration()->set_seconds(60);
  ramp->set_to_connections(1000);
  v1::Stage* hold = load->add_connections();
  hold->mutable_duration()->set_seconds(90);
  hold->set_to_connections(1000);
  hold->set_hold(true);
  load->mutable_requests()->set_model(v1::REQUEST_MODEL_OPEN);
  load->mutable_requests()->set_rate_per_s(1);
  load->mutable_requests()->set_rate_scope(v1::RATE_SCOPE_PER_CONNECTION);
  load->mutable_requests()->mutable_timeout()->set_seconds(30);
  load->mutable_requests()->set_pipeline(1);
  run.set_state(v1::RUN_STATE_FINISHED);
  run.add_endpoints("127.0.0.1:9100");
  run.add_nodes("node1");
  run.set_recorded_s(150);
  run.set_peak_connections(1000);
  v1::Counters* counters = run.mutable_totals()->mutable_counters();
  counters->set_connects_established(1000);
  counters->set_connections_closed(1000);
  counters->set_requests_due(120'000);
  counters->set_requests_sent(120'000);
  counters->set_requests_answered(119'990);
  counters->set_requests_failed(10);
  v1::ErrorCount* error = run.mutable_totals()->add_errors();
  error->set_phase(v1::ERROR_PHASE_REQUEST);
  error->set_kind(v1::ERROR_KIND_RPC_ERROR);
  error->set_detail("-32601");
  error->set_count(10);
  run.mutable_latency()->set_count(120'000);
  run.mutable_latency()->set_p99_us(61'000);
  run.mutable_verdict()->set_kind(v1::VERDICT_KIND_FAILED);
  v1::Reason* reason = run.mutable_verdict()->add_reasons();
  reason->set_side(v1::SIDE_TARGET);
  reason->set_code("threshold");
  reason->set_message("latency.p99 was 61 ms");
  reason->set_remedy("look at node1");
  v1::ThresholdResult* threshold = run.add_thresholds();
  threshold->mutable_threshold()->set_metric("latency.p99");
  threshold->mutable_threshold()->set_text("latency.p99 < 50ms");
  threshold->set_measured(61'000);
  v1::ThresholdResult* unmeasured = run.add_thresholds();
  unmeasured->mutable_threshold()->set_metric("handshake_time.p99");
  unmeasured->mutable_threshold()->set_text("handshake_time.p99 < 1s");
  v1::Participant* part = run.add_participants();
  part->set_agent("host1");
  part->set_worker_count(2);
  part->set_lost(true);
  run.mutable_start_skew()->set_nanos(250'000);
  run.add_gaps("host1:31-45");
  return run;
}

TEST(Summary, SaysTheVerdictWithReasonsAndRemediesFirst) {
  EXPECT_THAT(Summary(FullRun(), "1.2.3"), ::testing::StartsWith("Run smoke-20250131-120000: FAILED\n"
                                                                 "  target (threshold): latency.p99 was 61 ms\n"
                                                                 "    -> look at node1\n"));
}

TEST(Summary, SaysEverythingThatDecidesHowToReadIt) {
  const std::string text = Summary(FullRun(), "1.2.3");
  EXPECT_THAT(text, HasSubstr("NOT HELD    latency.p99 < 50ms                 measured 61.000 ms"));
  EXPECT_THAT(text, HasSubstr("handshake_time.p99 < 1s            not measured"));
  EXPECT_THAT(text, HasSubstr("peak 1,000 of 1,000 planned"));
  EXPECT_THAT(text, HasSubstr("sent 120,000 = answered 119,990 + failed 10 + outstanding at the end 0"));
  EXPECT_THAT(text, HasSubstr("rpc error: -32601"));
  EXPECT_THAT(text, HasSubstr("host1: 2 workers, never started, LOST"));
  EXPECT_THAT(text, HasSubstr("start skew 0.250 ms"));
  EXPECT_THAT(text, HasSubstr("host1:31-45"));
  EXPECT_THAT(text, HasSubstr("ramp 1 min to 1,000, hold 1 min 30 s"));
  EXPECT_THAT(text, HasSubstr("open model, 1/s per connection"));
  EXPECT_THAT(text, HasSubstr("loadstar 1.2.3"));
  EXPECT_THAT(text, HasSubstr("service time   not measured"));
  EXPECT_THAT(text, Not(HasSubstr("CLOSED MODEL")));
}

TEST(Summary, ShowsWhatTheHostsCountedAndWhatIsAbsentAsAbsent) {
  v1::Run run = FullRun();
  EXPECT_THAT(Summary(run, "1"), Not(HasSubstr("host of agent")));
  v1::HostFigures* host = run.mutable_participants(0)->mutable_host();
  host->set_cpu_ns(200);
  host->set_cpu_busy_ns(150);
  host->set_busiest_core_ratio(0.98);
  host->set_segments_sent(1'000);
  host->set_segments_retransmitted(1);
  host->set_sockets_time_wait(1'200);
  run.mutable_participants(0)->set_memory_taken_bytes(3 << 20);
  EXPECT_THAT(
      Summary(run, "1"),
      HasSubstr("\n  host1                    75 %        -        -         98 %       0.1 %         -         - "
                "     1,200                 -       3 MiB\n"));
}

TEST(HostMetrics, IsALineAHostAndSecond) {
  const Table& table = Tables()[3];
  EXPECT_EQ(table.file_name, "host-metrics.txt");
  v1::Snapshot snapshot;
  snapshot.set_to_elapsed_s(7);
  std::string text;
  table.append(v1::Run(), snapshot, &text);
  EXPECT_EQ(text, "") << "of no host anything is known";
  v1::HostFigures* host = snapshot.add_hosts();
  host->set_agent("host1");
  host->set_cpu_ns(200);
  host->set_cpu_busy_ns(150);
  host->set_memory_unused_bytes(5 << 20);
  host->set_tcp_timeouts(0);
  table.append(v1::Run(), snapshot, &text);
  const std::vector<std::string> cells = absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  EXPECT_THAT(cells, ::testing::ElementsAre("7", "host1", "75.0", "-", "-", "-", "-", "-", "0", "-", "-", "-", "-", "-",
                                            "-", "5", "-", "-"));
  const std::vector<std::string> names = absl::StrSplit(table.header, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  EXPECT_EQ(names.size(), cells.size() + 2) << "host of agent is three words";
  EXPECT_EQ(table.header.size(), text.size());
}

TEST(Summary, LabelsTheClosedModel) {
  v1::Run run = FullRun();
  run.mutable_test()->mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  EXPECT_THAT(Summary(run, "1"), HasSubstr("CLOSED MODEL"));
}

TEST(Summary, ARunOfWhichNothingWasMeasuredSaysSoInsteadOfZeros) {
  v1::Run run;
  run.set_run_id("a-1");
  run.mutable_verdict()->set_kind(v1::VERDICT_KIND_NOT_CARRIED_OUT);
  const std::string text = Summary(run, "1");
  EXPECT_THAT(text, HasSubstr("NOT CARRIED OUT"));
  EXPECT_THAT(text, HasSubstr("Connections and requests: not measured"));
  EXPECT_THAT(text, HasSubstr("Errors: not measured"));
}

TEST(Summary, AStoppedRunIsNotJudged) {
  v1::Run run = FullRun();
  run.mutable_verdict()->set_kind(v1::VERDICT_KIND_STOPPED);
  EXPECT_THAT(Summary(run, "1"), HasSubstr("not judged"));
  EXPECT_THAT(Summary(run, "1"), Not(HasSubstr("NOT HELD")));
}

TEST(FormatMeasured, UsesTheUnitOfTheMetric) {
  EXPECT_EQ(FormatMeasured("latency.p99", 12'345), "12.345 ms");
  EXPECT_EQ(FormatMeasured("errors.ratio", 0.005), "0.5 %");
  EXPECT_EQ(FormatMeasured("connections.peak", 100'000), "100,000");
  EXPECT_EQ(FormatMeasured("requests.rate", 19'990.25), "19990.2/s");
  EXPECT_EQ(FormatMeasured("requests.failed", 1234), "1,234");
}

TEST(RunJson, HasFieldNamesAsInTheProtoZerosAndTheProgramsVersion) {
  const std::string json = RunJson(FullRun(), "1.2.3");
  EXPECT_THAT(json, ::testing::StartsWith("{\n \"program_version\": \"1.2.3\","));
  EXPECT_THAT(json, HasSubstr("\"run_id\": \"smoke-20250131-120000\""));
  EXPECT_THAT(json, HasSubstr("\"peak_connections\": \"1000\""));
  EXPECT_THAT(json, HasSubstr("\"connections_lost\": \"0\""));
  EXPECT_THAT(json, Not(HasSubstr("\"handshake_time\":")));
}

}  // namespace
}  // namespace loadstar::server::results
