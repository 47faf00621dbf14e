"""A run from end to end on each protocol and model: the verdict, the results folder, and conservation: the sums of the
CSVs, of run.json and of the nodes' own counters are the same figures."""

import harness
from harness import BIN, NOT_TRUSTWORTHY, PASSED, Results, metrics_pb, run_pb


class Runs(harness.TestCase):
    def setUp(self):
        self.loadstar = self.cluster().start()
        self.nodes = {node.name: node for node in self.loadstar.deploy(nodes=2, processes=2).nodes}

    def run_and_check(self, protocol, requests, extra=""):
        document = self.loadstar.test_document(f"""
target: {{stack: nodes, protocol: {protocol}{extra}}}
load:
  connections:
    - {{ramp: 2s, to: 200}}
    - {{hold: 4s}}
    - {{ramp: 1s, to: 60}}
  requests: {requests}
thresholds:
  - latency.p99 < 2s
  - errors.ratio < 0.1%
  - connections.peak >= 200
""")
        done, results = self.loadstar.run(document)
        self.assertIn(done.code, (PASSED, NOT_TRUSTWORTHY), done)
        self.assert_sound(results.run)
        for name in Results.FILES:
            self.assertTrue((results.folder / name).stat().st_size > 0, name)
        run = results.run
        self.assertEqual(run["peak_connections"], 200)
        counters = self.assert_ledger(run)
        self.assertGreater(counters.requests_answered, 500)
        self.assertEqual(counters.requests_failed, 0)
        self.assertEqual(counters.connections_lost, 0)
        self.check_sums(results, counters, protocol)
        return run, results

    def check_sums(self, results, counters, protocol):
        self.assertEqual(results.total("connections.csv", "opened"), counters.connects_established)
        self.assertEqual(results.total("connections.csv", "closed"), counters.connections_closed + counters.connections_lost)
        self.assertEqual(results.total("connections.csv", "failed"), counters.connects_failed)
        self.assertEqual(results.total("latency.csv", "requests"), counters.requests_answered)
        # Each endpoint's own totals add up to the run's, and each node counted what the workers say of it.
        endpoints = [harness.Bag(fields) for fields in results.run["endpoint_totals"]]
        for field in ("connects_established", "requests_sent", "requests_answered", "bytes_sent", "bytes_received"):
            self.assertEqual(sum(getattr(e.counters, field) for e in endpoints), getattr(counters, field), field)
        for endpoint in endpoints:
            node = self.nodes[endpoint.node]
            self.assertEqual(harness.node_total(node, "accepted_total"), endpoint.counters.connects_established, endpoint.node)
            self.assertEqual(harness.node_total(node, "bytes_received_total"), endpoint.counters.bytes_sent, endpoint.node)
            self.assertEqual(harness.node_total(node, "bytes_sent_total"), endpoint.counters.bytes_received, endpoint.node)
            if protocol != "tcp":  # an echo server knows bytes, not requests
                self.assertEqual(harness.node_total(node, "requests_total"), endpoint.counters.requests_sent, endpoint.node)
                self.assertEqual(harness.node_total(node, "handshakes_total"), endpoint.counters.handshakes_done, endpoint.node)
        # Nodes are even to within one connection at the peak.
        established = {endpoint.counters.connects_established for endpoint in endpoints}
        self.assertLessEqual(max(established) - min(established), 1)

    def test_tcp_open_total_rate(self):
        run, results = self.run_and_check("tcp", "{model: open, rate: 500/s total}")
        self.assertIn("open", results.summary)
        # 7 s at 500/s; the first moments of the ramp have no connection to send on yet.
        self.assert_within(run["totals"]["counters"]["requests_due"], 3500, 0.01, "requests due")

    def test_tcp_closed(self):
        _, results = self.run_and_check("tcp", "{model: closed, think: 100ms}")
        self.assertIn("closed", results.summary)

    def test_tcp_open_poisson_per_connection(self):
        self.run_and_check("tcp", "{model: open, rate: 5/s per connection, arrival: poisson}")

    def test_mcp_open_ping_pipelined(self):
        self.run_and_check("mcp-tcp", "{model: open, rate: 1k/s total, pipeline: 4}")

    def test_mcp_closed_tool_call(self):
        self.run_and_check("mcp-tcp", "{model: closed, think: 200ms}",
                           ", mcp: {method: tools/call, tool: echo, arguments: {text: hello}}")

    def test_http_open_pipelined(self):
        self.run_and_check("http", "{model: open, rate: 1k/s total, pipeline: 4}", ", http: {path: /any}")

    def test_mcp_http_closed_tool_call(self):
        self.run_and_check("mcp-http", "{model: closed, think: 200ms}",
                           ", mcp: {method: tools/call, tool: echo, arguments: {text: hello}}")


class Lifecycle(harness.TestCase):
    def test_nothing_is_left_after_teardown_and_stop(self):
        loadstar = self.cluster().start()
        stack = loadstar.deploy(nodes=2, processes=2)
        agent, coordinator = loadstar.processes["local"].pid, loadstar.processes["coordinator"].pid
        self.assertTrue(harness.children_of(agent))
        self.assertEqual(loadstar.cli("teardown", stack.name).code, PASSED)
        harness.wait_for(lambda: not harness.children_of(agent), 15, "the nodes to end")
        self.assertEqual(loadstar.stop("local"), 0)
        self.assertEqual(loadstar.stop("coordinator"), 0)
        self.assertEqual(loadstar.leftovers(), [])
        self.assertNotEqual(agent, coordinator)

    def test_update_and_stop_while_running(self):
        loadstar = self.cluster().start()
        loadstar.deploy()
        run_id = loadstar.start_test(loadstar.test_document("""
target: {stack: nodes, protocol: tcp}
load:
  connections: [{ramp: 1s, to: 150}, {hold: 60s}]
  requests: {model: open, rate: 1/s per connection}
"""))
        loadstar.wait_state(run_id, run_pb.RUN_STATE_RUNNING, 20)
        self.wait_established(loadstar, run_id, 150)
        self.assertEqual(loadstar.cli("update", run_id, "--set", "connections=50", "--set", "ramp=1s").code, PASSED)
        self.wait_established(loadstar, run_id, 50)
        self.assertEqual(loadstar.cli("stop", run_id).code, PASSED)
        run = loadstar.wait_finished(run_id, 30)
        self.assertEqual(run.verdict.kind, run_pb.VERDICT_KIND_STOPPED)
        self.assertEqual(len(run.updates), 1)
        self.assertEqual(run.peak_connections, 150)
        self.assert_ledger(run)

    def wait_established(self, loadstar, run_id, connections):
        for message in loadstar.stream(run_id, from_elapsed_s=-1):
            if message.HasField("snapshot") and message.snapshot.figures.gauges.connections_established == connections:
                return
        self.fail(f"the run ended before it held {connections} connections")

    def test_every_program_explains_itself(self):
        loadstar = self.cluster()
        for program in ("loadstar", "loadstar-coordinator", "loadstar-agent", "loadstar-target"):
            process = loadstar.spawn(program, BIN / program, "--help")
            self.assertEqual(process.wait(10), 0, program)
            self.assertIn("--", loadstar.log(program))


class Ramp(harness.TestCase):
    """Established connections follow the profile at every second, up and down."""

    def test_established_follows_the_profile(self):
        loadstar = self.cluster().start()
        loadstar.deploy(nodes=2)
        document = loadstar.test_document("""
target: {stack: nodes, protocol: tcp}
load:
  connections:
    - {ramp: 10s, to: 2000}
    - {hold: 3s}
    - {ramp: 5s, to: 500}
    - {hold: 2s}
""")
        done, results = loadstar.run(document)
        self.assertEqual(done.code, PASSED, done)
        rows = results.csv("connections.csv")
        # What the profile asks for at the end of each second, and its slope in that second.
        expected = ([(200 * t, 200) for t in range(1, 11)] + [(2000, 0)] * 3 + [(2000 - 300 * t, 300) for t in range(1, 6)] +
                    [(500, 0)] * 2)
        self.assertGreaterEqual(len(rows), len(expected))
        for row, (target, slope) in zip(rows, expected):
            established = int(row["established"])
            if row is not rows[len(expected) - 1]:  # in the last second everything is closed again
                self.assertEqual(int(row["target"]), target, row)
                # What is allowed is 1 %, or on a slope what it gives in 100 ms: an interval's figures are read by workers at
                # moments of their own. (The requirement allows a whole interval, ten times as much.)
                self.assertLessEqual(abs(established - target), max(0.01 * target, 0.1 * slope), row)


class Latencies(harness.TestCase):
    """Merged percentiles of several workers are those of one histogram of all observations."""

    def test_known_delays_are_measured_over_workers(self):
        loadstar = self.cluster().start()
        stack = loadstar.deploy(nodes=2)
        # Half of the requests take 20 ms and half 120 ms, each node one of the two.
        harness.fault(stack.nodes[0], delay_ms=20)
        harness.fault(stack.nodes[1], delay_ms=120)
        run_id = loadstar.start_test(loadstar.test_document("""
target: {stack: nodes, protocol: tcp}
load:
  connections: [{ramp: 500ms, to: 40}, {hold: 6s}]
  requests: {model: open, rate: 4/s per connection}
  workers: 2
"""))
        run = loadstar.wait_finished(run_id, 60)
        self.assert_sound(run)
        # p50 may fall on either side of the gap; what lies on both sides of it may not.
        self.assertGreaterEqual(run.latency.min_us, 20_000)
        self.assertLess(run.latency.min_us, 24_000)
        self.assertGreaterEqual(run.latency.p90_us, 120_000)
        self.assertLess(run.latency.p90_us, 135_000)
        # The averages of the two nodes' p90 would be about 70 ms.
        merged, counters = run.totals.latency, run.totals.counters
        self.assertEqual(sum(merged.counts), counters.requests_answered + counters.requests_dropped)
        self.assertEqual(counters.requests_failed, 0)
        self.assertIsInstance(run.totals, metrics_pb.LoadFigures)


if __name__ == "__main__":
    harness.main()
