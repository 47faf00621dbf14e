"""loadstar-colima and deploy/colima-setup.sh, and `loadstar tune` through an agent, against a strict double of Colima's command
line, whose virtual machine is a network namespace, at two versions of it. Which calls are made is compared with
docs/colima.md."""

import fcntl
import importlib.util
import json
import os
import pathlib
import pty
import re
import resource
import shutil
import subprocess
import tempfile
import time
import types
import unittest
import uuid

import yaml

import harness
from harness import BIN, INVALID, NOT_CARRIED_OUT, PASSED, ROOT, THRESHOLD_FAILED, CliResult
from test_tuning import settings

OLD, NEW = "0.6.9", "0.10.1"
VERBS = ("start", "config", "stop", "status", "clean")
# Settings that a network namespace has of its own, so that all of them can be made in one; the limits are what this user has.
HARD = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 262144) if resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 0 else 4096
SOFT = HARD // 2
PROFILE = f"""
apiVersion: loadstar/v1
kind: TuningProfile
name: small
virtualMachine: {{cpus: 12, memory: 16GiB, disk: 100GiB}}
descriptors: {{soft: {SOFT}, hard: {HARD}}}
sysctls:
  - {{key: net.core.somaxconn, value: 8192, scope: network-namespace, effect: e, source: s}}
  - {{key: net.ipv4.ip_local_port_range, value: 1024-65535, scope: network-namespace, effect: e, source: s}}
  - {{key: net.ipv4.ip_local_reserved_ports, value: "9100-9103,8080", scope: network-namespace, effect: e, source: s}}
  - {{key: net.ipv4.tcp_fin_timeout, value: 30, policy: exactly, scope: network-namespace, effect: e, source: s}}
  - {{key: net.ipv4.tcp_rmem, value: 4096 131072 256MiB, scope: network-namespace, effect: e, source: s}}
"""
KEYS = ["net.core.somaxconn", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_rmem"]
WANTED = ["8192", "1024 65535", "8080,9100-9103", "30", "4096 131072 268435456"]


def load_double():
    path = ROOT / "tests/agent/tuner/colima/colima_double.py"
    spec = importlib.util.spec_from_file_location("colima_double", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


double = load_double()


def as_documented(call):
    """A call with what differs from machine to machine named, as docs/colima.md writes it."""
    words = list(call)
    if "--profile" in words:
        words[words.index("--profile") + 1] = "NAME"
    for flag in ("--cpu", "--cpus", "--memory", "--disk"):
        if flag in words:
            words[words.index(flag) + 1] = "N"
    text = " ".join(f"'{word}'" if " " in word else word for word in words)
    text = re.sub(r"sysctl -e .*", "sysctl -e KEY...", text)
    text = re.sub(r"sysctl -w .*", "sysctl -w KEY=VALUE", text)
    text = re.sub(r"--nofile=\d+:\d+", "--nofile=SOFT:HARD", text)
    return re.sub(r"modprobe -- \w+", "modprobe -- MODULE", text)


def documented_calls():
    blocks = re.findall(r"^```text\n(.*?)^```", (ROOT / "docs/colima.md").read_text(), re.MULTILINE | re.DOTALL)
    return {re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()
            if re.match(r"(colima|limactl|docker) ", line)}


class Doubled(harness.TestCase):
    """What is known of the double."""

    def setUp(self):
        self.made = set()

    def double(self, version=NEW, lima="1.2.1", **faults):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="loadstar-colima-"))
        self.addCleanup(shutil.rmtree, folder)
        self.namespace = f"loadstar-{uuid.uuid4().hex[:12]}"
        self.folder = folder / "double"
        self.environment = double.install(self.folder, colima=version, lima=lima, namespace=self.namespace, **faults)
        probe = subprocess.run(["ip", "netns", "add", self.namespace], capture_output=True, text=True, check=False, timeout=20)
        if probe.returncode == 0:
            self.addCleanup(subprocess.run, ["ip", "netns", "del", self.namespace], check=False, capture_output=True,
                            timeout=20)
            probe = subprocess.run(["ip", "netns", "exec", self.namespace, "sh", "-c", double.ENTER, "sh", "true"],
                                   capture_output=True, text=True, check=False, timeout=20)
        if probe.returncode != 0:
            raise unittest.SkipTest(f"no network namespace can be made here: {probe.stderr.strip()}")
        self.profile = folder / "small.yaml"
        self.profile.write_text(PROFILE)
        self.seen = 0
        self.addCleanup(self.check_violations, self.folder)

    def check_violations(self, folder):
        self.assertEqual((folder / "violations").read_text(), "", "what the double refused")

    @property
    def config(self):
        return self.folder / "colima-home/loadstar/colima.yaml"

    def run_program(self, *arguments, program=None, environment=None, stdin=subprocess.DEVNULL, tuning=True):
        command = [str(program or BIN / "loadstar-colima"), *arguments]
        if tuning:
            command += ["--tuning", str(self.profile)]
        done = subprocess.run(command, env={**os.environ, **(environment or self.environment)}, stdin=stdin, capture_output=True,
                              text=True, timeout=120, check=False, cwd=self.folder)
        return CliResult(done.returncode, done.stdout, done.stderr)

    def calls(self):
        """The calls since the last time."""
        calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        new, self.seen = calls[self.seen:], len(calls)
        self.made.update(as_documented(call) for call in new)
        return new

    def calls_after_detection(self):
        calls = self.calls()
        self.assertEqual(calls[:3], [["colima", "version"], ["limactl", "--version"], ["docker", "--version"]])
        return calls[3:]

    @staticmethod
    def inside(*command):
        return ["colima", "ssh", "--profile", "loadstar", "--", "sudo", *command]

    def look(self):
        """The calls that tell everything of a running machine."""
        return [["colima", "list", "--json"], ["colima", "status", "--profile", "loadstar", "--json"],
                self.inside("cat", "/etc/docker/daemon.json"), self.inside("docker", "ps", "-q")]

    def tune(self, *writes):
        made = [[self.inside("sysctl", "-w", write), self.inside("sysctl", "-e", write.split("=")[0])] for write in writes]
        return [self.inside("cat", "/proc/sys/kernel/random/boot_id"), self.inside("sysctl", "-e", *KEYS),
                *[call for calls in made for call in calls], self.inside("prlimit", f"--nofile={SOFT}:{HARD}", "sh", "-c",
                                                                        "ulimit -Sn; ulimit -Hn")]

    def start_call(self, version, cpus=12, memory=16, disk=100):
        return ["colima", "start", "--profile", "loadstar", "--runtime", "docker", "--cpus" if version == NEW else "--cpu",
                str(cpus), "--memory", str(memory), "--disk", str(disk)]

    def values(self):
        output = subprocess.run(["ip", "netns", "exec", self.namespace, "sysctl", "-n", *KEYS], capture_output=True, text=True,
                                check=True, timeout=20).stdout
        return [line.replace("\t", " ") for line in output.splitlines()]

    def set_inside(self, setting):
        subprocess.run(["ip", "netns", "exec", self.namespace, "sysctl", "-w", setting], check=True, capture_output=True,
                       timeout=20)

    def steps(self, result):
        return {entry["step"]["key"]: entry["step"] for entry in result.objects if "step" in entry}

    def machine(self):
        return json.loads((self.folder / "machines").read_text()).get("loadstar")

    def set_machine(self, **facts):
        (self.folder / "machines").write_text(json.dumps({"loadstar": {**(self.machine() or {}), **facts}}))


class Colima(Doubled):
    def five_verbs(self, version):
        self.double(version)
        started = self.run_program("start")
        self.assertEqual(started.code, PASSED, started)
        self.assertEqual(self.calls_after_detection(),
                         [["colima", "list", "--json"], self.start_call(version), *self.look(), *self.tune()])
        self.assertEqual(self.values(), WANTED, "the script of the configuration has made them at the start")
        config = yaml.safe_load(self.config.read_text())
        self.assertEqual((config["cpu"], config["memory"], config["disk"], config["runtime"]), (12, 16, 100, "docker"))
        self.assertEqual(config["docker"], {"default-ulimits": {"nofile": {"Name": "nofile", "Soft": SOFT, "Hard": HARD}}})

        again = self.run_program("start", "--json")
        self.assertEqual(again.code, PASSED, again)
        self.assertEqual(self.calls_after_detection(), [*self.look(), *self.tune()], "what runs is not started")
        self.assertEqual({step["outcome"] for key, step in self.steps(again).items() if key != "descriptors.verify"},
                         {"TUNE_OUTCOME_FULFILLED"}, again)
        self.assertEqual(self.steps(again)["descriptors.verify"]["outcome"], "TUNE_OUTCOME_WORKS")

        status = self.run_program("status")
        self.assertEqual(status.code, PASSED, status)
        self.assertEqual(self.calls_after_detection(), [*self.look(), *self.tune()])
        self.assertIn("QEMU", status.out)

        for setting in ("net.core.somaxconn=128", "net.ipv4.tcp_fin_timeout=60", "net.ipv4.tcp_rmem=4096 131072 536870912"):
            self.set_inside(setting)
        status = self.run_program("status", "--json")
        self.assertEqual(status.code, NOT_CARRIED_OUT, status)
        self.assertEqual([key for key, step in self.steps(status).items() if step["obstacle"]],
                         ["net.core.somaxconn", "net.ipv4.tcp_fin_timeout"])
        self.calls()
        configured = self.run_program("config", "--json")
        self.assertEqual(configured.code, PASSED, configured)
        self.assertEqual(self.calls_after_detection(),
                         [*self.look(), *self.tune("net.core.somaxconn=8192", "net.ipv4.tcp_fin_timeout=30")])
        self.assertEqual(self.values(), [*WANTED[:4], "4096 131072 536870912"], "what is higher stays")
        step = self.steps(configured)["net.core.somaxconn"]
        self.assertEqual((step["outcome"], step["before"], step["after"]), ("TUNE_OUTCOME_CHANGED", "128", "8192"))
        self.assertTrue(self.steps(configured)["net.ipv4.tcp_fin_timeout"]["lowers"])

        stopped = self.run_program("stop", tuning=False)
        self.assertEqual(stopped.code, PASSED, stopped)
        self.assertEqual(self.calls_after_detection(), [["colima", "list", "--json"], ["colima", "stop", "--profile", "loadstar"],
                                                        ["colima", "list", "--json"]])
        stopped = self.run_program("stop", tuning=False)
        self.assertEqual((stopped.code, self.calls_after_detection()), (PASSED, [["colima", "list", "--json"]]), stopped)
        self.assertIn("does not run", stopped.out)
        status = self.run_program("status")
        self.assertEqual(status.code, NOT_CARRIED_OUT, status)
        self.assertIn("does not run", status.err)
        configured = self.run_program("config")
        self.assertEqual(configured.code, PASSED, configured)
        self.assertIn("ready for the next start", configured.out)

        self.calls()
        started = self.run_program("start")
        self.assertEqual(started.code, PASSED, started)
        self.assertEqual(self.calls_after_detection(),
                         [["colima", "list", "--json"], self.start_call(version), *self.look(), *self.tune()])
        self.assertEqual(self.values(), WANTED, "a machine that was started again has them by itself")

        (self.folder / "containers").write_text("0123456789ab\nba9876543210\n")
        refused = self.run_program("clean", tuning=False)
        self.assertEqual(refused.code, INVALID, refused)
        self.assertIn("2 containers running", refused.err)
        self.assertIn("--yes", refused.err)
        self.assertEqual(self.calls_after_detection(), [["colima", "list", "--json"], self.inside("docker", "ps", "-q")])
        self.assertEqual(self.machine()["status"], "Running")
        cleaned = self.run_program("clean", "--yes", tuning=False)
        self.assertEqual(cleaned.code, PASSED, cleaned)
        data = ["--data"] if version == NEW else []
        self.assertEqual(self.calls_after_detection(),
                         [["colima", "list", "--json"], self.inside("docker", "ps", "-q"), ["colima", "delete", "--help"],
                          ["colima", "delete", "--profile", "loadstar", "--force", *data], ["colima", "list", "--json"]])
        self.assertIsNone(self.machine())
        self.assertFalse(self.config.exists())
        for verb, code, text in (("clean", PASSED, "nothing to clean"), ("stop", PASSED, "nothing to stop"),
                                 ("status", NOT_CARRIED_OUT, "there is no virtual machine")):
            result = self.run_program(verb, tuning=False)
            self.assertEqual(result.code, code, result)
            self.assertIn(text, result.out + result.err)
            self.assertEqual(self.calls_after_detection(), [["colima", "list", "--json"]])

    def test_five_verbs_make_exactly_the_calls_of_the_documentation(self):
        for version in (OLD, NEW):
            with self.subTest(version=version):
                self.five_verbs(version)
        # What a missing module takes; there is one only where a kernel has none of it (colima_test.cc).
        self.made.add(as_documented(self.inside("modprobe", "--", "nf_conntrack")))
        self.assertEqual(self.made, documented_calls())

    def test_running_machine_of_another_size_is_restarted_only_when_that_is_allowed(self):
        self.double()
        self.set_machine(cpu=2, memory=2, disk=200, arch="x86_64", runtime="docker", vmType="qemu", mountType="sshfs",
                         status="Running")
        (self.folder / "containers").write_text("0123456789ab\nba9876543210\n")
        (self.folder / "daemon.json").write_text("{}")
        refused = self.run_program("start", "--json")
        self.assertEqual(refused.code, NOT_CARRIED_OUT, refused)
        self.assertFalse([call for call in self.calls() if call[1] in ("start", "stop", "delete")])
        steps = self.steps(refused)
        for key in ("virtualMachine.cpus", "virtualMachine.memory", "descriptors"):
            self.assertEqual(steps[key]["outcome"], "TUNE_OUTCOME_NOT_TRIED", refused)
            self.assertIn("would interrupt 2 running containers", steps[key]["message"])
        self.assertEqual(steps["virtualMachine.disk"]["outcome"], "TUNE_OUTCOME_FULFILLED", "a larger disk stays")
        self.assertEqual(steps["net.core.somaxconn"]["outcome"], "TUNE_OUTCOME_CHANGED", "what needs no restart is done")
        self.assertEqual(self.values(), WANTED)

        allowed = self.run_program("start", "--allow-restart", "--json")
        self.assertEqual(allowed.code, PASSED, allowed)
        self.assertEqual(self.calls_after_detection(),
                         [*self.look(), ["colima", "stop", "--profile", "loadstar"], self.start_call(NEW, disk=200), *self.look(),
                          *self.tune()])
        machine = self.machine()
        self.assertEqual((machine["cpu"], machine["memory"], machine["disk"]), (12, 16, 200))

    def test_start_that_does_not_do_what_it_says_is_noticed(self):
        self.double(start_ignores_sizes=True)
        started = self.run_program("start", "--json")
        self.assertEqual(started.code, NOT_CARRIED_OUT, started)
        step = self.steps(started)["virtualMachine.cpus"]
        self.assertEqual(step["outcome"], "TUNE_OUTCOME_REFUSED")
        self.assertIn('after the start it is "2"', step["message"])

    def test_start_that_fails_says_what_colima_said(self):
        self.double(start_fails=True)
        started = self.run_program("start")
        self.assertEqual(started.code, NOT_CARRIED_OUT, started)
        self.assertIn("error starting vm: exit status 1", started.err)

    def test_machine_of_another_engine_is_left_alone(self):
        self.double()
        self.set_machine(cpu=2, memory=2, disk=60, arch="x86_64", runtime="containerd", vmType="qemu", mountType="sshfs",
                         status="Running")
        started = self.run_program("start", "--allow-restart")
        self.assertEqual(started.code, NOT_CARRIED_OUT, started)
        self.assertIn("cannot change after the virtual machine was created", started.out)
        self.assertEqual(self.calls_after_detection(), self.look()[:2])
        self.assertFalse(self.config.exists())

    def test_configuration_of_the_users_is_kept_and_put_back(self):
        self.double()
        self.config.parent.mkdir(parents=True)
        mine = """# mine
cpu: 16
docker:
  log-opts: {max-file: "3", max-size: 10m}
  default-ulimits:
    nofile: {Name: nofile, Soft: 2000000, Hard: 2000000}
provision:
  - mode: user
    script: |
      echo mine
hostname: "on"
"""
        self.config.write_text(mine)
        configured = self.run_program("config")
        self.assertEqual(configured.code, PASSED, configured)
        config = yaml.safe_load(self.config.read_text())
        self.assertEqual(config["cpu"], 16)
        self.assertEqual(config["docker"], yaml.safe_load(mine)["docker"])
        self.assertEqual(config["provision"][0], {"mode": "user", "script": "echo mine\n"})
        self.assertEqual((len(config["provision"]), config["hostname"]), (2, "on"))
        text = self.config.read_text()
        self.assertEqual(self.run_program("config").code, PASSED)
        self.assertEqual(self.config.read_text(), text, "a second time changes nothing")
        cleaned = self.run_program("clean", "--yes", tuning=False)
        self.assertEqual(cleaned.code, PASSED, cleaned)
        self.assertEqual(self.config.read_text(), mine)
        self.assertEqual([path.name for path in self.config.parent.iterdir()], ["colima.yaml"])

        self.config.write_text("cpu: &many 12\n")
        refused = self.run_program("start")
        self.assertEqual(refused.code, NOT_CARRIED_OUT, refused)
        self.assertIn("colima.yaml:1:6", refused.err)
        self.assertEqual(self.config.read_text(), "cpu: &many 12\n")

    def test_clean_asks_on_a_terminal(self):
        self.double()
        self.assertEqual(self.run_program("start").code, PASSED)
        for answer, code in ((b"n\n", NOT_CARRIED_OUT), (b"yes\n", PASSED)):
            master, slave = pty.openpty()
            try:
                os.write(master, answer)
                result = self.run_program("clean", stdin=slave, tuning=False)
            finally:
                os.close(master)
                os.close(slave)
            self.assertEqual(result.code, code, result)
            self.assertIn("Go on? [y/N]", result.err)
            self.assertEqual(self.machine() is None, code == PASSED)

    def test_bad_input_is_refused_before_anything_is_called(self):
        self.double()
        (self.folder / "bad.yaml").write_text(PROFILE.replace("cpus: 12", "cpus: 0"))
        for arguments, text in ((["start", "--tuning", str(self.folder / "bad.yaml")], "virtualMachine.cpus"),
                                (["start", "--tuning", "colima-100m"], "there is no profile"),
                                (["start", "--tuning", str(ROOT / "deploy/stacks/four-nodes.yaml")], "is no TuningProfile"),
                                (["stop", "--profile", "../x"], "is no profile's name"),
                                (["start", "--vm-type", "vz"], "macOS only"),
                                (["begin"], "subcommand"), ([], "subcommand")):
            result = self.run_program(*arguments, tuning=False)
            self.assertEqual(result.code, INVALID, result)
            self.assertIn(text, result.err)
        self.assertEqual(self.calls(), [])

    def test_missing_and_old_programs_are_named_with_how_to_get_them(self):
        self.double("0.5.6", lima="0.17.2")
        for verb in VERBS:
            result = self.run_program(verb, tuning=False)
            self.assertEqual(result.code, NOT_CARRIED_OUT, result)
            for text in ("colima 0.5.6 is too old, 0.6.0 is", "limactl 0.17.2 is too old, 0.18.0 is", "releases"):
                self.assertIn(text, result.err)
        self.assertEqual({tuple(call) for call in self.calls()},
                         {("colima", "version"), ("limactl", "--version"), ("docker", "--version")})
        empty = {**self.environment, "PATH": str(self.folder)}
        for verb in VERBS:
            result = self.run_program(verb, environment=empty, tuning=False)
            self.assertEqual(result.code, NOT_CARRIED_OUT, result)
            for name in ("colima", "limactl", "docker"):
                self.assertIn(f"{name} is not installed: ", result.err)
        self.assertEqual(self.calls(), [])

    @unittest.skipUnless(BIN == ROOT / "build/release/bin", "the script builds and runs what is in build/release")
    def test_script_with_the_shipped_profile(self):
        self.double()
        script = ROOT / "deploy/colima-setup.sh"
        started = self.run_program("start", "--json", program=script, tuning=False)
        # What reaches further than a namespace cannot be made in one, and this user's limit of descriptors may be lower.
        beyond = {"fs.file-max", "net.core.rmem_max", "net.core.wmem_max", "net.netfilter.nf_conntrack_max",
                  "net.netfilter.nf_conntrack_tcp_timeout_established", "descriptors.verify"}
        steps = self.steps(started)
        self.assertGreaterEqual(beyond, {key for key, step in steps.items() if step["obstacle"]}, started)
        self.assertEqual(len(steps), 3 + 1 + 1 + 13 + 1, started)
        self.assertEqual(self.machine()["cpu"], 12)
        codes = {"config": started.code, "status": started.code, "stop": PASSED}
        for verb, code in codes.items():
            self.assertEqual(self.run_program(verb, program=script, tuning=False).code, code, verb)
        self.assertEqual(self.run_program("clean", program=script, tuning=False).code, INVALID)
        self.assertEqual(self.run_program("clean", "--yes", program=script, tuning=False).code, PASSED)
        self.assertEqual(self.run_program("destroy", program=script, tuning=False).code, INVALID)



class ThroughTheCoordinator(Doubled):
    """`loadstar tune` of a profile that has a virtual machine, on an agent whose host has Colima."""

    def start(self, running=True, **faults):
        """Coordinator, agent and double; `running`: with a machine that the user made, large enough for every profile."""
        self.double(**faults)
        if running:
            limit = {"Name": "nofile", "Soft": 262144, "Hard": 262144}
            mine = {"cpu": 12, "memory": 16, "disk": 100, "docker": {"default-ulimits": {"nofile": limit}}}
            self.config.parent.mkdir(parents=True)
            self.config.write_text(f"# mine\n{yaml.safe_dump(mine)}")
            self.set_machine(cpu=12, memory=16, disk=100, arch="x86_64", runtime="docker", vmType="qemu", mountType="sshfs",
                             status="Running")
            (self.folder / "daemon.json").write_text(json.dumps(mine["docker"]))
            self.mine = self.config.read_text()
        self.loadstar = self.cluster()
        self.loadstar.start_coordinator()
        self.loadstar.start_agent(environment=self.environment)
        self.before = self.settings()
        self.calls()

    def settings(self):
        """Every setting inside, but those that change by themselves."""
        def run(*command):
            return subprocess.run(["ip", "netns", "exec", self.namespace, *command], check=True, capture_output=True, text=True,
                                  timeout=20).stdout
        return settings(types.SimpleNamespace(run=run))

    def ask(self, *arguments, json_output=True):
        return self.loadstar.cli("tune", *arguments, json_output=json_output)

    def colima(self, *arguments):
        """What the user does without Loadstar."""
        subprocess.run([self.folder / "bin/colima", *arguments], env={**os.environ, **self.environment}, check=True,
                       capture_output=True, timeout=60)

    def restart(self):
        self.colima("stop", "--profile", "loadstar")
        self.colima("start", "--profile", "loadstar")

    def files(self):
        return sorted(path.name for path in self.config.parent.iterdir())

    def outcomes(self, result):
        return {key: step["outcome"].replace("TUNE_OUTCOME_", "") for key, step in self.steps(result).items()}

    def print_table(self, profile, applied, rolled_back):
        restored = self.steps(rolled_back)
        for key, step in self.steps(applied).items():
            print(f"{profile} | {key} | {step.get('before', '')!r} | {step.get('after', '') or step['outcome']!r} | "
                  f"{restored.get(key, {}).get('after', '')!r}")

    def test_profiles_are_planned_applied_tried_out_and_put_back_exactly(self):
        self.start()
        for profile, keys in ((str(self.profile), KEYS), ("colima-100k", ["net.ipv4.tcp_fin_timeout"])):
            name = "small" if profile == str(self.profile) else profile
            with self.subTest(name):
                plan = self.ask("plan", profile)
                self.assertEqual(plan.code, PASSED, plan)
                self.assertEqual(self.settings(), self.before, "a plan changes nothing")
                self.assertEqual(self.files(), ["colima.yaml"])
                self.assertEqual({step["place"] for step in self.steps(plan).values()}, {"TUNE_PLACE_VIRTUAL_MACHINE"})
                applied = self.ask("apply", profile)
                obstacles = [step for step in self.steps(applied).values() if step.get("obstacle")]
                self.assertEqual(applied.code, NOT_CARRIED_OUT if obstacles else PASSED, applied)
                if name == "small":
                    self.assertEqual(obstacles, [])
                    self.assertEqual(self.values(), WANTED)
                for key in keys:
                    self.assertEqual(self.outcomes(plan)[key], "CHANGED", plan)
                    self.assertEqual(self.outcomes(applied)[key], "CHANGED", applied)
                self.assertNotEqual(self.settings(), self.before)
                good = PASSED if not obstacles else THRESHOLD_FAILED
                verified = self.ask("verify")
                self.assertEqual(verified.code, good, verified)
                self.assertEqual(self.outcomes(verified)["net.core.somaxconn"], "APPLIED")
                self.assertEqual(self.ask("status", name).code, good)
                again = self.ask("apply", profile)
                self.assertNotIn("CHANGED", self.outcomes(again).values(), "twice is once")
                table = self.ask("status", name, json_output=False)
                self.assertEqual(table.out.count("in the virtual machine:"), 1, table)
                rolled_back = self.ask("rollback", name)
                self.assertEqual(rolled_back.code, PASSED, rolled_back)
                self.assertEqual(self.settings(), self.before)
                self.assertEqual(self.config.read_text(), self.mine)
                self.assertEqual(self.files(), ["colima.yaml"])
                self.print_table(name, applied, rolled_back)
        calls = self.calls()
        self.assertFalse([call for call in calls if call[1] in ("start", "stop", "delete")])
        self.assertLessEqual({as_documented(call) for call in calls}, documented_calls())
        self.assertEqual(self.ask("status").code, PASSED)
        self.assertEqual(self.calls(), [], "nothing is called when nothing of ours is there")

    def test_a_machine_that_was_made_stays_and_its_next_start_is_without(self):
        self.start(running=False)
        planned = self.ask("plan", str(self.profile))
        self.assertEqual(planned.code, PASSED, planned)
        self.assertIsNone(self.machine())
        self.assertFalse(self.config.exists())
        applied = self.ask("apply", str(self.profile))
        self.assertEqual(applied.code, PASSED, applied)
        self.assertEqual(self.machine()["cpu"], 12)
        self.assertEqual(self.values(), WANTED)
        self.assertEqual(self.ask("verify", "small").code, PASSED)
        rolled_back = self.ask("rollback", "small")
        self.assertEqual(rolled_back.code, PASSED, rolled_back)
        steps = self.steps(rolled_back)
        for key in ("net.core.somaxconn", "virtualMachine.cpus", "virtualMachine.disk", "virtualMachine", "descriptors"):
            self.assertEqual(steps[key]["outcome"], "TUNE_OUTCOME_KEPT", rolled_back)
        self.assertIn("never gets smaller", steps["virtualMachine.disk"]["message"])
        self.assertIn("with the next start", steps["net.core.somaxconn"]["message"])
        self.assertEqual(self.machine()["status"], "Running", "a rollback neither stops nor deletes it")
        self.restart()
        self.assertEqual(self.settings(), self.before)
        self.assertEqual((self.machine()["cpu"], self.machine()["disk"]), (2, 100))
        self.assertEqual(self.files(), ["colima.yaml"])

    def test_a_restart_of_the_machine_in_between_is_noticed(self):
        self.start()
        self.assertEqual(self.ask("apply", str(self.profile)).code, PASSED)
        self.restart()
        self.assertEqual(self.values(), WANTED, "its configuration has made them")
        status = self.ask("status", "small")
        self.assertEqual(status.code, PASSED, status)
        rolled_back = self.ask("rollback", "small")
        self.assertEqual(rolled_back.code, PASSED, rolled_back)
        self.assertEqual(self.outcomes(rolled_back)["net.core.somaxconn"], "KEPT")
        self.assertEqual(self.files(), ["colima.yaml"])
        self.restart()
        self.assertEqual(self.settings(), self.before)

    def test_an_agent_that_is_killed_in_the_middle_leaves_what_its_next_life_puts_back(self):
        self.start()
        (self.folder / "hang").write_text("after net.ipv4.ip_local_port_range")
        command = [str(BIN / "loadstar"), "tune", "apply", str(self.profile), "--coordinator", self.loadstar.address]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as applying:
            harness.wait_for((self.folder / "hanging").exists, 30, "the apply to be in the middle")
            self.loadstar.processes["local"].kill()
            self.loadstar.processes["local"].wait()
            # The coordinator gives the agent up, and its order with it.
            out, _ = applying.communicate(timeout=90)
            self.assertEqual(applying.returncode, NOT_CARRIED_OUT, out)
        self.assertNotEqual(self.settings(), self.before)
        self.loadstar.start_agent(environment=self.environment)
        status = self.ask("status", "small")
        self.assertEqual(self.outcomes(status)["net.ipv4.ip_local_port_range"], "APPLIED", status)
        self.assertEqual(self.outcomes(status)["net.ipv4.tcp_fin_timeout"], "FAILS", "it was not made any more")
        rolled_back = self.ask("rollback", "small")
        self.assertEqual(rolled_back.code, PASSED, rolled_back)
        self.assertEqual(self.settings(), self.before)
        self.assertEqual(self.config.read_text(), self.mine)
        self.assertEqual(self.files(), ["colima.yaml"])

    def test_an_agent_that_waits_for_a_start_is_there_for_its_coordinator(self):
        self.start(running=False, start_takes=6)
        command = [str(BIN / "loadstar"), "tune", "apply", str(self.profile), "--coordinator", self.loadstar.address]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as applying:
            looks, waits = 0, []
            while applying.poll() is None:
                began = time.monotonic()
                agents = self.loadstar.api.ListAgents(harness.service_pb.ListAgentsRequest(), timeout=5).agents
                waits.append(time.monotonic() - began)
                self.assertTrue(agents[0].connected)
                looks += 1
                time.sleep(0.1)
            out = applying.communicate(timeout=10)[0]
            self.assertEqual(applying.returncode, PASSED, out)
        self.assertGreater(looks, 20)
        print(f"while the machine started: {looks} looks at the agent, the longest took {max(waits) * 1000:.0f} ms")

    def test_what_is_in_the_way_is_named(self):
        self.start()
        folder = os.open(self.config.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            refused = self.ask("apply", str(self.profile), json_output=False)
            self.assertEqual(refused.code, NOT_CARRIED_OUT, refused)
            self.assertIn("is at work on the virtual machine", refused.out)
            self.assertIn(f"process {os.getpid()}", refused.out)
        finally:
            os.close(folder)
        self.assertEqual(self.settings(), self.before)
        self.loadstar.stop("local")
        self.loadstar.start_agent(environment={**self.environment, "PATH": str(self.folder)})
        missing = self.ask("apply", "colima-100k", json_output=False)
        self.assertEqual(missing.code, NOT_CARRIED_OUT, missing)
        self.assertIn("colima is not installed: ", missing.out)
        self.assertIn("limactl is not installed: ", missing.out)
        self.assertEqual(self.ask("status").code, PASSED)


if __name__ == "__main__":
    harness.main()
