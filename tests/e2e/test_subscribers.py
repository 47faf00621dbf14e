"""A subscriber that does not read costs the coordinator nothing, and no other subscriber a sample."""

import harness
import slow_subscribers
from harness import run_pb

BOUND_BYTES = 10 << 20


class SlowSubscriber(harness.TestCase):
    def test_is_given_merged_intervals_and_grows_nothing(self):
        # Twenty: one alone would hide in the noise.
        measured = slow_subscribers.measure(self.cluster().start(), subscribers=20, silent_s=30)
        print(f"coordinator grew by {measured.growth_bytes / 1e6:.1f} MB in 30 s with 20 subscribers that do not read", flush=True)
        self.assertLess(measured.growth_bytes, BOUND_BYTES)
        seconds = list(range(measured.run.recorded_s))
        # The one that reads was given every second by itself.
        self.assertEqual(measured.reader.intervals, [(second, second) for second in seconds])
        # A silent one, when it reads at last, is given everything: the seconds that stood at its subscription one by one,
        # what came while it was silent merged.
        self.assertTrue(measured.silent.merged, "a silent subscriber was given every second by itself")
        self.assertEqual(measured.silent.seconds, seconds)
        self.assertEqual(measured.silent.requests_sent, measured.run.totals.counters.requests_sent)
        self.assertEqual(measured.silent.run.state, run_pb.RUN_STATE_FINISHED)


if __name__ == "__main__":
    harness.main()
