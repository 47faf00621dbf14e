#!/usr/bin/python3
"""Starts a test from a YAML document over gRPC and prints the live stream.

Exit code as the CLI's: 0 passed, 1 a threshold failed, 2 invalid, 3 not trustworthy, 4 not carried out.
"""

import argparse
import sys
import uuid

import grpc

import stubs

stubs.provide()
from loadstar.v1 import coordinator_service_pb2 as api  # noqa: E402
from loadstar.v1 import coordinator_service_pb2_grpc as api_grpc  # noqa: E402
from loadstar.v1 import run_pb2, spec_pb2  # noqa: E402

EXIT_CODES = {
    run_pb2.VERDICT_KIND_PASSED: 0,
    run_pb2.VERDICT_KIND_FAILED: 1,
    run_pb2.VERDICT_KIND_NOT_TRUSTWORTHY: 3,
}
INVALID = 2
NOT_CARRIED_OUT = 4


def milliseconds(percentiles, us):
    """A latency in milliseconds; "-" when nothing was observed."""
    return f"{us / 1000:.2f} ms" if percentiles.count else "-"


def print_snapshot(snapshot):
    """One second of the run in one line."""
    seconds = snapshot.to_elapsed_s - snapshot.from_elapsed_s + 1
    figures = snapshot.figures
    errors = sum(error.count for error in figures.errors)
    print(
        f"{snapshot.to_elapsed_s + 1:5d} s  "
        f"connections {figures.gauges.connections_established}/{figures.gauges.connections_target}  "
        f"requests/s {figures.counters.requests_answered / seconds:.0f}  "
        f"p50 {milliseconds(snapshot.latency, snapshot.latency.p50_us)}  "
        f"p99 {milliseconds(snapshot.latency, snapshot.latency.p99_us)}  "
        f"errors {errors}"
        # Figures that came late have changed a line that was printed before: this one is instead of it.
        f"{'  (corrected)' if snapshot.correction else ''}",
        flush=True,
    )


def print_verdict(run):
    """How the run came out and why."""
    name = run_pb2.VerdictKind.Name(run.verdict.kind).removeprefix("VERDICT_KIND_").lower().replace("_", " ")
    print(f"{run.run_id}: {name}")
    for reason in run.verdict.reasons:
        print(f"  {reason.message} {reason.remedy}".rstrip())
    for result in run.thresholds:
        print(f"  {result.threshold.text}: {'held' if result.held else 'not held'}")


def stream(address, path):
    """Runs the test in the file at `path`; returns the exit code."""
    with open(path, encoding="utf-8") as file:
        document = spec_pb2.Document(file_name=path, yaml=file.read())
    with grpc.insecure_channel(address) as channel:
        coordinator = api_grpc.CoordinatorServiceStub(channel)
        # The same request_id again would return the same run, so a call that timed out can be repeated.
        request = api.StartTestRequest(document=document, request_id=uuid.uuid4().hex)
        run = coordinator.StartTest(request, timeout=30).run
        print(f"{run.run_id}: started", flush=True)
        # Ends with the finished run. A client that lost the stream asks again from the second after its last one.
        for message in coordinator.StreamMetrics(
            api.StreamMetricsRequest(run_id=run.run_id, from_elapsed_s=0), timeout=24 * 3600
        ):
            if message.HasField("snapshot"):
                print_snapshot(message.snapshot)
            else:
                run = message.run
    if run.state != run_pb2.RUN_STATE_FINISHED:
        print(f"{run.run_id}: the stream ended before the run did", file=sys.stderr)
        return NOT_CARRIED_OUT
    print_verdict(run)
    return EXIT_CODES.get(run.verdict.kind, NOT_CARRIED_OUT)


def main():
    """Reads the arguments and turns failures into messages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coordinator", default="127.0.0.1:7400", metavar="HOST:PORT")
    parser.add_argument("test", metavar="TEST.yaml")
    arguments = parser.parse_args()
    try:
        return stream(arguments.coordinator, arguments.test)
    except (OSError, UnicodeDecodeError) as error:
        print(f"{arguments.test}: {error}", file=sys.stderr)
        return INVALID
    except grpc.RpcError as error:
        print(f"coordinator at {arguments.coordinator}: {error.code().name}: {error.details()}", file=sys.stderr)
        invalid = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
        return INVALID if error.code() in invalid else NOT_CARRIED_OUT


if __name__ == "__main__":
    sys.exit(main())
