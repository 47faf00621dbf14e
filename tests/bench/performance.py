#!/usr/bin/python3
"""Writes docs/performance.md and its plot from measured JSON lines.

usage: performance.py

Reads docs/performance/*.jsonl as the benches printed them: peers.jsonl (peers.py), pair.jsonl (pair.py), growth.jsonl
(growth.py), truth.jsonl (truth.py), runs.jsonl (full-short.sh, million.sh, quickstart.sh). A file or a figure that is not there is left out. Needs
deploy/install-dependencies.sh --bench.
"""

import json
import pathlib

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "loadstar"  # the same picture from the same figures
from matplotlib import pyplot  # pylint: disable=wrong-import-position

DOCS = pathlib.Path(__file__).resolve().parent.parent.parent / "docs"
MEASURED = DOCS / "performance"


def lines(name):
    path = MEASURED / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def medians(name):
    return [line for line in lines(name) if "median_of" in line or line.get("tool") == "exact"]


def full_speed(peers):
    return [p for p in peers if p["tool"] != "loadstar-rate"]


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |",
                      *("| " + " | ".join(row) + " |" for row in rows), ""])


def rate_part(peers):
    rows = [[number(p["connections"]), number(p["requests_per_s"], 1), number(p["cpu_us_per_request"], 2),
             number(p.get("cpu_us_per_request_to_wrk"), 2), number(p["lag_p99_ms"], 3)]
            for p in peers if p["tool"] == "loadstar-rate"]
    if not rows:
        return ""
    return ("The worker at a given rate (open model) against the same nginx, its CPU beside wrk's at full speed:\n\n"
            + table(["connections", "requests/s", "CPU us/request", "x wrk's", "lag p99 ms"], rows))


def peers_part(peers):
    if not peers:
        return ""
    given_rate = rate_part(peers)
    peers = full_speed(peers)
    rows = [[p["tool"], number(p["connections"]), number(p["cpu_us_per_request"], 2),
             number(p.get("cpu_us_per_request_to_wrk"), 2), number(p["requests_per_s"]),
             number(p.get("requests_per_s_to_wrk"), 2), number(p.get("anonymous_bytes_per_connection"))] for p in peers]
    return ("## Beside other tools\n\nOne nginx worker on one core, the tool with one thread on the other, closed model, "
            f"100-byte answers; medians of {peers[0]['median_of']} interleaved repetitions (`tests/bench/peers.py`). `floor` is a "
            "bare io_uring client without any accounting. Memory is anonymous memory of the process.\n\n"
            + table(["tool", "connections", "CPU us/request", "x wrk's", "requests/s", "x wrk's", "bytes/connection"], rows)
            + (f"\n{given_rate}" if given_rate else ""))


def pair_part(pair):
    if not pair:
        return ""
    names = {"loadstar": "worker and target", "echo_floor": "bare pair"}
    trips = [[names[p["tool"]], p["backend"], number(p["connections"]), number(p["requests_per_s"]),
              number(p.get("requests_per_s_to_epoll"), 2), number(p["cpu_us_per_request"], 2),
              number(p["target_cpu_us_per_request"], 2)] for p in pair if "connections" in p]
    opened = [[names[p["tool"]], p["backend"], number(p["connections_per_s"]), number(p.get("connections_per_s_to_epoll"), 2)]
              for p in pair if "opened" in p]
    return ("## io_uring beside epoll\n\nThe worker and loadstar-target, each with a core of its own, both on the same backend; closed "
            f"model, {pair[0]['protocol']}; medians of {pair[0]['median_of']} interleaved repetitions (`tests/bench/pair.py`). The bare "
            "pair (`tests/bench/echo_floor.cc`) has no accounting and waits for no company: what the backends can do for anybody "
            "on this machine.\n\n"
            + table(["pair", "backend", "connections", "round trips/s", "x epoll", "client CPU us", "server CPU us"], trips)
            + ("\nConnections opened, as many as the client can begin:\n\n"
               + table(["pair", "backend", "connections/s", "x epoll"], opened) if opened else ""))


def growth_part(growth):
    if not growth:
        return ""
    rows = [[g["backend"], number(g["connections"]), number(g["workers"]), number(g["requests_per_s"], 1),
             number(g["cpu_us_per_request"], 2), number(g.get("anonymous_bytes_per_connection")), number(g["latency_p50_ms"], 3),
             number(g["latency_p99_ms"], 3), number(g["lag_p99_ms"], 3)] for g in growth]
    return (f"## How cost grows\n\nOpen model, {growth[0]['protocol']}, {growth[0]['rate']:,} requests/s in all, workers on one core and "
            f"loadstar-target on the other; medians of {growth[0]['median_of']} interleaved repetitions "
            "(`tests/bench/growth.py`).\n\n"
            + table(["backend", "connections", "workers", "requests/s", "CPU us/request", "bytes/connection", "latency p50 ms",
                     "latency p99 ms", "lag p99 ms"], rows))


def truth_part(truth):
    if not truth:
        return ""
    rows = [[t["tool"], number(t["requests"]), *(number(t.get(name), 1) for name in ("p50", "p95", "p99", "p99.9"))]
            for t in truth]
    return ("## Truth\n\n1,000 requests/s over 50 connections for 20 s, the target stands still for 2 s in the middle: what each "
            "tool says of the latency, in ms (`tests/bench/truth.py`). wrk asks for all it can get.\n\n"
            + table(["tool", "requests", "p50", "p95", "p99", "p99.9"], rows))


def runs_part(runs):
    if not runs:
        return ""
    rows = []
    for run in runs:
        expected, taken = run.get("memory_expected_bytes"), run.get("memory_taken_bytes")
        rows.append([pathlib.Path(run["scenario"]).stem, run["kernel"], number(run["peak_connections"]),
                     number(run["requests_answered"]), number(run["requests_per_s"]),
                     number(run["latency_ms"]["p50"], 2), number(run["latency_ms"]["p99"], 2),
                     number(run["schedule_lag_ms"]["p99"], 2), number(expected and expected / 1e9, 2),
                     number(taken and taken / 1e9, 2), run["verdict"].removeprefix("VERDICT_KIND_")])
    return ("## Whole runs\n\nCoordinator, agent, workers and four nodes on the same "
            f"{runs[0]['cores']} cores (`tests/bench/quickstart.sh`, `full-short.sh`, `million.sh`). Memory is of both ends, as the "
            "planner expected it and as the host had less of it. The rate is over the whole run, its ramp included.\n\n"
            + table(["scenario", "kernel", "connections", "requests", "requests/s", "p50 ms", "p99 ms", "lag p99 ms",
                     "GB expected", "GB taken", "verdict"], rows))


def plot(peers, growth):
    figure, (cpu, memory) = pyplot.subplots(1, 2, figsize=(10, 4))
    series = [(p["tool"], p) for p in full_speed(peers)] + [(f"loadstar {g['backend']}, open model", g) for g in growth]
    for axis, figure_name, title in ((cpu, "cpu_us_per_request", "CPU per request, us"),
                                     (memory, "anonymous_bytes_per_connection", "user memory per connection, bytes")):
        for name in dict.fromkeys(name for name, _ in series):
            points = [(s["connections"], s[figure_name]) for n, s in series if n == name and s.get(figure_name)]
            if points:
                axis.plot(*zip(*points), marker="o", label=name)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("connections")
        axis.set_title(title)
        axis.grid(True, which="both", alpha=0.3)
    cpu.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(MEASURED / "growth.svg", metadata={"Date": None})


def main():
    peers, pair, growth, truth = (medians(name) for name in ("peers", "pair", "growth", "truth"))
    runs = lines("runs")
    picture = ""
    if peers or growth:
        plot(peers, growth)
        picture = "![CPU per request and memory per connection](performance/growth.svg)\n"
    machines = sorted({f"{run['cores']} cores, Linux {run['kernel']}" for run in runs})
    head = ("# Performance\n\nWritten by `tests/bench/performance.py` from what the benches measured "
            f"(`docs/performance/*.jsonl`){', on ' + '; '.join(machines) if machines else ''}. On loopback a sender's system call also "
            "does the receiver's network work: how CPU divides between client and server is the kernel's accounting. The speed "
            "of the machine drifted by 30 % within minutes: ratios were measured side by side and say more than figures do.\n\n")
    parts = [picture, peers_part(peers), pair_part(pair), growth_part(growth), truth_part(truth), runs_part(runs)]
    (DOCS / "performance.md").write_text(head + "\n".join(part for part in parts if part), encoding="utf-8")


if __name__ == "__main__":
    main()
