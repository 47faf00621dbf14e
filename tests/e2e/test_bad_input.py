"""Bad input and bad surroundings: one clear error with place and remedy, the right exit code, nothing started."""

import socket
import threading
import time

import harness
from harness import INVALID, NOT_CARRIED_OUT, THRESHOLD_FAILED

GOOD = """
target: {{endpoints: ["127.0.0.1:{port}"], protocol: {protocol}}}
load:
  connections: [{{ramp: 2s, to: {connections}}}, {{hold: {hold}s}}]
  requests: {{model: open, rate: 1/s per connection}}
thresholds: [errors.ratio < 0.1%]
"""


def document(loadstar, port, protocol="tcp", connections=20, hold=20, name="t"):
    return loadstar.test_document(GOOD.format(port=port, protocol=protocol, connections=connections, hold=hold), name)


class Server:
    """A target that behaves as told: accepts, and answers whatever arrives with `answer`."""

    def __init__(self, answer):
        self.socket = socket.create_server(("127.0.0.1", harness.free_port()), backlog=200)
        self.port = self.socket.getsockname()[1]
        self.answer = answer
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                while connection.recv(65536):
                    connection.sendall(self.answer)
            except OSError:
                pass

    def close(self):
        self.socket.close()


class Documents(harness.TestCase):
    def test_invalid_documents_start_nothing_and_name_the_place(self):
        loadstar = self.cluster()
        good = GOOD.format(port=9100, protocol="tcp", connections=20, hold=20)
        cases = {
            "unknown key": (good.replace("connections:", "conections:"), "connections"),
            "bad unit": (good.replace("ramp: 2s", "ramp: 5 minute"), "ramp"),
            "wrong type": (good.replace("to: 20", "to: [1]"), "to"),
            "negative": (good.replace("to: 20", "to: -5"), "to"),
            "absurd": (good.replace("to: 20", "to: 1000000000000"), "to"),
            "unknown protocol": (good.replace("protocol: tcp", "protocol: tpc"), "tcp"),
            "stack and endpoints": (good.replace("target: {", "target: {stack: nodes, "), "stack"),
            "empty profile": (good.replace("[{ramp: 2s, to: 20}, {hold: 20s}]", "[]"), "connections"),
            "unknown metric": (good.replace("errors.ratio < 0.1%", "latency.p98 < 1ms"), "latency.p9"),
        }
        for what, (text, expected) in cases.items():
            with self.subTest(what):
                path = loadstar.test_document(text)
                done = loadstar.cli("validate", path)
                self.assertEqual(done.code, INVALID, done)
                self.assertRegex(done.out + done.err, rf"t\.yaml:\d+:\d+: .*{expected}")
                # "run" gives the same without a coordinator to ask.
                self.assertEqual(loadstar.cli("run", path, coordinator="127.0.0.1:1").code, INVALID)

    def test_files_that_are_no_documents(self):
        loadstar = self.cluster()
        binary = loadstar.folder / "binary.yaml"
        binary.write_bytes(bytes(range(256)) * 16)
        huge = loadstar.folder / "huge.yaml"
        with open(huge, "wb") as file:
            file.truncate(100 << 20)
        bomb = "\n".join([f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" if n else "a0: &a0 [x, x]" for n in range(9)])
        for path, expected in ((binary, "binary"), (huge, "1 MiB"), (loadstar.folder / "missing.yaml", "missing.yaml"),
                               (loadstar.folder, "(directory|folder)"), (loadstar.write("bomb.yaml", bomb), "(alias|anchor)"),
                               (loadstar.write("no.yaml", "{[}"), r"no\.yaml:\d+")):
            with self.subTest(str(path.name)):
                began = time.monotonic()
                done = loadstar.cli("validate", path)
                self.assertEqual(done.code, INVALID, done)
                self.assertRegex(done.out + done.err, f"(?i){expected}")
                self.assertLess(time.monotonic() - began, 5)


class Surroundings(harness.TestCase):
    def test_coordinator_down_names_the_address(self):
        loadstar = self.cluster()
        done = loadstar.cli("run", document(loadstar, 9100), coordinator="127.0.0.1:28999")
        self.assertEqual(done.code, NOT_CARRIED_OUT, done)
        self.assertIn("127.0.0.1:28999", done.err)

    def test_no_agent_is_said(self):
        loadstar = self.cluster()
        loadstar.start_coordinator()
        done = loadstar.cli("run", document(loadstar, 9100))
        self.assertEqual(done.code, NOT_CARRIED_OUT, done)
        self.assertIn("agent", done.err)

    def test_target_that_refuses_everything_ends_the_run_in_seconds(self):
        loadstar = self.cluster().start()
        began = time.monotonic()
        done, results = loadstar.run(document(loadstar, harness.free_port(), hold=300))
        self.assertEqual(done.code, NOT_CARRIED_OUT, done)
        self.assertLess(time.monotonic() - began, 30)
        self.assertIn("refused", done.out + done.err)
        self.assert_ledger(results.run)

    def test_garbage_is_counted_as_protocol_errors(self):
        loadstar = self.cluster().start()
        server = Server(b"\x00\xff this is no JSON-RPC \r\n\n{]\n")
        self.addCleanup(server.close)
        done, results = loadstar.run(document(loadstar, server.port, protocol="mcp-tcp", hold=4))
        self.assertEqual(done.code, THRESHOLD_FAILED, done)
        run = results.run
        self.assert_ledger(run)
        kinds = {error["kind"] for error in run["totals"]["errors"]}
        self.assertIn("ERROR_KIND_PROTOCOL", kinds, run["totals"]["errors"])

    def test_target_that_closes_every_connection(self):
        loadstar = self.cluster().start()
        node = loadstar.deploy().nodes[0]
        harness.fault(node, close_ratio=1.0)
        done, results = loadstar.run(document(loadstar, harness.port_of(node), hold=3))
        self.assertEqual(done.code, THRESHOLD_FAILED, done)
        counters = self.assert_ledger(results.run)
        self.assertGreater(counters.connections_lost, 0)

    def test_taken_port_is_named_with_its_process(self):
        loadstar = self.cluster().start()
        taken = Server(b"")
        self.addCleanup(taken.close)
        stack = loadstar.write("taken.yaml", f"""
apiVersion: loadstar/v1
kind: Stack
name: taken
runtime: process
nodes:
  - {{name: node1, listen: "127.0.0.1:{taken.port}", api: "127.0.0.1:{harness.free_port()}"}}
""")
        done = loadstar.cli("deploy", stack)
        self.assertEqual(done.code, NOT_CARRIED_OUT, done)
        self.assertIn(str(taken.port), done.out + done.err)
        self.assertIn("python3", done.out + done.err)
        self.assertEqual(harness.children_of(loadstar.processes["local"].pid), [])

    def test_two_runs_at_once_where_capacity_permits(self):
        loadstar = self.cluster().start()
        node = loadstar.deploy().nodes[0]
        port = harness.port_of(node)
        first = loadstar.start_test(document(loadstar, port, hold=5, name="first"))
        second = loadstar.start_test(document(loadstar, port, hold=5, name="second"))
        self.assertNotEqual(first, second)
        refused = loadstar.cli("run", document(loadstar, port, connections=50_000_000, name="third"))
        self.assertEqual(refused.code, NOT_CARRIED_OUT, refused)
        self.assertRegex(refused.err, r"agent local on host \S+ can hold \d+ \(limit: (descriptors|memory|tcp memory|conntrack)\)")
        for run_id in (first, second):
            run = loadstar.wait_finished(run_id, 60)
            self.assert_sound(run)
            self.assertEqual(run.peak_connections, 20)

    def test_nothing_but_loopback_without_insecure(self):
        loadstar = self.cluster()
        for program, flags in (("loadstar-coordinator", ["--listen", "0.0.0.0:28998"]),
                               ("loadstar-agent", ["--coordinator", "192.0.2.1:7400", "--name", "a"])):
            process = loadstar.spawn(program, harness.BIN / program, *flags, "--state", loadstar.folder / program)
            self.assertNotEqual(process.wait(10), 0, program)
            self.assertIn("--insecure", loadstar.log(program))


if __name__ == "__main__":
    harness.main()
