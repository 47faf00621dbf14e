#!/usr/bin/python3
"""How exactly quantiles are measured, up to p99.99: a node whose answers take delays of known shares, on both backends.

usage: quantiles.py [--repetitions 5] [--backends io_uring,epoll]

5,000 requests/s over 1,000 connections: 89 are in flight on average, so that none waits for a connection. Measured are the 40 s
after the connections were brought up, so that p99.99 rests on twenty answers. The exact quantiles follow from the shares alone (POST
/fault, `delays`). What is measured beyond them is the round trip, the generator's error and the histogram's resolution: a line has the
quantiles of the same load without delays (`base_ms`), the width of the buckets that have the exact ones (`resolution_ms`) and the
longest turn of the worker's loop (`loop_max_ms`), which is most of the error of its clock. `dealt` and `counted`: answers by delay;
counted are those too that were in flight when the 40 s began. One line of JSON a measurement, then the medians. Repetitions
are interleaved. Needs build/release.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # pylint: disable=wrong-import-position

import repetitions

RATE, SECONDS, CONNECTIONS = 5000, 40, 1000
RAMP_S = 2  # the second one is for what waited in the first
DELAYS = harness.Delays((10, 0.7), (30, 0.25), (60, 0.045), (100, 0.0045), (200, 0.0005))


def by_quantile(value_of):
    return {f"p{quantile * 100:g}": value_of(quantile) for quantile in DELAYS.QUANTILES}


def load(cluster):
    run_id = cluster.start_test(cluster.test_document(f"""
target: {{stack: nodes, protocol: http}}
load:
  connections: [{{ramp: 1s, to: {CONNECTIONS}}}, {{hold: {RAMP_S - 1 + SECONDS}s}}]
  requests: {{model: open, rate: {RATE}/s total}}
"""))
    run = cluster.wait_finished(run_id, 2 * SECONDS + 60)
    snapshots = [snapshot for snapshot in cluster.snapshots(run_id) if snapshot.from_elapsed_s >= RAMP_S]
    latency = harness.merged([snapshot.figures.latency for snapshot in snapshots])
    if sum(latency.counts) < 0.999 * RATE * SECONDS:
        raise RuntimeError(f"{sum(latency.counts)} answers in {SECONDS} s:\n{run.verdict}")
    loop_max_ns = max(worker.loop_max_ns for snapshot in snapshots for worker in snapshot.workers)
    return run, latency, loop_max_ns


def quantiles_ms(latency):
    return by_quantile(lambda quantile: harness.quantile_us(latency, quantile) / 1e3)


def measure(backend):
    with harness.Cluster() as cluster:
        cluster.start_coordinator()
        cluster.start_agent(flags=("--worker-backend", backend))
        node = cluster.deploy(nodes=1).nodes[0]
        _, base, _ = load(cluster)
        DELAYS.set_on(node)
        run, latency, loop_max_ns = load(cluster)
    exact = by_quantile(lambda quantile: DELAYS.exact_us(quantile) / 1e3)
    measured = quantiles_ms(latency)
    requests = sum(latency.counts)
    return {"bench": "quantiles", "backend": backend, "requests": requests, "exact_ms": exact, "measured_ms": measured,
            "difference_ms": {name: round(measured[name] - exact[name], 3) for name in exact}, "base_ms": quantiles_ms(base),
            "resolution_ms": by_quantile(lambda quantile: harness.resolution_us(DELAYS.exact_us(quantile)) / 1e3),
            "dealt": {f"{ms}ms": round(share * requests, 1) for ms, share in DELAYS.rows},
            "counted": {f"{ms}ms": count for (ms, _), (count, _) in zip(DELAYS.rows, DELAYS.counted(latency))},
            "lag_p99_ms": run.schedule_lag.p99_us / 1e3, "loop_max_ms": round(loop_max_ns / 1e6, 3),
            "verdict": harness.run_pb.VerdictKind.Name(run.verdict.kind)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--backends", default="io_uring,epoll")
    options = parser.parse_args()
    for measured in repetitions.interleaved(options.backends.split(","), options.repetitions, measure).values():
        repetitions.show(repetitions.summary(measured))


if __name__ == "__main__":
    main()
