#!/usr/bin/python3
"""Which generators show a stall: 1,000 requests/s over 50 connections for 20 s, the target stands still for 2 s in the middle.

usage: truth.py [--repetitions 5] [--tools loadstar,loadstar-epoll,wrk,h2load,hey]

Every tool meets its own fresh loadstar-target (HTTP), which stalls by POST /fault. The exact percentiles follow from the
schedule: a request due t before the end of the stall takes t. One line of JSON a measurement, then the medians; latencies are
what the tool itself says, in ms. wrk and hey have no schedule: wrk asks for all it can get, hey is given 20 requests/s on each
connection. Repetitions are interleaved. Needs build/release and deploy/install-dependencies.sh --bench.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # pylint: disable=wrong-import-position

import repetitions

RATE, SECONDS, STALL_S, CONNECTIONS = 1000, 20, 2.0, 50
QUANTILES = (0.5, 0.95, 0.99, 0.999)
API, LISTEN = "127.0.0.1:8482", "127.0.0.1:9482"


def exact():
    total = RATE * SECONDS
    waits = [0.0] * (total - int(STALL_S * RATE)) + [i / RATE * 1e3 for i in range(1, int(STALL_S * RATE) + 1)]
    return {f"p{quantile * 100:g}": waits[int(quantile * total + 0.5) - 1] for quantile in QUANTILES}


def stall():
    body = json.dumps({"stall_ms": int(STALL_S * 1000)}).encode()
    urllib.request.urlopen(urllib.request.Request(f"http://{API}/fault", body, method="POST"), timeout=10).close()


def is_up():
    try:
        return urllib.request.urlopen(f"http://{API}/health", timeout=5).status == 200
    except OSError:
        return False


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|secs)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "secs": 1e3}[unit]


def with_loadstar(backend):
    with harness.Cluster() as cluster:
        cluster.start_coordinator()
        cluster.start_agent(flags=("--worker-backend", backend))
        run_id = cluster.start_test(cluster.test_document(f"""
target: {{endpoints: ["{LISTEN}"], protocol: http}}
load:
  connections: [{{ramp: 100ms, to: {CONNECTIONS}}}, {{hold: {SECONDS * 1000 - 100}ms}}]
  requests: {{model: open, rate: {RATE}/s total}}
"""))
        run = cluster.wait_state(run_id, harness.run_pb.RUN_STATE_RUNNING, 20)
        timer = threading.Timer(run.start_at.seconds + run.start_at.nanos / 1e9 + SECONDS / 2 - time.time(), stall)
        timer.start()
        run = cluster.wait_finished(run_id, 60)
        latency = run.latency
        return {"requests": run.totals.counters.requests_answered, "p50": latency.p50_us / 1e3, "p95": latency.p95_us / 1e3,
                "p99": latency.p99_us / 1e3, "p99.9": latency.p999_us / 1e3,
                "service_p99": run.service_time.p99_us / 1e3, "lag_p99": run.schedule_lag.p99_us / 1e3,
                "verdict": harness.run_pb.VerdictKind.Name(run.verdict.kind)}


def with_command(command):
    timer = threading.Timer(SECONDS / 2, stall)
    timer.start()
    text = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    timer.join()
    return text


def with_wrk():
    text = with_command(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", f"http://{LISTEN}/"])
    found = dict(re.findall(r"^\s+(50|75|90|99)%\s+(\S+)\s*$", text, re.M))
    return {"requests": int(re.search(r"(\d+) requests in", text)[1]), "p50": milliseconds(found["50"]),
            "p99": milliseconds(found["99"])}


def with_h2load():
    log = pathlib.Path(tempfile.mkstemp(prefix="h2load-")[1])
    try:
        with_command(["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-D{SECONDS}", f"--rps={RATE // CONNECTIONS}",
                      f"--log-file={log}", f"http://{LISTEN}/"])
        # start (us), status, time taken (us)
        taken = sorted(int(line.split("\t")[2]) / 1e3 for line in log.read_text(encoding="ascii").splitlines())
    finally:
        log.unlink()
    return {"requests": len(taken), **{f"p{q * 100:g}": taken[int(q * len(taken) + 0.5) - 1] for q in QUANTILES}}


def with_hey():
    text = with_command(["hey", "-cpus", "1", f"-c={CONNECTIONS}", f"-q={RATE // CONNECTIONS}", f"-z={SECONDS}s",
                         f"http://{LISTEN}/"])
    found = dict(re.findall(r"^\s+(\d+)% in (\S+) secs", text, re.M))
    return {"requests": int(re.search(r"\[200\]\s+(\d+) responses", text)[1]), "p50": float(found["50"]) * 1e3,
            "p95": float(found["95"]) * 1e3, "p99": float(found["99"]) * 1e3}


TOOLS = {"loadstar": lambda: with_loadstar("io_uring"), "loadstar-epoll": lambda: with_loadstar("epoll"), "wrk": with_wrk,
         "h2load": with_h2load, "hey": with_hey}


def measure(tool):
    with subprocess.Popen([harness.BIN / "loadstar-target", "--listen", LISTEN, "--api", API, "--protocol", "http",
                           "--log-level", "warn"]) as target:
        try:
            harness.wait_for(is_up, 10, "the target")
            return {"bench": "truth", "tool": tool, **TOOLS[tool]()}
        finally:
            target.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--tools", default=",".join(TOOLS))
    options = parser.parse_args()
    repetitions.show({"bench": "truth", "tool": "exact", "requests": RATE * SECONDS, **exact()})
    for measured in repetitions.interleaved(options.tools.split(","), options.repetitions, measure).values():
        repetitions.show(repetitions.summary(measured))


if __name__ == "__main__":
    main()
