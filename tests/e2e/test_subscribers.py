"""A subscriber that does not read costs the coordinator nothing, and no other subscriber a sample."""

import threading
import time

import grpc

import harness
from harness import run_pb, service_grpc, service_pb

BOUND_BYTES = 10 << 20
NOT_READING_S = 30
# A connection that takes little before somebody reads: by default, gRPC alone would take in the whole run unread.
TAKES_LITTLE = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024),
                ("grpc.max_receive_message_length", 64 << 20)]


class SlowSubscriber(harness.TestCase):
    def test_is_given_merged_intervals_and_grows_nothing(self):
        loadstar = self.cluster().start()
        loadstar.deploy(nodes=4)
        run_id = loadstar.start_test(loadstar.test_document("""
target: {stack: nodes, protocol: tcp}
load:
  connections: [{ramp: 1s, to: 500}, {hold: 38s}]
  requests: {model: open, rate: 4/s per connection}
"""))
        loadstar.wait_state(run_id, run_pb.RUN_STATE_RUNNING, 20)
        seen = []

        def follow():
            for message in loadstar.stream(run_id):
                if message.HasField("snapshot"):
                    seen.append((message.snapshot.from_elapsed_s, message.snapshot.to_elapsed_s))

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        # Twenty that do not read: one alone would hide in the noise. Not on the channel of the one that reads.
        channel = grpc.insecure_channel(loadstar.address, options=TAKES_LITTLE)
        self.addCleanup(channel.close)
        silent = service_grpc.CoordinatorServiceStub(channel)
        slow = [silent.StreamMetrics(service_pb.StreamMetricsRequest(run_id=run_id), timeout=120) for _ in range(20)]
        harness.wait_for(lambda: len(seen) >= 4, 20, "the first seconds")
        before = harness.rss_bytes(loadstar.processes["coordinator"].pid)
        time.sleep(NOT_READING_S)
        growth = harness.rss_bytes(loadstar.processes["coordinator"].pid) - before
        print(f"coordinator grew by {growth / 1e6:.1f} MB in {NOT_READING_S} s with {len(slow)} subscribers that do not read",
              flush=True)
        self.assertLess(growth, BOUND_BYTES)
        run = loadstar.wait_finished(run_id, 40)
        reader.join(20)
        self.assertFalse(reader.is_alive())
        # The one that reads was given every second by itself.
        self.assertEqual(seen, [(second, second) for second in range(run.recorded_s)])
        # A silent one, when it reads at last, is given everything: the seconds that stood at its subscription one by one,
        # what came while it was silent merged.
        covered, merged, requests, last = [], [], 0, None
        for message in slow[0]:
            if message.HasField("snapshot"):
                if message.snapshot.from_elapsed_s < message.snapshot.to_elapsed_s:
                    merged.append((message.snapshot.from_elapsed_s, message.snapshot.to_elapsed_s))
                covered += range(message.snapshot.from_elapsed_s, message.snapshot.to_elapsed_s + 1)
                requests += message.snapshot.figures.counters.requests_sent
            else:
                last = message.run
        for stream in slow[1:]:
            stream.cancel()
        self.assertTrue(merged, "a silent subscriber was given every second by itself")
        self.assertEqual(covered, list(range(run.recorded_s)))
        self.assertEqual(requests, run.totals.counters.requests_sent)
        self.assertEqual(last.state, run_pb.RUN_STATE_FINISHED)


if __name__ == "__main__":
    harness.main()
