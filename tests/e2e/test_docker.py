"""What is planned for containers, and Docker's own limits, on a real engine that the test starts: containers have what the plan
says, and what the plan leaves to the host Docker refuses. Needs Debian's docker.io and iptables, and root; CMake leaves it out where there is no
dockerd."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import harness
from harness import PASSED

DAEMON_JSON = pathlib.Path("/etc/docker/daemon.json")
SOFT, HARD = 5000, 10000  # below what the engine has itself, so that it may give them

PROFILE = f"""
apiVersion: loadstar/v1
kind: TuningProfile
name: contained
descriptors: {{soft: {SOFT}, hard: {HARD}}}
sysctls:
  - {{key: net.core.somaxconn, value: 8192, scope: network-namespace, effect: e, source: s}}
  - {{key: net.ipv4.ip_local_port_range, value: 1024-65535, scope: network-namespace, effect: e, source: s}}
  - {{key: net.ipv4.tcp_fin_timeout, value: 30, policy: exactly, scope: network-namespace, effect: e, source: s}}
  - {{key: net.ipv4.tcp_rmem, value: 4096 131072 256MiB, scope: network-namespace, effect: e, source: s}}
  - {{key: kernel.shmmni, value: 5000, scope: container, effect: e, source: s}}
  - {{key: fs.file-max, value: 100000, scope: host, effect: e, source: s}}
"""
MINIMAL = f"""
apiVersion: loadstar/v1
kind: TuningProfile
name: limits
descriptors: {{soft: {SOFT}, hard: {HARD}}}
sysctls:
  - {{key: fs.file-max, value: 1000, scope: host, effect: e, source: s}}
"""


class Engine:
    """A Docker engine of the test's own with an image of a shell."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.socket = f"unix://{folder}/docker.sock"
        self.process = None

    def start(self):
        log = open(self.folder / "dockerd.log", "ab")
        self.process = subprocess.Popen(
            ["dockerd", "--host", self.socket, "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
             "--pidfile", str(self.folder / "dockerd.pid"), "--bridge", "none", "--iptables=false", "--storage-driver", "vfs"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        harness.wait_for(lambda: self.process.poll() is not None or self.docker("version").returncode == 0, 60, "dockerd answers")
        if self.process.poll() is not None:
            tail = (self.folder / "dockerd.log").read_text(errors="replace")[-600:]
            raise unittest.SkipTest(f"no Docker engine runs here: {tail}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def restart(self):
        self.stop()
        self.start()

    def docker(self, *arguments):
        return subprocess.run(["docker", "--host", self.socket, *arguments], capture_output=True, text=True, check=False, timeout=120)

    def make_image(self):
        root = self.folder / "root"
        for program in ("/bin/sh", "/bin/cat"):
            libraries = re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", program], capture_output=True, text=True, check=True,
                                                                  timeout=20).stdout)
            for path in (program, *libraries):
                target = root / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(os.path.realpath(path), target)
        archive = self.folder / "root.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True, timeout=60)
        made = self.docker("import", str(archive), "shell")
        assert made.returncode == 0, made.stderr

    def run(self, command, *flags):
        return self.docker("run", "--rm", "--network", "none", *flags, "shell", "/bin/sh", "-c", command)


class Docker(harness.TestCase):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("docker"):
            raise unittest.SkipTest("no Docker engine is installed here; apt-get install docker.io iptables brings one")
        if subprocess.run(["pidof", "dockerd"], capture_output=True, check=False, timeout=20).returncode == 0:
            raise unittest.SkipTest("a Docker engine runs here, whose configuration is not the test's to change")
        folder = tempfile.mkdtemp(prefix="loadstar-docker-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.engine = Engine(folder)
        self.addCleanup(self.engine.stop)
        self.engine.start()
        self.engine.make_image()
        self.loadstar = self.cluster().start()

    def limits(self):
        done = self.engine.run("ulimit -Sn; ulimit -Hn")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.split()

    def test_containers_have_what_was_planned_for_them(self):
        profile = self.loadstar.write("contained.yaml", PROFILE)
        plan = self.loadstar.cli("tune", "plan", profile, "--containers", json_output=True)
        self.assertEqual(plan.code, PASSED, plan)
        steps = [message["step"] for message in plan.objects if "step" in message]
        inside = {step["key"]: step for step in steps if step.get("place") == "TUNE_PLACE_CONTAINER"}
        self.assertNotIn("fs.file-max", inside)
        flags, keys = [], []
        for key, step in inside.items():
            if step["outcome"] != "TUNE_OUTCOME_CHANGED":
                continue
            value = step["after"].replace("\t", " ")
            if key == "ulimit nofile":
                flags += ["--ulimit", f"nofile={value}"]
            else:
                flags += ["--sysctl", f"{key}={value}"]
                keys.append(key)
        self.assertIn("net.core.somaxconn", keys)
        files = " ".join("/proc/sys/" + key.replace(".", "/") for key in inside if key != "ulimit nofile")
        began = self.engine.run(f"/bin/cat {files}")
        self.assertEqual(began.stdout.split("\n")[:-1], [step["before"] for key, step in inside.items() if key != "ulimit nofile"],
                         "what the plan says that a container begins with")
        has = self.engine.run(f"/bin/cat {files}; ulimit -Sn; ulimit -Hn", *flags)
        self.assertEqual(has.returncode, 0, has.stderr)
        values = has.stdout.split("\n")[:-1]
        wanted = [step["after"] for key, step in inside.items() if key != "ulimit nofile"]
        self.assertEqual(values[:-2], wanted)
        self.assertEqual([int(value) >= least for value, least in zip(values[-2:], (SOFT, HARD))], [True, True], values)
        for key, step in inside.items():
            print(f"container | {key} | {step.get('before', '')!r} | {step.get('after', '')!r}")

        shown = self.loadstar.cli("tune", "plan", profile, "--containers")
        self.assertIn('      net.core.somaxconn: "8192"', shown.out)
        refused = self.engine.run("true", "--sysctl", "fs.file-max=100000")
        self.assertNotEqual(refused.returncode, 0, "Docker takes for a container what the plan leaves to the host")
        print("docker:", refused.stderr.strip().splitlines()[0])

    def test_containers_begin_with_the_limit_of_a_profile_and_then_again_with_the_old_one(self):
        if DAEMON_JSON.exists():
            raise unittest.SkipTest(f"{DAEMON_JSON} is not the test's to change")
        DAEMON_JSON.parent.mkdir(exist_ok=True)
        before = b'{"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 4096}},\n  "debug": false}\n'
        DAEMON_JSON.write_bytes(before)
        self.addCleanup(DAEMON_JSON.unlink)
        self.engine.restart()
        self.assertEqual(self.limits(), ["1024", "4096"])
        profile = self.loadstar.write("limits.yaml", MINIMAL)
        self.addCleanup(self.loadstar.cli, "tune", "rollback", "--force")
        applied = self.loadstar.cli("tune", "apply", profile)
        self.assertEqual(applied.code, PASSED, applied)
        self.assertIn("takes effect when Docker is restarted", applied.out)
        self.assertEqual(self.limits(), ["1024", "4096"], "what runs keeps what it has")
        self.engine.restart()
        self.assertEqual(self.limits(), [str(SOFT), str(HARD)])
        self.assertEqual(self.loadstar.cli("tune", "verify").code, PASSED)
        self.assertEqual(self.loadstar.cli("tune", "rollback").code, PASSED)
        self.assertEqual(DAEMON_JSON.read_bytes(), before)
        self.engine.restart()
        self.assertEqual(self.limits(), ["1024", "4096"])
        print(f"docker run: ulimit 1024:4096, with the profile {SOFT}:{HARD}, after the rollback 1024:4096")

    def test_a_limit_that_is_not_known_is_not_lowered(self):
        if DAEMON_JSON.exists():
            raise unittest.SkipTest(f"{DAEMON_JSON} is not the test's to change")
        began = [int(number) for number in self.limits()]
        profile = self.loadstar.write("limits.yaml", MINIMAL)
        self.addCleanup(self.loadstar.cli, "tune", "rollback", "--force")
        applied = self.loadstar.cli("tune", "apply", profile)
        self.assertEqual(applied.code, PASSED, applied)
        self.assertIn("the soft limit that containers began with cannot be told", applied.out)
        self.engine.restart()
        has = [int(number) for number in self.limits()]
        self.assertEqual([now >= max(then, least) for now, then, least in zip(has, began, (SOFT, HARD))], [True, True], (began, has))
        self.assertEqual(self.loadstar.cli("tune", "rollback").code, PASSED)
        self.assertFalse(DAEMON_JSON.exists())
        print(f"docker run: ulimit {began}, with the profile {has}")


if __name__ == "__main__":
    harness.main()
