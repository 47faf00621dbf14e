#!/usr/bin/python3
"""How the worker's cost grows with connections: CPU per request and memory per connection at one rate.

usage: growth.py [--connections 1000,10000,100000] [--rate 20000] [--repetitions 5] [--seconds 10] [--backends io_uring,epoll]
                 [--protocol mcp|tcp|http] [--workers N] [--ramp SECONDS] [--unpinned]

loadstar-target on one core, the workers on the other (up to 19,000 connections each), open model, the rate in all whatever the
number of connections. Beside tcpkali, which held 60,000 connections with a message in 10 s each:
    growth.py --connections 60000 --rate 6000 --protocol tcp --workers 6 --ramp 2 --unpinned
Repetitions are interleaved. One line of JSON a measurement, then the medians. Needs
build/release.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time

import peers
import processes
import repetitions

PER_PROCESS = 19_000
FIGURES = ("requests_per_s", "cpu_us_per_request", "target_cpu_us_per_request", "anonymous_bytes_per_connection",
           "latency_p50_ms", "latency_p99_ms", "lag_p99_ms", "cpu_share", "established_most", "established_within_s")


def measure(backend, connections, options):
    """One run of the workers against a target of its own, both on `backend`; options as the command line has them."""
    workers = options.workers or -(-connections // PER_PROCESS)
    ramp = max(2, connections // 8000) if options.ramp is None else options.ramp
    last = os.cpu_count() - 1
    mine, theirs = (f"0-{last}",) * 2 if options.unpinned else ("0", str(last))
    with subprocess.Popen(["taskset", "-c", theirs, peers.BIN / "bin/loadstar-target", "--listen", "127.0.0.1:9481",
                           "--api", "127.0.0.1:8481", "--processes", str(-(-connections // 17_000)),
                           "--backend", backend, "--log-level", "warn"]) as target:
        try:
            time.sleep(1)
            with tempfile.TemporaryFile("w+") as output:
                drive = subprocess.Popen(["taskset", "-c", mine, peers.BIN / "tests/worker_drive",
                                          peers.BIN / "bin/loadstar-worker", backend, str(workers), str(connections),
                                          str(ramp), str(options.seconds), str(options.rate), options.protocol, "16",
                                          "127.0.0.1:9481"],
                                         stdout=output, stderr=output)
                memory = {}
                sampler = threading.Timer(ramp + options.seconds * 2 / 3, lambda: memory.update(
                    bytes=sum(map(processes.anonymous, processes.tree(drive.pid)[1:]))))
                sampler.start()
                status = drive.wait()
                sampler.cancel()
                target_cpu_s = processes.cpu_seconds(*processes.tree(target.pid))
                output.seek(0)
                text = output.read()
        finally:
            target.terminate()
    if status != 0:
        raise RuntimeError(f"worker_drive ended with status {status}:\n{text[-2000:]}")
    if '"requests": 0,' in text:
        raise RuntimeError(f"no request was answered in the hold:\n{text[-2000:]}")
    figures = json.loads(text.strip().splitlines()[-1])
    established = [int(count) for count in re.findall(r"^ *\d+ target=.* established=(\d+) ", text, re.M)[:ramp + options.seconds]]
    figures["target_cpu_us_per_request"] = round(target_cpu_s / figures["requests_in_all"] * 1e6, 3)
    figures["established_most"] = max(established)
    # Known to the second: the sample that ends then has them all.
    figures["established_within_s"] = next((i + 1 for i, n in enumerate(established) if n == connections), None)
    return {"bench": "growth", "backend": backend, "protocol": options.protocol, "connections": connections,
            "workers": workers, "rate": options.rate, "ramp_s": ramp,
            "anonymous_bytes_per_connection": round(memory["bytes"] / connections) if memory.get("bytes") else None,
            **{name: figures[name] for name in FIGURES if name in figures}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", default="1000,10000,100000")
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--backends", default="io_uring,epoll")
    parser.add_argument("--protocol", default="mcp", choices=("mcp", "tcp", "http"))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--ramp", type=int)
    parser.add_argument("--unpinned", action="store_true")
    options = parser.parse_args()
    cases = [(int(word), backend) for word in options.connections.split(",") for backend in options.backends.split(",")]
    results = repetitions.interleaved(cases, options.repetitions, lambda case: measure(case[1], case[0], options))
    for measured in results.values():
        repetitions.show(repetitions.summary(measured))


if __name__ == "__main__":
    main()
