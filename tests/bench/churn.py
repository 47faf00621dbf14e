#!/usr/bin/python3
"""A soak with churn: connections that are closed, refused, timed out, dropped and opened again, minute after minute.

usage: churn.py [--minutes 15] [--connections 5000] [--backend io_uring]

One node whose faults change every few seconds: it closes connections on 2 % of the requests, answers late beyond the request
timeout, refuses connects, stands still beyond the connect timeout, behaves. The worker reconnects with backoff. Every ten
seconds of good behaviour the worker's and the node's anonymous memory and descriptors are read. Prints them as lines of JSON, and
at last the growth from the second quarter of the run to its last; exit 1 when memory grew by more than 5 % or any descriptor is
left over. Needs build/release.
"""

import argparse
import itertools
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # pylint: disable=wrong-import-position

import processes

FAULTS = ({"close_ratio": 0.02}, {}, {"delay_ms": 1500}, {}, {"refuse": True, "close_ratio": 0.05}, {}, {"stall_ms": 3000}, {})
PHASE_S = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--backend", default="io_uring")
    options = parser.parse_args()
    seconds = int(options.minutes * 60)
    with harness.Cluster() as cluster:
        cluster.start_coordinator()
        cluster.start_agent(flags=("--worker-backend", options.backend))
        node = cluster.deploy(nodes=1).nodes[0]
        run_id = cluster.start_test(cluster.test_document(f"""
target: {{stack: nodes, protocol: mcp-tcp}}
load:
  connections: [{{ramp: 5s, to: {options.connections}}}, {{hold: {seconds}s}}]
  requests: {{model: open, rate: 1/s per connection, arrival: poisson, timeout: 1s}}
  connectTimeout: 1s
  reconnect: {{initial: 100ms, max: 2s}}
  workers: 1
""", name="churn"))
        cluster.wait_state(run_id, harness.run_pb.RUN_STATE_RUNNING, 30)
        begun = time.monotonic()
        readings = []
        for faults in itertools.cycle(FAULTS):
            harness.fault(node, **faults)
            time.sleep(PHASE_S)
            elapsed = time.monotonic() - begun
            if elapsed > seconds:
                break
            if faults:
                continue
            worker, target = cluster.workers(), cluster.node_processes()
            readings.append({"bench": "churn", "backend": options.backend, "elapsed_s": round(elapsed, 1),
                             "worker_anonymous_bytes": sum(map(processes.anonymous, worker)),
                             "node_anonymous_bytes": sum(map(processes.anonymous, target)),
                             "worker_descriptors": sum(map(processes.descriptors, worker)),
                             "node_descriptors": sum(map(processes.descriptors, target))})
            print(json.dumps(readings[-1]), flush=True)
        harness.fault(node)
        run = cluster.wait_finished(run_id, 120)
        node_descriptors = sum(map(processes.descriptors, cluster.node_processes()))
        counters = run.totals.counters
        quarter = max(1, len(readings) // 4)
        growth = {}
        for name in ("worker_anonymous_bytes", "node_anonymous_bytes"):
            before = statistics.median(reading[name] for reading in readings[quarter:2 * quarter] or readings)
            after = statistics.median(reading[name] for reading in readings[-quarter:])
            growth[f"{name}_growth"] = round(after / before - 1, 4)
        most = max(reading["worker_descriptors"] for reading in readings)
        verdict = {"bench": "churn", "backend": options.backend, "minutes": options.minutes,
                   "established": counters.connects_established, "connects_failed": counters.connects_failed,
                   "lost": counters.connections_lost, "requests_answered": counters.requests_answered,
                   "requests_failed": counters.requests_failed, **growth, "worker_descriptors_most": most,
                   "node_descriptors_after": node_descriptors,
                   "ledger_reasons": [reason.message for reason in run.verdict.reasons if reason.code.startswith("ledger")]}
        print(json.dumps(verdict))
        bad = any(value > 0.05 for value in growth.values()) or most > options.connections + 64 or node_descriptors > 64
        sys.exit(1 if bad or verdict["ledger_reasons"] else 0)


if __name__ == "__main__":
    main()
