#!/usr/bin/python3
"""io_uring beside our own epoll: a worker and loadstar-target on the same backend, each with a core of its own.

usage: pair.py [--connections 64,1000,10000] [--repetitions 5] [--seconds 6] [--protocol tcp|mcp|http] [--opened 12000]

Round trips: closed model without a pause; per second, and CPU of worker and target per round trip, the target's connecting
included. Connection set-up: --opened connections asked for at once by one worker, timed by the kernel's count of TCP sockets
from the first tenth to the last (both ends count, so halves); no more than fit into the fast half of the port range.
With tcp, what the backends can do for anybody on this machine is beside it: `echo_floor`, a bare pair without
accounting. Repetitions are interleaved. One line of JSON a measurement, then the medians with the ratio of io_uring to epoll.
Needs build/release.
"""

import argparse
import json
import pathlib
import re
import subprocess
import threading
import time
import types

import growth
import peers
import repetitions

BACKENDS = ("io_uring", "epoll")
FIGURES = ("requests_per_s", "cpu_us_per_request", "target_cpu_us_per_request")


def sockets():
    text = pathlib.Path("/proc/net/sockstat").read_text(encoding="ascii")
    return int(re.search(r"TCP: inuse (\d+)", text)[1])


def settled():
    """The count, once what an earlier measurement left has gone: sockets outlive their processes by seconds."""
    last = sockets()
    for _ in range(60):
        time.sleep(0.5)
        last, before = sockets(), last
        if before - last < 10:
            break
    return last


def settings(options, **given):
    common = {"workers": 1, "ramp": 1, "seconds": options.seconds, "rate": 0, "protocol": options.protocol, "unpinned": False}
    return types.SimpleNamespace(**{**common, **given})


def opened_per_s(backend, options):
    """Connections a second from the first tenth of them to the last tenth."""
    seen, over = [], threading.Event()
    before = settled()

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


def floor(backend, connections, options):
    text = subprocess.run([peers.BIN / "tests/echo_floor", backend, str(connections or options.opened),
                           str(options.seconds if connections else 1)], capture_output=True, text=True, timeout=120,
                          check=True).stdout
    return json.loads(text)


def measure(tool, backend, connections, options):
    """Without a number of connections, how many are opened a second."""
    wanted = FIGURES if connections else ("connections_per_s",)
    if tool == "echo_floor":
        figures = floor(backend, connections, options)
    elif connections:
        figures = growth.measure(backend, connections, settings(options))
    else:
        figures = {"connections_per_s": round(opened_per_s(backend, options))}
    case = {"connections": connections} if connections else {"opened": options.opened}
    return {"bench": "pair", "tool": tool, "backend": backend, "protocol": options.protocol, **case,
            **{name: figures[name] for name in wanted}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", default="64,1000,10000")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--protocol", default="tcp", choices=("tcp", "mcp", "http"))
    parser.add_argument("--opened", type=int, default=12_000)
    options = parser.parse_args()
    tools = ("loadstar", "echo_floor") if options.protocol == "tcp" else ("loadstar",)
    pairs = [(tool, backend) for tool in tools for backend in BACKENDS]
    for connections in [*(int(word) for word in options.connections.split(",") if word), *([None] if options.opened else [])]:
        results = repetitions.interleaved(pairs, options.repetitions,
                                          lambda pair, connections=connections: measure(*pair, connections, options))
        medians = {pair: repetitions.summary(measured) for pair, measured in results.items()}
        for tool in tools:
            uring, epoll = (medians[tool, backend] for backend in BACKENDS)
            uring |= {f"{name}_to_epoll": round(uring[name] / epoll[name], 3)
                      for name in (*FIGURES, "connections_per_s") if name in epoll}
            repetitions.show(uring)
            repetitions.show(epoll)


if __name__ == "__main__":
    main()
