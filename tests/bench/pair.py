#!/usr/bin/python3
"""io_uring beside our own epoll: a worker and loadstar-target on the same backend, each with a core of its own.

usage: pair.py [--connections 64,1000,10000] [--repetitions 5] [--seconds 6] [--protocol tcp|mcp|http] [--opened 17000]

Round trips: closed model without a pause; per second, and CPU of worker and target per round trip, the target's connecting
included. Connection set-up: --opened connections asked for at once by one worker, timed by the kernel's count of TCP sockets
from the first tenth to the last (both ends count, so halves). Repetitions are interleaved. One line of JSON a measurement, then
the medians with the ratio of io_uring to epoll. Needs build/release.
"""

import argparse
import json
import pathlib
import re
import statistics
import threading
import time
import types

import growth

BACKENDS = ("io_uring", "epoll")
FIGURES = ("requests_per_s", "cpu_us_per_request", "target_cpu_us_per_request", "connections_per_s")


def sockets():
    text = pathlib.Path("/proc/net/sockstat").read_text(encoding="ascii")
    return int(re.search(r"TCP: inuse (\d+)", text)[1])


def settings(options, **given):
    common = {"workers": 1, "ramp": 1, "seconds": options.seconds, "rate": 0, "protocol": options.protocol, "unpinned": False}
    return types.SimpleNamespace(**{**common, **given})


def opened_per_s(backend, options):
    """Connections a second from the first tenth of them to the last tenth."""
    seen, over = [], threading.Event()
    before = sockets()

    def watch():
        while not over.wait(0.004):
            seen.append((time.monotonic(), (sockets() - before) / 2))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        growth.measure(backend, options.opened, settings(options, rate=100, ramp=0, seconds=4))
    finally:
        over.set()
        watcher.join()
    begun = next((at, count) for at, count in seen if count >= options.opened * 0.1)
    ended = next((at, count) for at, count in seen if count >= options.opened * 0.9)
    return (ended[1] - begun[1]) / (ended[0] - begun[0])


def measure(backend, connections, options):
    if connections is None:
        return {"bench": "pair", "backend": backend, "opened": options.opened,
                "connections_per_s": round(opened_per_s(backend, options))}
    figures = growth.measure(backend, connections, settings(options))
    return {"bench": "pair", "backend": backend, "protocol": options.protocol, "connections": connections,
            **{name: figures[name] for name in FIGURES if name in figures}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", default="64,1000,10000")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--protocol", default="tcp", choices=("tcp", "mcp", "http"))
    parser.add_argument("--opened", type=int, default=17_000)
    options = parser.parse_args()
    cases = [*(int(word) for word in options.connections.split(",") if word), *([None] if options.opened else [])]
    for case in cases:
        results = {backend: [] for backend in BACKENDS}
        for repetition in range(options.repetitions):
            for backend in BACKENDS if repetition % 2 == 0 else reversed(BACKENDS):
                results[backend].append(measure(backend, case, options))
                print(json.dumps(results[backend][-1]), flush=True)
        medians = {backend: {name: statistics.median(one[name] for one in measured) for name in FIGURES if name in measured[0]}
                   for backend, measured in results.items()}
        ratio = {f"{name}_to_epoll": round(medians["io_uring"][name] / medians["epoll"][name], 3) for name in medians["epoll"]}
        for backend in BACKENDS:
            first = {name: value for name, value in results[backend][0].items() if name not in FIGURES}
            print(json.dumps({**first, "median_of": options.repetitions, **medians[backend],
                              **(ratio if backend == "io_uring" else {})}), flush=True)


if __name__ == "__main__":
    main()
