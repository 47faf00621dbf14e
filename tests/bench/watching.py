#!/usr/bin/python3
"""What watching costs: the CPU that goes into figures and samples and their way to a subscriber, beside the workers' whole CPU.

usage: watching.py [--connections 10000] [--rate 20000] [--seconds 20] [--repetitions 5]

One node on the last core, one worker on core 0, coordinator and agent where they like, one subscriber. perf samples the worker; a
sample counts as watching when the code that it hit, or code that this was inlined into, is of lib/metrics, of the recorder, of the
engine's closing of a second, of the usage readings or of Protobuf. The agent's and the coordinator's CPU counts in full, less what
they use without a run. Not counted are the kernel's part (the worker's write to the agent, its reads of /proc) and clock
readings, most of which the schedule needs anyway. One line of JSON a measurement, then the median. Needs build/release and deploy/install-dependencies.sh --bench.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # pylint: disable=wrong-import-position

import processes
import repetitions

WATCHING = re.compile(r"lib/metrics/|agent/worker/(recorder|usage)\.|google/protobuf|\.pb\.(cc|h)")
WATCHING_FUNCTION = re.compile(r"loadstar::worker::Engine::(CloseSeconds|SendSecond)|google::protobuf|loadstar::v1::")
WORKER = harness.BIN / "loadstar-worker"


def addresses():
    """Of the worker's functions, by mangled name."""
    lines = subprocess.run(["nm", WORKER], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: int(value, 16) for value, kind, name in (line.split(None, 2) for line in lines if len(line.split()) == 3)
            if kind in "tTwW"}


def watching_samples(data):
    """Samples in all, and those of watching."""
    script = subprocess.run(["perf", "script", "-i", data, "-F", "ip,sym,symoff,dso", "--no-demangle"], capture_output=True,
                            text=True, check=True).stdout.splitlines()
    functions, hits, samples, watching = addresses(), {}, 0, 0
    for line in script:
        found = re.match(r"\s*[0-9a-f]+ (.+)\+0x([0-9a-f]+) \((.*)\)$", line)
        if not line.strip():
            continue
        samples += 1
        if found and found[3].endswith("loadstar-worker") and found[1] in functions:
            address = functions[found[1]] + int(found[2], 16)
            hits[address] = hits.get(address, 0) + 1
        elif "libprotobuf" in line:
            watching += 1
    text = subprocess.run(["addr2line", "-a", "-i", "-f", "-C", "-e", WORKER], capture_output=True, text=True, check=True,
                          input="\n".join(hex(address) for address in hits)).stdout
    for block in re.split(r"^0x", text, flags=re.M)[1:]:
        address, *rest = block.splitlines()
        if any(WATCHING.search(line) or WATCHING_FUNCTION.search(line) for line in rest):
            watching += hits[int(address, 16)]
    return samples, watching


def cpu_of(programs, seconds, command=("sleep",)):
    """CPU seconds of each program while the command runs, which gets `seconds` as its last argument."""
    before = {name: processes.cpu_seconds(pid) for name, pid in programs.items()}
    subprocess.run([*command, str(seconds)], check=True)
    return {name: processes.cpu_seconds(pid) - before[name] for name, pid in programs.items()}


def measure(options):
    with harness.Cluster() as cluster:
        cluster.start_coordinator()
        cluster.start_agent()
        cluster.deploy(nodes=1)
        for pid in cluster.node_processes():
            os.sched_setaffinity(pid, {os.cpu_count() - 1})
        programs = {"agent": cluster.processes["local"].pid, "coordinator": cluster.processes["coordinator"].pid}
        seconds = options.seconds - 5
        idle = cpu_of(programs, seconds)
        run_id = cluster.start_test(cluster.test_document(f"""
target: {{stack: nodes, protocol: mcp-tcp}}
load:
  connections: [{{ramp: 3s, to: {options.connections}}}, {{hold: {options.seconds}s}}]
  requests: {{model: open, rate: {options.rate}/s total}}
  workers: 1
""", name="watching"))
        threading.Thread(target=lambda: list(cluster.stream(run_id, timeout=600)), daemon=True).start()
        cluster.wait_state(run_id, harness.run_pb.RUN_STATE_RUNNING, 30)
        for pid in cluster.workers():
            os.sched_setaffinity(pid, {0})
        time.sleep(5)
        programs["worker"] = cluster.workers()[0]
        with tempfile.NamedTemporaryFile(suffix=".perf") as data:
            loaded = cpu_of(programs, seconds, ("perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-o", data.name, "-p",
                                                str(programs["worker"]), "--", "sleep"))
            samples, watching = watching_samples(data.name)
        run = cluster.wait_finished(run_id, 60)
    watching_s = loaded["worker"] * watching / samples + sum(loaded[name] - idle[name] for name in idle)
    return {"bench": "watching", "connections": options.connections, "rate": options.rate,
            "requests_per_s": round(run.totals.counters.requests_answered / run.recorded_s),
            "verdict": harness.run_pb.VerdictKind.Name(run.verdict.kind), "seconds": seconds,
            **{f"{name}_cpu_s": round(cpu_s, 2) for name, cpu_s in loaded.items()},
            **{f"{name}_idle_cpu_s": round(cpu_s, 2) for name, cpu_s in idle.items()},
            "samples": samples, "in_worker_share": round(watching / samples, 4),
            "share": round(watching_s / loaded["worker"], 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    results = repetitions.interleaved(["watching"], options.repetitions, lambda _: measure(options))
    repetitions.show(repetitions.summary(results["watching"]))


if __name__ == "__main__":
    main()
