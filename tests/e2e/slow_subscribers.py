"""What subscribers that do not read cost: the coordinator its memory, and the one that reads its seconds. Measured here, judged
by test_subscribers.py, printed by tests/bench/slow-subscriber.sh."""

import dataclasses
import threading
import time

import grpc

import harness
from harness import run_pb, service_grpc, service_pb

# A connection that takes little before somebody reads: by default, gRPC alone would take in the whole run unread.
TAKES_LITTLE = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024),
                ("grpc.max_receive_message_length", 64 << 20)]


@dataclasses.dataclass
class Received:
    """What one subscriber was given."""
    intervals: list = dataclasses.field(default_factory=list)  # (first second, last second) of each snapshot
    requests_sent: int = 0
    run: object = None  # as last told

    def take(self, message):
        if message.HasField("snapshot"):
            self.intervals.append((message.snapshot.from_elapsed_s, message.snapshot.to_elapsed_s))
            self.requests_sent += message.snapshot.figures.counters.requests_sent
        else:
            self.run = message.run

    @property
    def seconds(self):
        return [second for first, last in self.intervals for second in range(first, last + 1)]

    @property
    def merged(self):
        return [(first, last) for first, last in self.intervals if first < last]


@dataclasses.dataclass
class Measured:
    run: object
    reader: Received
    silent: Received  # the first of the silent ones, which reads everything at last
    rss_bytes_before: int
    rss_bytes_after: int

    @property
    def growth_bytes(self):
        return self.rss_bytes_after - self.rss_bytes_before


def measure(loadstar, subscribers, silent_s):
    """A run on a cluster that has just been started, with one subscriber that reads and `subscribers` that do not."""
    loadstar.deploy(nodes=4)
    run_id = loadstar.start_test(loadstar.test_document(f"""
target: {{stack: nodes, protocol: tcp}}
load:
  connections: [{{ramp: 1s, to: 500}}, {{hold: {silent_s + 8}s}}]
  requests: {{model: open, rate: 4/s per connection}}
"""))
    loadstar.wait_state(run_id, run_pb.RUN_STATE_RUNNING, 20)
    reader = Received()

    def follow():
        for message in loadstar.stream(run_id):
            reader.take(message)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    # Not on the channel of the one that reads.
    with grpc.insecure_channel(loadstar.address, options=TAKES_LITTLE) as channel:
        api = service_grpc.CoordinatorServiceStub(channel)
        streams = [api.StreamMetrics(service_pb.StreamMetricsRequest(run_id=run_id), timeout=silent_s + 90)
                   for _ in range(subscribers)]
        harness.wait_for(lambda: len(reader.intervals) >= 4, 20, "the first seconds")
        pid = loadstar.processes["coordinator"].pid
        before = harness.rss_bytes(pid)
        time.sleep(silent_s)
        after = harness.rss_bytes(pid)
        run = loadstar.wait_finished(run_id, 40)
        thread.join(20)
        if thread.is_alive():
            raise AssertionError("the run is over, but the stream of the subscriber that reads has no end")
        silent = Received()
        for message in streams[0]:
            silent.take(message)
        for stream in streams[1:]:
            stream.cancel()
    return Measured(run, reader, silent, before, after)
