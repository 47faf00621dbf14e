#!/usr/bin/python3
"""Runs a scenario against four nodes of its own and prints the figures as one line of JSON.

usage: measure.py [--stack STACK] SCENARIO [any argument of `loadstar run`, such as --set load.workers=4 or --scale 0.1]

In the middle of the longest hold three witnesses count the connections: the workers (their sum), the nodes (their own
gauges) and the kernel (established sockets at the nodes' ports). Memory is what the host has less of than before the nodes
were brought up: user memory by process (anonymous), the kernel's as the rest. How the cores' time divides is read at both ends of
that hold: user and kernel time of each program, and what was idle, as shares of all cores. `interrupts` is no further part: on
loopback they run inside the sender's system call, and the kernel counts most of them as that program's kernel time, too.
Everything printed was measured in that run; what was not is absent.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # pylint: disable=wrong-import-position

import processes

PORTS = (9100, 9101, 9102, 9103)


def seconds(duration):
    return duration.seconds + duration.nanos / 1e9


def longest_hold(test):
    """Its first and its last second."""
    begin, best = 0.0, (0.0, -1.0)
    for stage in test.load.connections:
        length = seconds(stage.duration)
        if stage.hold and length > best[1] - best[0]:
            best = (begin, begin + length)
        begin += length
    return int(best[0]), int(best[1])


def cpu_reading(pids):
    """Ticks so far: of the host by state, and of our programs in user space and in the kernel."""
    with open("/proc/stat", encoding="ascii") as text:
        names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
        host = dict(zip(names, map(int, text.readline().split()[1:9])))
    reading = {"all": sum(host.values()), "interrupts": host["irq"] + host["softirq"], "idle": host["idle"] + host["iowait"],
               "stolen": host["steal"]}
    for pid in pids:
        try:
            stat = processes.Stat(pid)
        except OSError:
            continue
        for kind, ticks in ((f"{stat.name} user", stat.user_ticks), (f"{stat.name} kernel", stat.kernel_ticks)):
            reading[kind] = reading.get(kind, 0) + ticks
    return reading


def cpu_shares(before, after):
    grown = {kind: ticks - before.get(kind, 0) for kind, ticks in after.items()}
    if grown["all"] == 0:
        return {}  # a hold too short for two readings
    return {kind: round(ticks / grown["all"], 3) for kind, ticks in sorted(grown.items()) if kind != "all"}


def memory_free():
    """Free memory and page cache. Not MemAvailable: it takes the inodes of open sockets for reclaimable."""
    with open("/proc/meminfo", encoding="ascii") as text:
        fields = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text}
    return fields["MemFree"] + fields["Buffers"] + fields["Cached"] - fields["Shmem"]


class Watcher(threading.Thread):
    """Follows the run as a subscriber; takes the witnesses in the middle of the hold."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.figures, self.run_id = cluster, {}, None
        self.free_before = memory_free()
        self.cpu_before = None

    def run(self):
        runs = lambda: self.cluster.api.ListRuns(harness.service_pb.ListRunsRequest(page_size=1), timeout=10).runs
        self.run_id = harness.wait_for(runs, 60, "the run to begin")[0].run_id
        begin = end = None
        for message in self.cluster.stream(self.run_id, timeout=7200):
            if message.HasField("run"):
                begin, end = longest_hold(message.run.test)
            elif begin is not None:
                self.see(message.snapshot, begin, end)

    def see(self, snapshot, begin, end):
        now = snapshot.to_elapsed_s
        if now > begin and self.cpu_before is None:
            self.cpu_before = cpu_reading(self.cluster.marked())
        if now >= (begin + end) // 2 and "at_s" not in self.figures:
            self.take(snapshot)
        if now >= end - 1 and self.cpu_before and "cpu_shares" not in self.figures:
            self.figures["cpu_shares"] = cpu_shares(self.cpu_before, cpu_reading(self.cluster.marked()))

    def take(self, snapshot):
        taken = self.free_before - memory_free()
        user = sum(map(processes.anonymous, self.cluster.marked()))
        # The kernel first: it is asked now, the other two counted within the last second.
        by_port = harness.established_on(*PORTS)
        kernel = {f"node{number}": by_port[port] for number, port in enumerate(PORTS, 1)}
        self.figures = {
            "at_s": snapshot.to_elapsed_s,
            "witness_workers": snapshot.figures.gauges.connections_established,
            "witness_nodes": sum(node.connections for node in snapshot.nodes),
            "witness_kernel": sum(kernel.values()),
            "per_node": {e.node: {"workers": e.gauges.connections_established, "kernel": kernel.get(e.node)}
                         for e in snapshot.endpoints},
            "workers": len(snapshot.workers),
            "worker_rss_bytes": sum(worker.rss_bytes for worker in snapshot.workers),
            "memory_taken_bytes": taken, "user_memory_bytes": user, "kernel_memory_bytes": taken - user,
            "worker_cpu_share": round(sum(worker.cpu_ns for worker in snapshot.workers) / 1e9, 3),
        }
        for node in snapshot.nodes:
            self.figures["per_node"].setdefault(node.node.rsplit("/", 1)[-1], {})["node"] = node.connections
        held = self.figures["witness_workers"]
        if held:
            self.figures["worker_rss_bytes_per_connection"] = round(self.figures["worker_rss_bytes"] / held)


def percentiles(figures):
    return {name: getattr(figures, f"{name}_us") / 1e3 for name in ("p50", "p90", "p95", "p99", "p999", "max")}


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if len(sys.argv) > 1 else 2)
    stack, words = "four-nodes", sys.argv[1:]
    if words[0] == "--stack":
        stack, words = words[1], words[2:]
    scenario, arguments = words[0], words[1:]
    with harness.Cluster() as cluster:
        cluster.start()
        watcher = Watcher(cluster)
        deployed = subprocess.run([harness.BIN / "loadstar", "deploy", stack, "--coordinator", cluster.address],
                                  cwd=harness.ROOT, capture_output=True, text=True, timeout=120, check=False,
                                  env={**os.environ, harness.MARK: cluster.mark})
        if deployed.returncode != 0:
            sys.exit(f"deploy failed:\n{deployed.stdout}{deployed.stderr}")
        watcher.start()
        began = time.monotonic()
        run = subprocess.run([harness.BIN / "loadstar", "run", scenario, "--output", cluster.results, "--coordinator",
                              cluster.address, *arguments], cwd=harness.ROOT, capture_output=True, text=True, timeout=7200,
                             check=False, env={**os.environ, harness.MARK: cluster.mark})
        wall = time.monotonic() - began
        sys.stderr.write("\n".join(run.stdout.splitlines()[-40:]) + "\n" + run.stderr)
        if watcher.run_id is None:
            sys.exit(f"the run did not begin (exit {run.returncode})")
        watcher.join(60)
        done = cluster.get_run(watcher.run_id)
        counters = done.totals.counters
        load_s = done.recorded_s
        print(json.dumps({
            "scenario": scenario, "arguments": arguments, "exit_code": run.returncode,
            "verdict": harness.run_pb.VerdictKind.Name(done.verdict.kind),
            "reasons": [f"{reason.code}: {reason.message}" for reason in done.verdict.reasons],
            "memory_expected_bytes": sum(part.memory_need.kernel_bytes + part.memory_need.user_bytes
                                         for part in done.participants) or None,
            "wall_s": round(wall, 1), "recorded_s": load_s, "peak_connections": done.peak_connections, **watcher.figures,
            "requests_per_s": round(counters.requests_answered / load_s, 1) if load_s else None,
            "requests_sent": counters.requests_sent, "requests_answered": counters.requests_answered,
            "requests_failed": counters.requests_failed, "connects_failed": counters.connects_failed,
            "latency_ms": percentiles(done.latency), "service_time_ms": percentiles(done.service_time),
            "schedule_lag_ms": percentiles(done.schedule_lag), "connect_time_ms": percentiles(done.connect_time),
            "cores": os.cpu_count(), "kernel": os.uname().release,
        }))
        sys.exit(run.returncode)


if __name__ == "__main__":
    main()
