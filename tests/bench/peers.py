#!/usr/bin/python3
"""CPU per request, requests/s and memory of the worker beside wrk, h2load and hey against the same nginx.

usage: peers.py [--connections 64,1000,10000] [--repetitions 5] [--seconds 8] [--rate 20000]
                [--tools wrk,h2load,hey,floor,loadstar,loadstar-rate]

nginx has one worker process on the last core and answers 100 bytes; each tool has one thread on core 0 and sends the next
request when the last answer is there; loadstar-rate sends --rate requests/s in the open model instead. Repetitions are interleaved: every tool once, then every tool again. CPU is what the
kernel charged to the tool's process tree in the whole run, its connecting included, divided by all its answers. Memory is the
anonymous memory of its largest process at two thirds of the run. One line of JSON a measurement, then the medians with their
ratio to wrk. On loopback a send also does the receiver's softirq work: the split of CPU between client and server is that
of the kernel's accounting, for all tools alike.

Needs build/release and deploy/install-dependencies.sh --bench.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import processes
import repetitions

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = ROOT / "build/release"
PORT = 9480
NGINX = """
worker_processes 1; worker_rlimit_nofile 20000; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 15000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{answer}"; }} }}
}}
"""


def commands(connections, seconds, rate):
    url = f"http://127.0.0.1:{PORT}/"

    def drive(backend, of_rate):
        return [BIN / "tests/worker_drive", BIN / "bin/loadstar-worker", backend, "1", str(connections), "1", str(seconds),
                str(of_rate), "http", "0", f"127.0.0.1:{PORT}"]

    return {
        "wrk": ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url],
        "h2load": ["h2load", "--h1", "-t1", f"-c{connections}", f"-D{seconds}", url],
        "hey": ["hey", "-cpus", "1", f"-c={connections}", f"-z={seconds}s", url],
        "floor": [BIN / "tests/http_floor", "127.0.0.1", str(PORT), str(connections), str(seconds), "/"],
        "loadstar": drive("io_uring", 0),
        "loadstar-epoll": drive("epoll", 0),
        "loadstar-rate": drive("io_uring", rate),
    }


def answers(tool, output):
    """Requests answered, requests a second and what else the tool says that the table wants."""
    if tool == "wrk":
        return (int(re.search(r"(\d+) requests in", output)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]), {})
    if tool == "h2load":
        return (int(re.search(r"(\d+) succeeded", output)[1]), float(re.search(r"([\d.]+) req/s", output)[1]), {})
    if tool == "hey":
        return (int(re.search(r"\[200\]\s+(\d+) responses", output)[1]),
                float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]), {})
    figures = json.loads(output.strip().splitlines()[-1])
    more = {"lag_p99_ms": figures["lag_p99_ms"]} if tool == "loadstar-rate" else {}
    return figures["requests_in_all"], figures["requests_per_s"], more


def measure(tool, connections, seconds, rate):
    command = [str(word) for word in commands(connections, seconds, rate)[tool]]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(["taskset", "-c", "0", *command], stdout=output, stderr=output)
        memory = {}
        sampler = threading.Timer(seconds * 2 / 3, lambda: memory.update(
            bytes=max(map(processes.anonymous, processes.tree(process.pid)))))
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        sampler.cancel()
        output.seek(0)
        text = output.read()
    if status != 0:
        raise RuntimeError(f"{tool} ended with status {status}:\n{text[-2000:]}")
    requests, reached, more = answers(tool, text)
    return {"tool": tool, "connections": connections, "requests": requests, "requests_per_s": round(reached, 1), **more,
            "cpu_us_per_request": round((usage.ru_utime + usage.ru_stime) / requests * 1e6, 3),
            "user_us_per_request": round(usage.ru_utime / requests * 1e6, 3),
            "anonymous_bytes_per_connection": round(memory["bytes"] / connections) if memory.get("bytes") else None}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", default="64,1000,10000")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--tools", default="wrk,h2load,hey,floor,loadstar,loadstar-rate")
    options = parser.parse_args()
    tools = options.tools.split(",")
    for program in {"nginx", *(set(tools) & {"wrk", "h2load", "hey"})}:
        if shutil.which(program) is None:
            sys.exit(f"peers.py: {program} is missing; it is in Debian's packages")
    folder = tempfile.mkdtemp(prefix="loadstar-peers-")
    config = pathlib.Path(folder, "nginx.conf")
    config.write_text(NGINX.format(folder=folder, port=PORT, answer="0123456789" * 10))
    nginx = subprocess.Popen(["taskset", "-c", str(os.cpu_count() - 1), "nginx", "-c", str(config)])
    try:
        time.sleep(1)
        for connections in (int(word) for word in options.connections.split(",")):
            results = repetitions.interleaved(tools, options.repetitions, lambda tool, connections=connections: measure(
                tool, connections, options.seconds, options.rate))
            medians = {tool: repetitions.summary(measured) for tool, measured in results.items()}
            for tool, line in medians.items():
                if "wrk" in medians:
                    # A rate that was given is no throughput.
                    for figure in ("cpu_us_per_request",) if tool == "loadstar-rate" else ("requests_per_s", "cpu_us_per_request"):
                        line[f"{figure}_to_wrk"] = round(line[figure] / medians["wrk"][figure], 3)
                repetitions.show(line)
    finally:
        nginx.terminate()
        nginx.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
