#!/usr/bin/python3
"""How the worker's cost grows with connections: CPU per request and memory per connection at one rate.

usage: growth.py [--connections 1000,10000,100000] [--rate 20000] [--repetitions 5] [--seconds 10] [--backends io_uring,epoll]

loadstar-target on one core, the workers on the other (up to 19,000 connections each), open model, mcp-tcp, the rate in all
whatever the number of connections. Repetitions are interleaved. One line of JSON a measurement, then the medians. Needs
build/release with worker_drive (ninja -C build/release worker_drive).
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time

import peers

PER_PROCESS = 19_000
FIGURES = ("requests_per_s", "cpu_us_per_request", "anonymous_bytes_per_connection", "latency_p50_ms", "latency_p99_ms",
           "lag_p99_ms")


def measure(backend, connections, rate, seconds):
    workers = -(-connections // PER_PROCESS)
    ramp = max(2, connections // 8000)
    with subprocess.Popen(["taskset", "-c", str(os.cpu_count() - 1), peers.BIN / "bin/loadstar-target", "--listen",
                           "127.0.0.1:9481", "--api", "127.0.0.1:8481", "--processes", str(-(-connections // 17_000)),
                           "--backend", backend, "--log-level", "warn"]) as target:
        try:
            time.sleep(1)
            with tempfile.TemporaryFile("w+") as output:
                drive = subprocess.Popen(["taskset", "-c", "0", peers.BIN / "tests/worker_drive",
                                          peers.BIN / "bin/loadstar-worker", backend, str(workers), str(connections),
                                          str(ramp), str(seconds), str(rate), "mcp", "16", "127.0.0.1:9481"],
                                         stdout=output, stderr=output)
                memory = {}
                sampler = threading.Timer(ramp + seconds * 2 / 3, lambda: memory.update(
                    bytes=sum(peers.anonymous(pid) for pid in peers.tree(drive.pid)[1:])))
                sampler.start()
                status = drive.wait()
                sampler.cancel()
                output.seek(0)
                text = output.read()
        finally:
            target.terminate()
    if status != 0:
        raise RuntimeError(f"worker_drive ended with status {status}:\n{text[-2000:]}")
    figures = json.loads(text.strip().splitlines()[-1])
    return {"bench": "growth", "backend": backend, "connections": connections, "workers": workers, "rate": rate,
            "anonymous_bytes_per_connection": round(memory["bytes"] / connections) if memory.get("bytes") else None,
            **{name: figures[name] for name in FIGURES if name in figures}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", default="1000,10000,100000")
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--backends", default="io_uring,epoll")
    options = parser.parse_args()
    results = {}
    for _ in range(options.repetitions):
        for connections in (int(word) for word in options.connections.split(",")):
            for backend in options.backends.split(","):
                result = measure(backend, connections, options.rate, options.seconds)
                results.setdefault((backend, connections), []).append(result)
                print(json.dumps(result), flush=True)
    for (backend, connections), measured in results.items():
        medians = {name: statistics.median(r[name] for r in measured if r[name] is not None) for name in FIGURES}
        print(json.dumps({"bench": "growth", "median_of": len(measured), "backend": backend, "connections": connections,
                          "workers": measured[0]["workers"], "rate": options.rate, **medians}), flush=True)


if __name__ == "__main__":
    main()
