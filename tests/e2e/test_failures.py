"""What dies in mid-run: a worker, the coordinator, an agent. Each time the run ends, says what happened, and keeps what
was measured."""

import concurrent.futures
import contextlib
import os
import signal
import time

import grpc

import harness
from harness import BIN, NOT_CARRIED_OUT, Namespace, elapsed, run_pb

LOAD = """
target: {{stack: nodes, protocol: tcp}}
load:
  connections: [{{ramp: 1s, to: {connections}}}, {{hold: {hold}s}}]
  requests: {{model: open, rate: 10/s per connection}}
  workers: {workers}
"""


class WorkerDies(harness.TestCase):
    def test_is_an_event_and_the_run_is_not_passed(self):
        loadstar = self.cluster().start()
        loadstar.deploy()
        run_id = loadstar.start_test(loadstar.test_document(LOAD.format(connections=90, hold=9, workers=3)))
        elapsed(loadstar, run_id, 4.5)
        workers = loadstar.workers()
        self.assertEqual(len(workers), 3)
        os.kill(workers[0], signal.SIGKILL)
        run = loadstar.wait_finished(run_id, 60)
        self.assertEqual(run.verdict.kind, run_pb.VERDICT_KIND_NOT_CARRIED_OUT, run.verdict)
        events = [event for event in run.events if "worker" in event.code and event.severity == run_pb.SEVERITY_ERROR]
        self.assertTrue(events, run.events)
        self.assertIn("signal 9", events[0].message)
        # Its connections count as lost from that second on; the others are held to the end.
        self.assertEqual(run.totals.counters.connections_lost, 30)
        established = {s.to_elapsed_s: s.figures.gauges.connections_established for s in loadstar.snapshots(run_id)}
        self.assertEqual([established[3], established[7], established[8]], [90, 60, 60], established)
        self.assert_ledger(run)
        self.assertEqual(loadstar.cli("watch", run_id).code, NOT_CARRIED_OUT)


class LosesAnswers(harness.service_grpc.CoordinatorServiceServicer):
    """Stands before a coordinator and loses its first answers to StartTest, after the coordinator has given them."""

    def __init__(self, api, lost):
        self.api, self.lost, self.starts = api, lost, []

    def ListAgents(self, request, context):
        return self.api.ListAgents(request, timeout=10)

    def StartTest(self, request, context):
        answer = self.api.StartTest(request, timeout=20)
        self.starts.append(answer.run.run_id)
        if len(self.starts) <= self.lost:
            context.abort(grpc.StatusCode.UNAVAILABLE, "lost on the way")
        return answer


class AnswerToStartIsLost(harness.TestCase):
    def test_one_run_begins_however_often_the_cli_asks(self):
        loadstar = self.cluster().start()
        loadstar.deploy()
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        front = LosesAnswers(loadstar.api, lost=2)
        harness.service_grpc.add_CoordinatorServiceServicer_to_server(front, server)
        address = f"127.0.0.1:{harness.free_port()}"
        server.add_insecure_port(address)
        server.start()
        self.addCleanup(server.stop, None)
        document = loadstar.test_document(LOAD.format(connections=10, hold=1, workers=1))
        done = loadstar.cli("run", document, "--detach", coordinator=address)
        self.assertEqual(done.code, harness.PASSED, done)
        self.assertEqual(len(front.starts), 3)
        runs = loadstar.api.ListRuns(harness.service_pb.ListRunsRequest(), timeout=10).runs
        self.assertEqual({run.run_id for run in runs}, set(front.starts))
        self.assertEqual(len(runs), 1)
        self.assertIn(runs[0].run_id, done.out)
        loadstar.wait_finished(runs[0].run_id, 30)


class CoordinatorDies(harness.TestCase):
    def test_load_stays_on_and_no_second_is_lost_or_counted_twice(self):
        loadstar = self.cluster().start()
        stack = loadstar.deploy(nodes=2)
        run_id = loadstar.start_test(loadstar.test_document(LOAD.format(connections=100, hold=14, workers=2)))
        elapsed(loadstar, run_id, 4.2)
        loadstar.stop("coordinator", signal.SIGKILL)
        for _ in range(4):
            time.sleep(0.7)
            held = sum(harness.established_on(*map(harness.port_of, stack.nodes)).values())
            self.assertEqual(held, 100, "the load stays on without a coordinator")
        loadstar.start_coordinator()
        run = loadstar.wait_finished(run_id, 60)
        self.assert_sound(run)
        self.assertEqual(list(run.gaps), [])
        seconds = []
        sent = 0
        for snapshot in loadstar.snapshots(run_id):
            seconds += range(snapshot.from_elapsed_s, snapshot.to_elapsed_s + 1)
            sent += snapshot.figures.counters.requests_sent
        self.assertEqual(seconds, list(range(run.recorded_s)))
        self.assertGreaterEqual(run.recorded_s, 15)
        counters = self.assert_ledger(run)
        self.assertEqual(sent, counters.requests_sent)
        # The nodes count for themselves and were never restarted.
        results = loadstar.export(run_id)
        self.assertEqual(results.total("latency.csv", "requests"), counters.requests_answered)
        received = sum(harness.node_total(node, "bytes_received_total") for node in stack.nodes)
        self.assertEqual(received, counters.bytes_sent)


class TwoAgents(harness.TestCase):
    """The second agent lives in a network namespace: a host of its own, with its own addresses and ports."""

    def setUp(self):
        self.namespace = Namespace()
        self.namespace.__enter__()
        self.addCleanup(self.namespace.__exit__)
        self.loadstar = self.cluster(coordinator_listen="0.0.0.0", insecure=True)
        self.loadstar.start_coordinator()
        allow = ["--allow-target", "10.199.77.0/30", "--insecure"]
        self.loadstar.start_agent("host1", flags=allow)
        self.loadstar.start_agent("host2", prefix=["ip", "netns", "exec", self.namespace.name],
                                  coordinator=f"{self.namespace.outside}:{self.loadstar.port}", flags=allow)
        self.target, api = harness.free_port(), harness.free_port()
        self.loadstar.spawn("target", BIN / "loadstar-target", "--listen", f"0.0.0.0:{self.target}", "--api",
                            f"127.0.0.1:{api}", "--processes", 1, "--name", "target", "--role", "worker", "--insecure")
        self.api = f"127.0.0.1:{api}"
        harness.wait_for(self.target_answers, 10, "the target to answer")

    def target_answers(self):
        with contextlib.suppress(OSError):
            return harness.http(self.api, "GET", "/health")[0] == 200

    def begin(self, hold):
        return self.loadstar.start_test(self.loadstar.test_document(f"""
target: {{endpoints: ["{self.namespace.outside}:{self.target}"], protocol: tcp}}
load:
  connections: [{{ramp: 1s, to: 100}}, {{hold: {hold}s}}]
  requests: {{model: open, rate: 10/s per connection}}
  workers: 2
"""))

    def test_run_is_split_and_starts_at_one_instant(self):
        run = self.loadstar.wait_finished(self.begin(hold=6), 60)
        self.assert_sound(run)
        self.assertEqual({part.agent: part.worker_count for part in run.participants}, {"host1": 1, "host2": 1})
        self.assertEqual(run.peak_connections, 100)
        skew_ms = run.start_skew.seconds * 1e3 + run.start_skew.nanos / 1e6
        print(f"start skew of two agents: {skew_ms:.3f} ms", flush=True)
        self.assertLess(skew_ms, 50)
        counters = self.assert_ledger(run)
        merged = run.totals.latency
        self.assertEqual(counters.requests_failed, 0)
        self.assertEqual(sum(merged.counts), counters.requests_answered + counters.requests_dropped)
        self.assertEqual(run.latency.count, counters.requests_answered + counters.requests_dropped)
        self.assertIn("skew", self.loadstar.export(run.run_id).summary)

    def test_losing_one_agent_keeps_the_data_of_the_other(self):
        run_id = self.begin(hold=12)
        elapsed(self.loadstar, run_id, 4.5)
        self.loadstar.stop("host2", signal.SIGKILL)
        run = self.loadstar.wait_finished(run_id, 80)
        self.assertEqual(run.verdict.kind, run_pb.VERDICT_KIND_NOT_CARRIED_OUT, run.verdict)
        self.assertIn("host2", " ".join(reason.message for reason in run.verdict.reasons))
        self.assertEqual({part.agent: part.lost for part in run.participants}, {"host1": False, "host2": True})
        self.assertTrue(any(gap.startswith("host2:") for gap in run.gaps), run.gaps)
        # The rest's 50 connections are there to the end, second by second.
        established = {s.to_elapsed_s: s.figures.gauges.connections_established for s in self.loadstar.snapshots(run_id)}
        self.assertEqual([established.get(second) for second in (3, 8, 11)], [100, 50, 50], established)
        self.assertGreaterEqual(run.recorded_s, 13)


if __name__ == "__main__":
    harness.main()
