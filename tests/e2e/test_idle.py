"""Held connections whose far side falls silent without a word: a node that stands still is found by heartbeats, a host that
is gone by TCP keepalive. Each on both of the worker's loops."""

import contextlib
import os
import pathlib
import signal

import harness
from harness import BIN, Namespace, elapsed, metrics_pb

BACKENDS = ("io_uring", "epoll")


def lost_by_second(loadstar, run_id):
    return {s.to_elapsed_s: s.figures.counters.connections_lost for s in loadstar.snapshots(run_id)
            if s.figures.counters.connections_lost > 0}


def kinds_of(run):
    return {metrics_pb.ErrorKind.Name(error.kind): error.count for error in run.totals.errors}


class NodeStandsStill(harness.TestCase):
    CONNECTIONS = 200

    def stop_node(self, loadstar, node):
        """SIGSTOPs the node's processes until the test is over."""
        pids = [pid for pid, _ in harness.children_of(loadstar.processes["local"].pid)
                if node.listen_address.encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
        self.assertTrue(pids, "the node's processes")

        def go_on():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

        self.addCleanup(go_on)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return go_on

    def test_its_connections_are_lost_and_the_others_stay(self):
        for backend in BACKENDS:
            loadstar = self.cluster()
            loadstar.start_coordinator()
            loadstar.start_agent(flags=["--worker-backend", backend])
            stack = loadstar.deploy(nodes=2)
            for protocol in ("mcp-tcp", "mcp-http"):
                with self.subTest(backend=backend, protocol=protocol):
                    self.check(loadstar, stack, protocol)
            loadstar.close()

    def check(self, loadstar, stack, protocol):
        run_id = loadstar.start_test(loadstar.test_document(f"""
target: {{stack: nodes, protocol: {protocol}}}
load:
  connections: [{{ramp: 1s, to: {self.CONNECTIONS}}}, {{hold: 9s}}]
  heartbeat: {{every: 1s, timeout: 1s}}
  workers: 2
"""))
        elapsed(loadstar, run_id, 4.5)
        go_on = self.stop_node(loadstar, stack.nodes[1])
        run = loadstar.wait_finished(run_id, 60)
        go_on()
        half = self.CONNECTIONS // 2
        # Asked within the second after its last answer, and given up a second later: between 5.5 and 6.5 s.
        lost = lost_by_second(loadstar, run_id)
        self.assertEqual(sum(lost.values()), half, lost)
        self.assertLessEqual(set(lost), {5, 6}, lost)
        self.assertEqual(kinds_of(run), {"ERROR_KIND_HEARTBEAT_TIMEOUT": half})
        self.assertEqual({endpoint.endpoint: endpoint.counters.connections_lost for endpoint in run.endpoint_totals},
                         {stack.nodes[0].listen_address: 0, stack.nodes[1].listen_address: half})
        counters = self.assert_ledger(run)
        self.assertEqual(counters.connections_closed, half)
        self.assertEqual(counters.heartbeats_failed, half)
        self.assertGreater(counters.heartbeats_answered, half * (3 + 8))
        self.assertEqual(counters.requests_due + counters.requests_sent + counters.requests_answered, 0)
        self.assertEqual(run.totals.latency.counts, [])
        summary = loadstar.export(run_id).summary
        self.assertIn("heartbeat timeout", summary)
        self.assertRegex(summary, r"Heartbeats +sent [\d,]+, answered [\d,]+")


class HostIsGone(harness.TestCase):
    """The target lives in a network namespace that loses its way back: its kernel answers nothing any more."""

    def test_keepalive_finds_it(self):
        namespace = Namespace()
        namespace.__enter__()
        self.addCleanup(namespace.__exit__)
        for backend in BACKENDS:
            with self.subTest(backend=backend):
                self.check(namespace, backend)

    def check(self, namespace, backend):
        loadstar = self.cluster(coordinator_listen="0.0.0.0", insecure=True)
        loadstar.start_coordinator()
        loadstar.start_agent(flags=["--allow-target", "10.199.77.0/30", "--insecure", "--worker-backend", backend])
        target, api = harness.free_port(), harness.free_port()
        loadstar.spawn("target", "ip", "netns", "exec", namespace.name, BIN / "loadstar-target", "--listen",
                       f"0.0.0.0:{target}", "--api", f"0.0.0.0:{api}", "--processes", 1, "--name", "target", "--insecure")

        def answers():
            with contextlib.suppress(OSError):
                return harness.http(f"{namespace.inside}:{api}", "GET", "/health")[0] == 200

        harness.wait_for(answers, 10, "the target to answer")
        run_id = loadstar.start_test(loadstar.test_document(f"""
target: {{endpoints: ["{namespace.inside}:{target}"], protocol: tcp}}
load:
  connections: [{{ramp: 1s, to: 50}}, {{hold: 9s}}]
  keepalive: {{idle: 1s, interval: 1s, probes: 2}}
  workers: 1
"""))
        elapsed(loadstar, run_id, 4.5)
        way_back = [namespace.name, "route", "add", "blackhole", f"{namespace.outside}/32"]
        namespace.ip("-n", *way_back)
        run = loadstar.wait_finished(run_id, 60)
        namespace.ip("-n", way_back[0], "route", "del", *way_back[3:])
        # A probe within a second, another a second later, and a third second without an answer.
        lost = lost_by_second(loadstar, run_id)
        self.assertEqual(sum(lost.values()), 50, lost)
        self.assertLessEqual(set(lost), {6, 7}, lost)
        self.assertEqual(kinds_of(run), {"ERROR_KIND_TRANSPORT_TIMEOUT": 50})
        self.assert_ledger(run)
        loadstar.close()


if __name__ == "__main__":
    harness.main()
