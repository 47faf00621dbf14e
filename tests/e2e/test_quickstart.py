"""deploy/quickstart.sh on a built tree: brings everything up, finds it when run again, says so, and leaves nothing."""

import os
import shutil
import subprocess
import unittest

import harness
from harness import NOT_CARRIED_OUT, NOT_TRUSTWORTHY, PASSED, ROOT, Results

STATE = ROOT / "state" / "quickstart"
PORTS = [*range(9100, 9104), *range(8080, 8084)]


def quickstart(*arguments, seconds=120, address=None):
    environment = {**os.environ, "LOADSTAR_COORDINATOR": quickstart.address if address is None else address}
    done = subprocess.run(["deploy/quickstart.sh", *arguments], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=seconds, check=False)
    return harness.CliResult(done.returncode, done.stdout, done.stderr)


def marked():
    return sorted(harness.with_environment(f"LOADSTAR_QUICKSTART={STATE}", f"LOADSTAR_NODE={STATE}/"))


def listening():
    output = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, timeout=20, check=True).stdout
    return {int(line.split()[3].rsplit(":", 1)[1]) for line in output.splitlines()}


class Quickstart(harness.TestCase):
    def setUp(self):
        if STATE.exists():
            raise unittest.SkipTest("a quickstart of this tree is up; deploy/quickstart.sh --clean takes it down")
        busy = listening() & set(PORTS)
        if busy:
            raise unittest.SkipTest(f"ports of the four-node stack are in use: {sorted(busy)}")
        quickstart.address = f"127.0.0.1:{harness.free_port()}"
        self.results = set((ROOT / "results").glob("*"))
        self.addCleanup(quickstart, "--clean", "--keep-build")

    def test_up_twice_status_test_clean(self):
        first = quickstart("--no-test", seconds=300)
        self.assertEqual(first.code, 0, first)
        for phase in ("1/5", "2/5", "3/5", "4/5", "5/5"):
            self.assertIn(f"[{phase}]", first.out)
        pids = marked()
        self.assertTrue(set(PORTS) <= listening())

        again = quickstart("--no-test")
        self.assertEqual(again.code, 0, again)
        self.assertEqual(marked(), pids, "the second time finds what is up")

        other = quickstart("--no-test", address="127.0.0.1:1")
        self.assertEqual(other.code, NOT_CARRIED_OUT, other)
        self.assertIn("127.0.0.1:1,", other.err)
        self.assertIn(quickstart.address, other.err)
        self.assertEqual(marked(), pids, "another address starts nothing beside what is up")

        # Without an address, the one that is up.
        status = quickstart("--status", address="")
        self.assertEqual(status.code, 0, status)
        self.assertIn(quickstart.address, status.out)
        for word in ("coordinator: up", "agent: up", "four-nodes"):
            self.assertIn(word, status.out)

        # A hundredth of the test: 1,000 connections, 200 requests/s, its 120 s of profile shortened by hand.
        run = subprocess.run([harness.BIN / "loadstar", "run", "quickstart", "--scale", "0.01", "--set",
                              "load.connections[0].ramp=3s", "--set", "load.connections[1].hold=3s",
                              "--coordinator", quickstart.address], cwd=ROOT, capture_output=True, text=True,
                             timeout=60, check=False)
        new = set((ROOT / "results").glob("*")) - self.results
        for folder in new:
            self.addCleanup(shutil.rmtree, folder)
        self.assertIn(run.returncode, (PASSED, NOT_TRUSTWORTHY), run.stdout + run.stderr)
        self.assertEqual(len(new), 1)
        self.assert_sound(Results(next(iter(new))).run)

        clean = quickstart("--clean", "--keep-build")
        self.assertEqual(clean.code, 0, clean)
        self.assertEqual(marked(), [])
        self.assertEqual(listening() & set(PORTS), set())
        self.assertFalse(STATE.exists())
        self.assertTrue(all(folder.exists() for folder in new), "results are kept")
        self.assertNotEqual(quickstart("--status").code, 0)

    def test_wrong_arguments_do_nothing(self):
        for arguments in (["--no-such"], ["--scale", "2"], ["--scale"]):
            self.assertEqual(quickstart(*arguments).code, 2)
        for arguments in (["x"], [""], ["1", ""], ["1", "0"], ["1", "5", "-3"], ["1", "2", "3", "4"]):
            done = subprocess.run(["deploy/stress-test.sh", *arguments], cwd=ROOT, capture_output=True, timeout=20, check=False)
            self.assertEqual(done.returncode, 2, arguments)
        self.assertFalse(STATE.exists())


if __name__ == "__main__":
    harness.main()
