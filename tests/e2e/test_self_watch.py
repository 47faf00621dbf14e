"""The generator watches itself: some of the causes of causes.py, provoked for real, and what the run says of each. All of
them: tests/bench/self-watch.py."""

import causes
import harness
from harness import run_pb


class SelfWatch(harness.TestCase):
    def check(self, run, verdict, code):
        reasons = [f"{reason.code}: {reason.message}" for reason in run.verdict.reasons]
        self.assertEqual(causes.verdict_of(run), verdict, reasons)
        line = causes.line_of(run, code)
        self.assertIsNotNone(line, reasons)
        print(line, flush=True)
        return next((reason for reason in run.verdict.reasons if reason.code == code), None)

    def test_saturated_worker_says_which_rate_would_do(self):
        reason = self.check(causes.saturated_worker(), causes.NOT_TRUSTWORTHY, "generator-saturated")
        self.assertEqual(reason.side, run_pb.SIDE_GENERATOR)
        self.assertRegex(reason.remedy, r"lower the rate below about [\d.]+[kM]?/s")

    def test_listener_whose_queue_overflows_is_the_targets_fault(self):
        run = causes.listen_overflow()
        self.check(run, causes.FAILED, "listen-overflow")
        self.assertGreater(run.participants[0].host.listen_overflows, 0)

    def test_worker_that_stood_still_is_not_taken_for_a_slow_target(self):
        run = causes.stalled_worker()
        self.check(run, causes.NOT_TRUSTWORTHY, "worker-stalled")
        self.assertGreater(run.schedule_lag.max_us, 1_800_000)
        self.assert_ledger(run)

    def test_agent_that_stood_still_costs_no_figure(self):
        run = causes.stalled_agent()
        self.assert_sound(run)
        self.assertIn("agent-stalled", [event.code for event in run.events])
        self.assertEqual(list(run.gaps), [])
        self.assertGreaterEqual(run.recorded_s, 8)
        self.assertEqual(self.assert_ledger(run).requests_failed, 0)
        # What the kernel counted meanwhile is in there too.
        self.assertGreaterEqual(run.participants[0].host.seconds, 8)


if __name__ == "__main__":
    harness.main()
