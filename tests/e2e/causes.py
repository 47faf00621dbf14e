"""What can shape a run, provoked for real: each function runs a test against a cluster of its own while one thing is wrong,
and returns the finished run. docs/verdicts.md has what a run then says. Everything is undone at the end, and every run is
bounded in time.

Used by test_self_watch.py (some of them, in CI) and by tests/bench/self-watch.py (all).
"""

import contextlib
import os
import pathlib
import resource
import socket
import subprocess
import sys
import unittest

import harness
from harness import Namespace, elapsed, run_pb

HERE = pathlib.Path(__file__).resolve().parent

LOAD = """
target: {{{target}}}
load:
  connections: [{{ramp: {ramp}, to: {connections}}}, {{hold: {hold}}}]
  {requests}
  workers: {workers}
  connectTimeout: {connect_timeout}
"""


def document(loadstar, target="stack: nodes, protocol: tcp", connections=50, ramp="500ms", hold="6s",
             requests="requests: {model: open, rate: 1000/s total, timeout: 5s}", workers=1, connect_timeout="2s"):
    return loadstar.test_document(LOAD.format(target=target, connections=connections, ramp=ramp, hold=hold,
                                              requests=requests, workers=workers, connect_timeout=connect_timeout))


def finish(loadstar, run_id, seconds=60):
    return loadstar.wait_finished(run_id, seconds)


def pin(pids, core):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {core})


def prefer(pids):
    """Gives processes a high priority, where that may be: what else this machine does is not what is to be provoked."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, -20)


def cores():
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise unittest.SkipTest("one core: workers and target cannot have one each")
    return available[0], available[-1]


@contextlib.contextmanager
def started(**options):
    with harness.Cluster(**options) as loadstar:
        yield loadstar.start()


@contextlib.contextmanager
def in_namespace():
    """A cluster whose one agent, with its workers and nodes, lives in a network namespace."""
    with Namespace() as namespace, harness.Cluster(coordinator_listen="0.0.0.0", insecure=True) as loadstar:
        loadstar.start_coordinator()
        loadstar.start_agent_in(namespace)
        yield loadstar, namespace


# ---- The generator

def saturate(requests):
    """One worker, on one core, is asked for `requests` with many in flight. The target, on another core, only echoes."""
    with started() as loadstar:
        loadstar.deploy()
        mine, theirs = cores()
        pin(loadstar.node_processes(), theirs)
        prefer(loadstar.node_processes())
        run_id = loadstar.start_test(document(
            loadstar, connections=200, hold="5s", requests=f"requests: {{{requests}, timeout: 5s, pipeline: 512}}"))
        worker = harness.wait_for(loadstar.workers, 10, "the worker")
        pin(worker, mine)
        prefer(worker)
        return finish(loadstar, run_id)


def saturated_worker():
    """One worker is asked for far more than a core can do, and so many requests may be in flight that none waits for the
    target."""
    return saturate("model: open, rate: 4M/s total")


def saturated_closed_loop():
    """One worker asks for all there is in the closed model, with far more in flight than a turn of its loop gets to: that
    answers wait for it does not pass unseen."""
    return saturate("model: closed")


def stalled_worker():
    """The worker is stopped for two seconds of eight."""
    with started() as loadstar:
        loadstar.deploy()
        run_id = loadstar.start_test(document(loadstar, hold="7500ms"))
        elapsed(loadstar, run_id, 3.2)
        harness.stop_for(loadstar.workers()[:1], 2)
        return finish(loadstar, run_id)


def stalled_agent():
    """The agent is stopped for four seconds of eight: less than the coordinator waits for one. Its workers go on."""
    with started() as loadstar:
        loadstar.deploy()
        run_id = loadstar.start_test(document(loadstar, hold="7500ms"))
        elapsed(loadstar, run_id, 2.2)
        harness.stop_for([loadstar.processes["local"].pid], 4)
        return finish(loadstar, run_id)


def no_descriptors():
    """The worker's descriptor limit is lowered after it was planned with."""
    with started() as loadstar:
        loadstar.deploy()
        run_id = loadstar.start_test(document(loadstar, connections=300, ramp="2s", hold="2s"))
        worker = harness.wait_for(loadstar.workers, 10, "the worker")[0]
        loadstar.wait_state(run_id, run_pb.RUN_STATE_STARTING, 20)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (100, 100))
        return finish(loadstar, run_id)


# ---- The host

def no_ports():
    """Fewer ports than connections: the range is narrowed after the plan was made."""
    with in_namespace() as (loadstar, namespace):
        loadstar.deploy()
        run_id = loadstar.start_test(document(loadstar, connections=300, ramp="2s", hold="2s"))
        namespace.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40099")
        return finish(loadstar, run_id)


def conntrack_full():
    """Connection tracking is on in the namespace of agent and target, and its table is too small."""
    setting = pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_max")
    if not setting.exists():
        raise unittest.SkipTest("this kernel has no connection tracking")
    with in_namespace() as (loadstar, namespace):
        try:
            namespace.run(sys.executable, "-B", str(HERE / "track_connections.py"))
        except subprocess.CalledProcessError as error:
            raise unittest.SkipTest(f"connection tracking cannot be turned on here: {error.stderr}") from None
        loadstar.deploy()
        run_id = loadstar.start_test(document(loadstar, connections=300, ramp="2s", hold="3s"))
        before = setting.read_text()  # one for all namespaces; nothing else here tracks as many connections
        try:
            setting.write_text("100")
            return finish(loadstar, run_id)
        finally:
            setting.write_text(before)


def foreign_load():
    """Other programs, of a higher priority, take the cores."""
    with started() as loadstar:
        loadstar.deploy()
        run_id = loadstar.start_test(document(
            loadstar, connections=200, hold="7500ms", requests="requests: {model: open, rate: 100k/s total, timeout: 5s}"))
        elapsed(loadstar, run_id, 1.5)
        busy = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: pass"
        with contextlib.ExitStack() as stack:
            for _ in range(2 * len(os.sched_getaffinity(0))):
                try:
                    other = subprocess.Popen([sys.executable, "-c", busy], preexec_fn=lambda: os.nice(-15))
                except (OSError, subprocess.SubprocessError):
                    raise unittest.SkipTest("no process may have a higher priority here") from None
                stack.callback(other.wait)
                stack.callback(other.kill)
            return finish(loadstar, run_id)


def packet_loss():
    """Three hundredths of what the loopback interface of the namespace carries are lost, in both directions."""
    with in_namespace() as (loadstar, namespace):
        try:
            namespace.run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "3%")
        except (OSError, subprocess.CalledProcessError) as error:
            raise unittest.SkipTest(f"no packets can be dropped here: {getattr(error, 'stderr', error)}") from None
        loadstar.deploy()
        return finish(loadstar, loadstar.start_test(document(loadstar, connect_timeout="9s")))


# ---- The target

def saturated_target():
    """One process of the target, on one core, has to read a hundred header fields of each request, many requests at a time,
    and is asked for more than it can; the worker, on another core, only sends what was made before."""
    with started() as loadstar:
        loadstar.deploy()
        mine, theirs = cores()
        pin(loadstar.node_processes(), theirs)
        prefer(loadstar.node_processes())
        headers = ", ".join(f"X-{number}: y" for number in range(100))
        run_id = loadstar.start_test(document(
            loadstar, target=f"stack: nodes, protocol: http, http: {{headers: {{{headers}}}}}", connections=20,
            requests="requests: {model: open, rate: 1M/s total, timeout: 20s, pipeline: 64}"))
        worker = harness.wait_for(loadstar.workers, 10, "the worker")
        pin(worker, mine)
        prefer(worker)
        return finish(loadstar, run_id)


def listen_overflow():
    """A listener with a backlog of 1 whose owner does not accept."""
    with started() as loadstar, socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = harness.free_port()
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
        return finish(loadstar, loadstar.start_test(document(
            loadstar, target=f'endpoints: ["127.0.0.1:{port}"], protocol: tcp', connections=100, hold="4s", requests="")))


def closing_target():
    """The target closes the connection on a twentieth of the requests."""
    with started() as loadstar:
        node = loadstar.deploy().nodes[0]
        harness.fault(node, close_ratio=0.05)
        return finish(loadstar, loadstar.start_test(document(loadstar, hold="3s")))


def stopped_target():
    """The target's processes are stopped for two seconds of eight."""
    with started() as loadstar:
        loadstar.deploy()
        run_id = loadstar.start_test(document(loadstar, hold="7500ms"))
        elapsed(loadstar, run_id, 3)
        harness.stop_for(loadstar.node_processes(), 2)
        return finish(loadstar, run_id)


# ---- The ledger of target against workers

def another_client():
    """Somebody else uses the target during the run."""
    with started() as loadstar:
        node = loadstar.deploy().nodes[0]
        run_id = loadstar.start_test(document(loadstar, hold="3s"))
        elapsed(loadstar, run_id, 1)
        host, port = node.listen_address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=5) as other:
            other.sendall(b"x" * 64)
            other.recv(64)
        return finish(loadstar, run_id)


def nothing_wrong():
    """Nothing is: the run that the others are compared with."""
    with started() as loadstar:
        loadstar.deploy()
        return finish(loadstar, loadstar.start_test(document(loadstar)))


PASSED, FAILED, NOT_TRUSTWORTHY = "PASSED", "FAILED", "NOT_TRUSTWORTHY"

# The cause, the verdict that the run must have, and the reason (or, where the verdict is passed, the event) that names it.
CAUSES = (
    (nothing_wrong, PASSED, None),
    (saturated_worker, NOT_TRUSTWORTHY, "generator-saturated"),
    (saturated_closed_loop, PASSED, "workers-saturated"),
    (stalled_worker, NOT_TRUSTWORTHY, "worker-stalled"),
    (stalled_agent, PASSED, "agent-stalled"),
    (no_descriptors, NOT_TRUSTWORTHY, "no-descriptors"),
    (no_ports, NOT_TRUSTWORTHY, "no-ports"),
    (conntrack_full, NOT_TRUSTWORTHY, "conntrack-full"),
    (foreign_load, NOT_TRUSTWORTHY, "host-contended"),
    (packet_loss, NOT_TRUSTWORTHY, "packet-loss"),
    (saturated_target, FAILED, "target-saturated"),
    (listen_overflow, FAILED, "listen-overflow"),
    (closing_target, FAILED, "connections-lost"),
    (stopped_target, PASSED, None),
    (another_client, PASSED, "ledger-target"),
)


def verdict_of(run):
    return run_pb.VerdictKind.Name(run.verdict.kind).replace("VERDICT_KIND_", "")


def line_of(run, code):
    """What the run says of a cause, as `loadstar show` words it."""
    for reason in run.verdict.reasons:
        if reason.code == code:
            side = run_pb.Side.Name(reason.side).replace("SIDE_", "").lower()
            return f"{side}, {reason.code}: {reason.message}" + (f" -> {reason.remedy}" if reason.remedy else "")
    for event in run.events:
        if event.code == code:
            return f"event, {event.code}: {event.message}"
    return None
