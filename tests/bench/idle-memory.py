#!/usr/bin/python3
"""User memory of one worker by idle connections: one line of JSON for each backend, protocol and number.

usage: idle-memory.py [--connections 0,10000,19000] [--protocols tcp,mcp-tcp,http,mcp-http] [--backends io_uring,epoll]
                      [--heartbeat SECONDS]

A real loadstar-worker is told a plan that only holds connections, against a loadstar-target of its own, and
RssAnon of its process is read in the middle of the hold. `bytes_per_connection` is all of it, the base included, divided
by the connections; `added_per_connection` is without what the same worker takes with none. With --heartbeat every connection
has been asked and has answered before it is read.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import processes

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from harness import BIN, spec_pb, worker_pb  # pylint: disable=wrong-import-position

PORT, API = 9590, 9599


class Worker:
    def __init__(self, backend):
        self.control, theirs = socket.socketpair()
        self.control.settimeout(10)
        os.set_inheritable(theirs.fileno(), True)
        self.process = subprocess.Popen([BIN / "loadstar-worker", "--control-fd", str(theirs.fileno()), "--backend", backend],
                                        pass_fds=[theirs.fileno()])
        theirs.close()

    def send(self, **message):
        data = worker_pb.AgentToWorker(**message).SerializeToString()
        self.control.sendall(len(data).to_bytes(4, "big") + data)

    def receive(self):
        head = self.control.recv(4, socket.MSG_WAITALL)
        return worker_pb.WorkerToAgent.FromString(self.control.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))

    def close(self):
        self.control.close()
        self.process.wait(10)


def measure(backend, protocol, connections, heartbeat):
    worker = Worker(backend)
    ramp_s = 1 + connections // 8000
    hold_s = 4 + (2 * heartbeat if heartbeat else 0)
    plan = worker_pb.WorkerPlan(worker_count=1, connections_max=connections, endpoints=[f"127.0.0.1:{PORT + i}" for i in range(2)])
    plan.protocol = spec_pb.Protocol.Value("PROTOCOL_" + protocol.upper().replace("-", "_"))
    plan.http.path = "/mcp" if protocol == "mcp-http" else "/"
    if protocol == "http":
        plan.http.method = "GET"
    plan.load.connections.add(to_connections=connections).duration.seconds = ramp_s
    plan.load.connections.add(to_connections=connections).duration.seconds = hold_s
    if heartbeat:
        plan.load.heartbeat.every.seconds = heartbeat
    worker.send(plan=plan)
    ready = worker.receive().ready
    if ready.error:
        raise SystemExit(f"not ready: {ready.error}")
    worker.send(start={"start_monotonic_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 100_000_000})
    taken = held = asked = None
    beats = 0
    while True:
        message = worker.receive()
        if message.HasField("finished"):
            break
        beats += message.sample.figures.counters.heartbeats_answered
        if message.HasField("sample") and message.sample.elapsed_s == ramp_s + hold_s - 2:
            taken, held = processes.anonymous(worker.process.pid), message.sample.figures.gauges.connections_established
            asked = beats
    worker.close()
    assert held == connections and taken, (held, connections, taken)
    return taken, asked


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=numbers, default=[0, 10_000, 19_000])
    parser.add_argument("--protocols", type=lambda text: text.split(","), default=["tcp", "mcp-tcp", "http", "mcp-http"])
    parser.add_argument("--backends", type=lambda text: text.split(","), default=["io_uring", "epoll"])
    parser.add_argument("--heartbeat", type=int, default=0)
    arguments = parser.parse_args()
    targets = [subprocess.Popen([BIN / "loadstar-target", "--listen", f"127.0.0.1:{PORT + i}", "--api", f"127.0.0.1:{API + i}",
                                 "--processes", "2", "--name", f"node{i}", "--log-level", "warn"]) for i in range(2)]
    try:
        time.sleep(1)
        for backend in arguments.backends:
            for protocol in arguments.protocols:
                base = None
                for connections in arguments.connections:
                    taken, asked = measure(backend, protocol, connections, arguments.heartbeat)
                    row = {"backend": backend, "protocol": protocol, "connections": connections, "rss_anon_bytes": taken}
                    if connections == 0:
                        base = taken
                    else:
                        row["bytes_per_connection"] = round(taken / connections, 1)
                        if base is not None:
                            row["added_per_connection"] = round((taken - base) / connections, 1)
                    if arguments.heartbeat:
                        row["heartbeats_answered"] = asked
                    print(json.dumps(row), flush=True)
    finally:
        for target in targets:
            target.terminate()
        for target in targets:
            target.wait(10)


if __name__ == "__main__":
    main()
