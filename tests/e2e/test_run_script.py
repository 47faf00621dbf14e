"""tests/run.sh itself, in a folder where its stages' commands are stand-ins."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest
import uuid

import harness
from harness import ROOT, wait_for

INSTALL = """#!/bin/sh
printf '%s\\n' "$*" >>installed
"""
# The child outlives its parent unless somebody ends it.
LINT = """#!/bin/sh
sleep 50 &
echo > linting
wait
"""


class RunScript(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="loadstar-run-script-"))
        self.addCleanup(shutil.rmtree, self.root)
        for folder in ("tests", "deploy"):
            (self.root / folder).mkdir()
        shutil.copy(ROOT / "tests/run.sh", self.root / "tests/run.sh")
        for path, text in (("deploy/install-dependencies.sh", INSTALL), ("tests/lint.sh", LINT)):
            (self.root / path).write_text(text)
            (self.root / path).chmod(0o755)
        mark = str(uuid.uuid4())
        self.environment = {**os.environ, "LOADSTAR_RUN_SCRIPT": mark}
        self.mark = f"LOADSTAR_RUN_SCRIPT={mark}"
        self.addCleanup(self.end_all)

    def processes(self):
        return harness.with_environment(self.mark, self.mark)

    def end_all(self):
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def start(self, *arguments):
        return subprocess.Popen(["tests/run.sh", *arguments], cwd=self.root, env=self.environment, start_new_session=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def installed_by(self, *stages):
        """What the install stage asked for; the other stages fail here, for want of a CMakeLists.txt."""
        (self.root / "installed").unlink(missing_ok=True)
        self.start(*(word for stage in stages for word in ("--stage", stage))).wait(20)
        return (self.root / "installed").read_text().splitlines()

    def test_only_who_lints_waits_for_npm(self):
        self.assertEqual(self.installed_by("install"), ["--lint --authorize", "--lint"])
        self.assertEqual(self.installed_by("install", "build"), ["--authorize", ""])

    def test_an_interrupt_ends_the_stage_and_its_children(self):
        # As a terminal sends Ctrl-C: to the group in the foreground, which the stage's commands are not part of.
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                (self.root / "linting").unlink(missing_ok=True)
                script = self.start("--stage", "lint")
                wait_for((self.root / "linting").exists, 10, "the lint stage to begin")
                os.killpg(script.pid, number)
                self.assertEqual(script.wait(10), 130)
                wait_for(lambda: not self.processes(), 10, "the stage's children to end")


if __name__ == "__main__":
    harness.main()
