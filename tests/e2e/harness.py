"""A Loadstar of its own for one test: coordinator, agents and nodes from LOADSTAR_BIN_DIR, in a temporary folder, on free
ports, all of it ended at the end whatever happened.

Every process started here carries a mark in its environment, and every node the name of its agent's folder: at the end
exactly those processes are ended, whoever killed their parents. Nothing else is touched.
"""

import contextlib
import csv
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid

import grpc

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("LOADSTAR_BIN_DIR", ROOT / "build/release/bin"))
MARK = "LOADSTAR_E2E"
# Below every ephemeral range, so that no outgoing connection of a load test can sit on them.
PORTS = range(28000, 28900)

PASSED, THRESHOLD_FAILED, INVALID, NOT_TRUSTWORTHY, NOT_CARRIED_OUT = 0, 1, 2, 3, 4
# A test file's exit code when none of its tests could run here; ctest knows it (CMakeLists.txt).
SKIPPED = 77


def _load_stubs():
    """Python's stubs, made from the API's definitions as any user of it would."""
    folder = tempfile.mkdtemp(prefix="loadstar-stubs-")
    try:
        files = [f"loadstar/v1/{name}.proto" for name in ("spec", "metrics", "run", "tuning", "worker", "coordinator_service")]
        subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}",
                        f"--plugin=protoc-gen-grpc_python={shutil.which('grpc_python_plugin')}", *files], check=True, timeout=60)
        sys.path.insert(0, folder)
        # pylint: disable=import-outside-toplevel
        from loadstar.v1 import (coordinator_service_pb2, coordinator_service_pb2_grpc, metrics_pb2, run_pb2, spec_pb2,
                                 worker_pb2)
        return coordinator_service_pb2, coordinator_service_pb2_grpc, metrics_pb2, run_pb2, spec_pb2, worker_pb2
    finally:
        shutil.rmtree(folder, ignore_errors=True)


service_pb, service_grpc, metrics_pb, run_pb, spec_pb, worker_pb = _load_stubs()


def wait_for(condition, seconds, what):
    """Polls until `condition` returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.05)


_next_port = PORTS.start + (os.getpid() * 37) % len(PORTS)


def free_port():
    """A port that nothing listens on, on any address."""
    global _next_port
    for _ in PORTS:
        port = PORTS.start + (_next_port - PORTS.start) % len(PORTS)
        _next_port = port + 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def port_of(node):
    return int(node.listen_address.rsplit(":", 1)[1])


def established_on(*ports):
    """The kernel's count by port: established sockets whose local end it is (one end of each loopback connection). One look
    at all sockets for all ports, and ahead of other programs: with a million connections it takes seconds."""
    wanted = " or ".join(f"sport = :{port}" for port in ports)
    first = ["nice", "-n", "-15"] if os.geteuid() == 0 else []
    counting = f"""set -o pipefail; ss -Htn state established '( {wanted} )' | awk '{{n[$3]++}} END {{for (a in n) print a, n[a]}}'"""
    output = subprocess.run([*first, "bash", "-c", counting], stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout
    counts = dict.fromkeys(ports, 0)
    for line in output.splitlines():
        address, count = line.split()
        counts[int(address.rsplit(":", 1)[1])] += int(count)
    return counts


def children_of(pid):
    """All descendants of a process: [(pid, name)]."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = (int(stat.rsplit(")", 1)[1].split()[1]), stat.split("(", 1)[1].rsplit(")", 1)[0])
    found, grown = {pid}, True
    while grown:
        more = {child for child, (parent, _) in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return [(child, parents[child][1]) for child in sorted(found - {pid}) if child in parents]


def stop_for(pids, seconds):
    """Processes stand still (SIGSTOP) for so long."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def rss_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmRSS for {pid}")


def with_environment(exact, prefix):
    """Processes that have the variable `exact`, or one that begins with `prefix`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if any(v == exact.encode() or v.startswith(prefix.encode()) for v in variables):
                    found.append(int(entry.name))
    return found


class CliResult:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self):
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]

    def __str__(self):
        return f"exit {self.code}\n--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"


class Cluster:
    def __init__(self, coordinator_listen="127.0.0.1", insecure=False):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="loadstar-e2e-"))
        self.mark = uuid.uuid4().hex
        self.insecure = insecure
        self.port = free_port()
        self.listen = f"{coordinator_listen}:{self.port}"
        self.address = f"127.0.0.1:{self.port}"
        self.processes = {}
        self.channel = None
        self.results = self.folder / "results"

    # ---- life

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close(show_logs=kind is not None)

    def close(self, show_logs=False):
        if self.channel:
            self.channel.close()
        # Agents first: they stop their nodes and workers and say goodbye to a coordinator that is there.
        for name in sorted(self.processes, key=lambda n: n == "coordinator"):
            self.stop(name)
        self._end_marked()
        if show_logs:
            for log in sorted(self.folder.rglob("*.log")):
                print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]), file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)

    def marked(self):
        """Processes of this cluster."""
        # A node's environment is made by the agent and names its folder; everything else inherits the mark.
        return with_environment(f"{MARK}={self.mark}", f"LOADSTAR_NODE={self.folder}/")

    def _end_marked(self):
        for sign in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            for pid in self.marked():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            deadline = time.monotonic() + (5 if sign != signal.SIGCONT else 0)
            while self.marked() and time.monotonic() < deadline:
                time.sleep(0.05)

    def leftovers(self):
        """Processes of this cluster that live although they should not, as (pid, command)."""
        own = {process.pid for process in self.processes.values() if process.poll() is None}
        rest = []
        for pid in self.marked():
            if pid not in own:
                with contextlib.suppress(OSError):
                    rest.append((pid, pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()))
        return rest

    def spawn(self, name, *command, environment=None):
        log = open(self.folder / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=log, env={**os.environ, **(environment or {}), MARK: self.mark},
                                                cwd=ROOT)
        log.close()
        return self.processes[name]

    def stop(self, name, sign=signal.SIGTERM, seconds=20):
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(sign)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise AssertionError(f"{name} did not end within {seconds} s of signal {sign}") from None

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # ---- programs

    def start_coordinator(self):
        flags = ["--insecure"] if self.insecure else []
        process = self.spawn("coordinator", BIN / "loadstar-coordinator", "--listen", self.listen, "--state",
                             self.folder / "coordinator", *flags)
        if self.channel:
            self.channel.close()
        self.channel = grpc.insecure_channel(self.address, options=[
            ("grpc.max_receive_message_length", 64 << 20), ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)])
        self.api = service_grpc.CoordinatorServiceStub(self.channel)

        def answers():
            if process.poll() is not None:
                raise AssertionError(f"the coordinator ended with {process.returncode}:\n{self.log('coordinator')}")
            with contextlib.suppress(grpc.RpcError):
                self.api.ListAgents(service_pb.ListAgentsRequest(), timeout=2)
                return True

        wait_for(answers, 20, "the coordinator to answer")
        return process

    def start_agent(self, name="local", prefix=(), coordinator=None, flags=(), environment=None):
        process = self.spawn(name, *prefix, BIN / "loadstar-agent", "--coordinator", coordinator or self.address,
                             "--name", name, "--state", self.folder / f"agent-{name}", *flags, environment=environment)

        def connected():
            if process.poll() is not None:
                raise AssertionError(f"agent {name} ended with {process.returncode}:\n{self.log(name)}")
            with contextlib.suppress(grpc.RpcError):
                agents = self.api.ListAgents(service_pb.ListAgentsRequest(), timeout=5).agents
                return any(agent.name == name and agent.connected for agent in agents)

        wait_for(connected, 20, f"agent {name} to connect")
        return process

    def start_agent_in(self, namespace, name="local", flags=()):
        """An agent, with its workers and nodes, in a network namespace."""
        return self.start_agent(name, prefix=["ip", "netns", "exec", namespace.name], flags=["--insecure", *flags],
                                coordinator=f"{namespace.outside}:{self.port}")

    def start(self):
        self.start_coordinator()
        self.start_agent()
        return self

    def cli(self, *arguments, seconds=90, json_output=False, coordinator=None):
        command = [BIN / "loadstar", *arguments, "--coordinator", coordinator or self.address]
        if json_output:
            command.append("--json")
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=seconds, check=False,
                              stdin=subprocess.DEVNULL, cwd=self.folder, env={**os.environ, MARK: self.mark})
        return CliResult(done.returncode, done.stdout, done.stderr)

    # ---- stacks and runs

    def deploy(self, nodes=1, processes=1, name="nodes"):
        """Brings up a stack of loadstar-target nodes; returns its StackSpec."""
        stack = spec_pb.StackSpec(name=name, runtime=spec_pb.RUNTIME_PROCESS)
        for number in range(1, nodes + 1):
            stack.nodes.add(name=f"node{number}", role="worker", listen_address=f"127.0.0.1:{free_port()}",
                            api_address=f"127.0.0.1:{free_port()}", processes=processes)
        events = list(self.api.Deploy(service_pb.DeployRequest(stack=stack), timeout=60))
        deployment = events[-1].deployment
        if deployment.state != run_pb.DEPLOYMENT_STATE_HEALTHY:
            raise AssertionError(f"deployment is not healthy:\n{deployment}")
        return stack

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def test_document(self, text, name="t"):
        """A Test document from its body (target, load, thresholds)."""
        return self.write(f"{name}.yaml", f"apiVersion: loadstar/v1\nkind: Test\nname: {name}\n{text}")

    def run(self, document, *arguments, seconds=90):
        """`loadstar run` to its end: (CliResult, Results); Results is None when there is no folder."""
        before = set(self.results.glob("*")) if self.results.exists() else set()
        done = self.cli("run", document, *arguments, seconds=seconds)
        new = (set(self.results.glob("*")) if self.results.exists() else set()) - before
        if len(new) > 1:
            raise AssertionError(f"one run made {len(new)} folders: {new}")
        return done, Results(new.pop()) if new else None

    def start_test(self, document, **fields):
        """StartTest over gRPC; returns the run's id."""
        text = pathlib.Path(document).read_text()
        request = service_pb.StartTestRequest(document=spec_pb.Document(file_name=str(document), yaml=text), **fields)
        return self.api.StartTest(request, timeout=20).run.run_id

    def get_run(self, run_id):
        return self.api.GetRun(service_pb.GetRunRequest(run_id=run_id), timeout=10).run

    def wait_state(self, run_id, state, seconds):
        def reached():
            with contextlib.suppress(grpc.RpcError):
                run = self.get_run(run_id)
                return run if run.state >= state else None

        return wait_for(reached, seconds, f"{run_id} to be {run_pb.RunState.Name(state)}")

    def wait_finished(self, run_id, seconds):
        return self.wait_state(run_id, run_pb.RUN_STATE_FINISHED, seconds)

    def stream(self, run_id, from_elapsed_s=0, timeout=120):
        request = service_pb.StreamMetricsRequest(run_id=run_id, from_elapsed_s=from_elapsed_s)
        return self.api.StreamMetrics(request, timeout=timeout)

    def snapshots(self, run_id):
        """All snapshots of a finished run, merged ones included."""
        return [message.snapshot for message in self.stream(run_id) if message.HasField("snapshot")]

    def export(self, run_id):
        """The results folder of a run, through the CLI."""
        folder = self.folder / f"export-{run_id}"
        done = self.cli("export", run_id, "--output", folder)
        if done.code != 0:
            raise AssertionError(f"export failed: {done}")
        return Results(folder)

    def workers(self, agent="local"):
        return self._descendants(agent, "loadstar-worker")

    def node_processes(self, agent="local"):
        """The processes of loadstar-target that the agent runs."""
        return self._descendants(agent, "loadstar-target")

    def _descendants(self, agent, program):
        # The kernel keeps 15 bytes of a name.
        return [pid for pid, name in children_of(self.processes[agent].pid) if name == program[:15]]


class Namespace:
    """Another host: a network namespace with a veth pair. Several at once need a number each."""

    def __init__(self, number=0):
        self.inside, self.outside = (f"10.199.{77 + number}.{end}" for end in (2, 1))
        self.name = f"loadstar-{os.getpid()}-{number}"
        self.link = f"ls{os.getpid() % 100000}n{number}"

    def __enter__(self):
        try:
            self.ip("netns", "add", self.name)
            self.ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            self.ip("addr", "add", f"{self.outside}/30", "dev", self.link)
            self.ip("link", "set", self.link, "up")
            for step in (["addr", "add", f"{self.inside}/30", "dev", "eth0"], ["link", "set", "eth0", "up"],
                         ["link", "set", "lo", "up"]):
                self.ip("-n", self.name, *step)
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            reason = getattr(error, "stderr", None) or error
            raise unittest.SkipTest(f"no network namespace can be made here: {reason}") from None
        return self

    def __exit__(self, *_):
        for command in (["link", "del", self.link], ["netns", "del", self.name]):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                self.ip(*command)

    def run(self, *command):
        """Runs a command inside; returns what it printed."""
        return subprocess.run(["ip", "netns", "exec", self.name, *command], check=True, capture_output=True, text=True,
                              timeout=20).stdout

    @staticmethod
    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


def elapsed(loadstar, run_id, seconds):
    """Waits until the run is that old; returns the run."""
    run = loadstar.wait_state(run_id, run_pb.RUN_STATE_RUNNING, 20)
    time.sleep(max(0.0, run.start_at.seconds + run.start_at.nanos / 1e9 + seconds - time.time()))
    return run


def http(address, method, path, body=b"", seconds=10):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.settimeout(seconds)
        head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"\r\n" + body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    status = int(answer.split(b" ", 2)[1])
    return status, answer.split(b"\r\n\r\n", 1)[1]


def fault(node, **settings):
    status, body = http(node.api_address, "POST", "/fault", json.dumps(settings).encode())
    if status != 200:
        raise AssertionError(f"POST /fault {settings}: {status} {body!r}")


class Delays:
    """A distribution of delays that a node deals out to its answers (POST /fault), and what is exact by it alone.

    rows: (ms, share), shortest first, so that each of QUANTILES lies well within one of them."""

    QUANTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)

    def __init__(self, *rows):
        self.rows = rows

    def set_on(self, node):
        fault(node, delays=[{"ms": ms, "share": share} for ms, share in self.rows])

    def exact_us(self, quantile):
        shares = 0
        for ms, share in self.rows:
            shares += share
            if quantile < shares:
                return ms * 1000
        raise ValueError(quantile)

    def counted(self, histogram):
        """Of each row: (answers that took its delay or longer but less than the next one's, the most that one of them took
        longer, us)."""
        ends = [ms * 1000 for ms, _ in self.rows[1:]] + [math.inf]
        counts = []
        for (ms, _), end in zip(self.rows, ends):
            own = [(highest, count) for _, highest, count in buckets(histogram) if ms * 1000 <= highest < end]
            counts.append((sum(count for _, count in own), max((highest for highest, _ in own), default=0) - ms * 1000))
        return counts


def counts_by_bucket(histogram):
    return zip(itertools.accumulate(histogram.index_deltas), histogram.counts)


def buckets(histogram):
    """Of a histogram's message, the buckets that are not empty: (lowest value, highest value, us, observations). Their layout
    is that of lib/metrics/histogram.h."""
    def lowest(bucket):
        page = bucket // 1024
        return bucket if page < 2 else (1024 + bucket % 1024) << (page - 1)

    for bucket, count in counts_by_bucket(histogram):
        yield lowest(bucket), lowest(bucket + 1) - 1, count


def merged(histograms):
    """One message of all that they have observed."""
    totals = {}
    for histogram in histograms:
        for bucket, count in counts_by_bucket(histogram):
            totals[bucket] = totals.get(bucket, 0) + count
    ordered = sorted(totals)
    some = [histogram for histogram in histograms if histogram.counts]
    return metrics_pb.Histogram(index_deltas=[bucket - before for before, bucket in zip([0, *ordered], ordered)],
                                counts=[totals[bucket] for bucket in ordered],
                                min_us=min(histogram.min_us for histogram in some),
                                max_us=max(histogram.max_us for histogram in some),
                                sum_us=sum(histogram.sum_us for histogram in some))


def resolution_us(us):
    """Width of the bucket in which a value counts."""
    return 1 << max(us.bit_length() - 11, 0)


def quantile_us(histogram, quantile):
    """As lib/metrics reads it: the highest value of the bucket that has it."""
    rank = max(1, math.ceil(quantile * sum(histogram.counts)))
    for _, highest, count in buckets(histogram):
        rank -= count
        if rank <= 0:
            return min(highest, histogram.max_us)
    raise ValueError("the histogram is empty")


def scrape(address):
    """Prometheus text to {(name, labels): value}."""
    status, body = http(address, "GET", "/metrics")
    if status != 200:
        raise AssertionError(f"GET /metrics on {address}: {status}")
    figures = {}
    for line in body.decode().splitlines():
        match = re.match(r"^([a-zA-Z_:][\w:]*)(\{.*\})?\s+(\S+)$", line)
        if match and not line.startswith("#"):
            figures[(match.group(1), match.group(2) or "")] = float(match.group(3))
    return figures


def node_total(node, name):
    """A counter or gauge of loadstar-target, over all its processes."""
    return int(scrape(node.api_address)[(f"loadstar_target_{name}", '{process="total"}')])


class Results:
    """A results folder."""

    FILES = ("connections.csv", "latency.csv", "node-metrics.csv", "host-metrics.txt", "run.json", "summary.txt")

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    @property
    def run(self):
        return plain(json.loads((self.folder / "run.json").read_text()))

    @property
    def summary(self):
        return (self.folder / "summary.txt").read_text()

    def csv(self, name):
        with open(self.folder / name, newline="") as file:
            return list(csv.DictReader(file))

    def total(self, name, column):
        return sum(int(row[column]) for row in self.csv(name) if row[column] != "")


def plain(value):
    """JSON of a message without what protobuf's mapping adds: 64-bit numbers as strings."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value):
        return int(value)
    return value


class TestCase(unittest.TestCase):
    maxDiff = None

    def cluster(self, **options):
        cluster = Cluster(**options)
        # Logs are worth reading only when the test fails; by then its outcome has been recorded.
        self.addCleanup(lambda: cluster.close(show_logs=self._failed()))
        return cluster

    def _failed(self):
        outcome = getattr(self, "_outcome", None)
        result = getattr(outcome, "result", None)
        if result is not None:
            return any(test is self and text for test, text in result.errors + result.failures)
        return False

    def assert_within(self, measured, expected, ratio, what):
        self.assertLessEqual(abs(measured - expected), expected * ratio,
                             f"{what}: measured {measured}, expected {expected} within {ratio:.0%}")

    def assert_sound(self, run):
        """Passed; or, on a machine whose cores are busy elsewhere, the run says that its generator was starved of them."""
        verdict = run.verdict if hasattr(run, "verdict") else Bag(run["verdict"])
        kind = verdict.kind if isinstance(verdict.kind, int) else run_pb.VerdictKind.Value(verdict.kind)
        codes = {reason.code for reason in verdict.reasons}
        starved = {"schedule-lag", "generator-saturated", "host-contended", "host-stolen", "worker-stalled"}
        if kind == run_pb.VERDICT_KIND_NOT_TRUSTWORTHY and codes <= starved:
            print(f"note: this machine is busy: {[reason.message for reason in verdict.reasons]}", flush=True)
            return
        self.assertEqual(kind, run_pb.VERDICT_KIND_PASSED, [f"{r.code}: {r.message}" for r in verdict.reasons])

    def assert_ledger(self, run):
        """The ledger of a finished run (proto or its JSON) closes: nothing was lost between cause and count."""
        totals = run.totals if hasattr(run, "totals") else Bag(run["totals"])
        counters, gauges = totals.counters, totals.gauges
        connect = request = connection = 0
        for error in totals.errors:
            phase = error.phase if isinstance(error.phase, int) else metrics_pb.ErrorPhase.Value(error.phase)
            connect += error.count if phase == metrics_pb.ERROR_PHASE_CONNECT else 0
            request += error.count if phase == metrics_pb.ERROR_PHASE_REQUEST else 0
            connection += error.count if phase == metrics_pb.ERROR_PHASE_CONNECTION else 0
        self.assertEqual(counters.requests_sent,
                         counters.requests_answered + counters.requests_failed + gauges.requests_outstanding, "requests")
        self.assertEqual(counters.requests_due,
                         counters.requests_sent + counters.requests_dropped + gauges.requests_backlog, "due requests")
        self.assertEqual(counters.connects_attempted,
                         counters.connects_established + counters.connects_failed + gauges.connections_pending, "connects")
        self.assertEqual(counters.connects_established,
                         counters.connections_closed + counters.connections_lost + gauges.connections_established,
                         "connections")
        self.assertEqual(counters.heartbeats_sent, counters.heartbeats_answered + counters.heartbeats_failed, "heartbeats")
        self.assertEqual((connect, request, connection),
                         (counters.connects_failed, counters.requests_failed, counters.connections_lost), "errors by kind")
        return counters


class Bag:
    """Attribute access to a message's JSON, where a field at its default is absent."""

    def __init__(self, fields):
        self._fields = fields

    def __getattr__(self, name):
        value = self._fields.get(name, {} if name in ("counters", "gauges", "totals") else [] if name in ("errors", "reasons") else 0)
        if isinstance(value, dict):
            return Bag(value)
        return [Bag(item) for item in value] if isinstance(value, list) else value


def main():
    """Runs the tests of the calling file. A skip is told to ctest, and is a failure where CI=true."""
    threading.excepthook = lambda arguments: (sys.excepthook(*arguments[:3]), os._exit(70))
    result = unittest.main(verbosity=2, exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    if result.skipped and os.environ.get("CI") == "true":
        print("tests were skipped, which CI does not take: " + "; ".join(f"{test}: {why}" for test, why in result.skipped),
              file=sys.stderr)
        sys.exit(1)
    if result.skipped and len(result.skipped) >= result.testsRun:
        sys.exit(SKIPPED)
