"""Tuning, on this host and in network namespaces: what a load test needs is found out, applied, tried out and put back."""

import contextlib
import os
import re
import subprocess
import unittest

import harness
from harness import INVALID, NOT_CARRIED_OUT, PASSED, THRESHOLD_FAILED, Namespace

# Keys that no tuning touches and that change by themselves.
VOLATILE = re.compile(r"^(fs\.(dentry-state|file-nr|inode-nr|inode-state|quota)|kernel\.(random|ns_last_pid|pty\.nr|perf_event)|"
                      r"net\.netfilter\.nf_conntrack_count|vm\.(stat|numa)|dev\.|debug\.|sunrpc\.|user\.)")

PROFILE = """
apiVersion: loadstar/v1
kind: TuningProfile
name: {name}
sysctls:
  - {{key: net.core.somaxconn, value: {backlog}, scope: network-namespace, effect: A long queue., source: ip-sysctl.rst}}
  - {{key: net.ipv4.tcp_fin_timeout, value: 30, policy: exactly, scope: network-namespace, effect: Short., source: ip-sysctl.rst}}
"""

LOAD = """
target: {{stack: nodes, protocol: tcp}}
load:
  connections: [{{ramp: 1s, to: {connections}}}, {{hold: 3s}}]
  requests: {{model: open, rate: 1/s per connection, timeout: 5s}}
  workers: 1
  connectTimeout: 5s
"""


def settings(namespace=None):
    """Every kernel setting, as `sysctl -a` shows it, but those that change by themselves."""
    command = ["sysctl", "-a"]
    text = namespace.run(*command) if namespace else subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                                                    text=True, check=False, timeout=30).stdout
    return [line for line in text.splitlines() if not VOLATILE.match(line)]


def steps_of(result):
    """The steps that the CLI printed as JSON: [(agent, key, outcome)]."""
    found = []
    for message in result.objects:
        if step := message.get("step"):
            found.append((step["agent"], step["key"], step["outcome"].replace("TUNE_OUTCOME_", "")))
    return found


class ThisHost(harness.TestCase):
    """The shipped profiles on the host itself. Everything is put back, whatever happens."""

    def test_shipped_profiles_are_applied_and_put_back_exactly(self):
        if os.geteuid() != 0 or not os.access("/proc/sys/net/core/somaxconn", os.W_OK):
            raise unittest.SkipTest("the settings of this host cannot be written")
        loadstar = self.cluster().start()
        before = settings()
        for profile in ("connections-100k", "connections-1m"):
            with self.subTest(profile), contextlib.ExitStack() as stack:
                plan = loadstar.cli("tune", "plan", profile, json_output=True)
                self.assertEqual(plan.code, PASSED, plan)
                self.assertEqual(settings(), before, "a plan changes nothing")
                stack.callback(loadstar.cli, "tune", "rollback", "--force")
                applied = loadstar.cli("tune", "apply", profile, json_output=True)
                obstacles = [message["step"] for message in applied.objects if message.get("step", {}).get("obstacle")]
                self.assertEqual(applied.code, NOT_CARRIED_OUT if obstacles else PASSED, applied)
                changed = [key for _, key, outcome in steps_of(applied) if outcome == "CHANGED"]
                self.assertTrue(changed)
                self.assertNotEqual(settings(), before)
                verified = loadstar.cli("tune", "verify", json_output=True)
                self.assertEqual(verified.code, PASSED, verified)
                self.assertIn(("local", "net.core.somaxconn", "WORKS"), steps_of(verified))
                self.assertEqual(loadstar.cli("tune", "status").code, PASSED)
                again = loadstar.cli("tune", "apply", profile, json_output=True)
                self.assertNotIn("CHANGED", [outcome for _, _, outcome in steps_of(again)], "twice is once")
                rolled_back = loadstar.cli("tune", "rollback", profile, json_output=True)
                self.assertEqual(rolled_back.code, PASSED, rolled_back)
                self.assertEqual(settings(), before)
                self.print_table(profile, applied, rolled_back)

    @staticmethod
    def print_table(profile, applied, rolled_back):
        values = {}
        for result, place in ((applied, 0), (rolled_back, 2)):
            for message in result.objects:
                if step := message.get("step"):
                    row = values.setdefault(step["key"], ["", "", ""])
                    if place == 0:
                        row[0], row[1] = step.get("before", ""), step.get("after", "") or step["outcome"]
                    else:
                        row[2] = step.get("after", "")
        for key, (was, now, restored) in values.items():
            print(f"{profile} | {key} | {was!r} | {now!r} | {restored!r}")


class ItMatters(harness.TestCase):
    """In a namespace with small limits a load test fails, and the reason is named; tuned for that test it passes."""

    CONNECTIONS = 1500

    def setUp(self):
        super().setUp()
        self.namespace = Namespace()
        self.enterContext(self.namespace)
        self.namespace.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40999", "net.core.somaxconn=16")
        self.before = settings(self.namespace)
        self.loadstar = self.cluster(coordinator_listen="0.0.0.0", insecure=True)
        self.loadstar.start_coordinator()
        self.loadstar.start_agent_in(self.namespace)

    def run_while_the_node_pauses(self, document):
        """The node stands still for 600 ms of the ramp, as a server does that collects its garbage."""
        run_id = self.loadstar.start_test(document)
        harness.elapsed(self.loadstar, run_id, 0.2)
        harness.stop_for(self.loadstar.node_processes(), 0.6)
        return self.loadstar.wait_finished(run_id, 60)

    def test_small_limits_fail_by_name_and_tuned_ones_pass(self):
        loadstar = self.loadstar
        document = loadstar.write("needy.yaml", "apiVersion: loadstar/v1\nkind: Test\nname: needy\n" +
                                  LOAD.format(connections=self.CONNECTIONS))
        few = loadstar.test_document(LOAD.format(connections=400))
        loadstar.deploy()
        refused = loadstar.cli("run", document)
        self.assertEqual(refused.code, NOT_CARRIED_OUT, refused)
        self.assertIn("port", refused.err)
        self.assertIn("loadstar tune apply", refused.err)
        overflown = self.run_while_the_node_pauses(few)
        codes = [reason.code for reason in overflown.verdict.reasons]
        self.assertIn("listen-overflow", codes, overflown.verdict)
        print("small limits, too many connections:", refused.err.strip())
        print("small limits, a node that pauses:", [f"{r.code}: {r.message}" for r in overflown.verdict.reasons])
        self.assertEqual(loadstar.cli("teardown", "nodes").code, PASSED)

        applied = loadstar.cli("tune", "apply", "--for", document)
        self.assertEqual(applied.code, PASSED, applied)
        loadstar.deploy()
        passed = loadstar.cli("run", document)
        self.assertEqual(passed.code, PASSED, passed)
        tuned = self.run_while_the_node_pauses(few)
        self.assertNotIn("listen-overflow", [reason.code for reason in tuned.verdict.reasons], tuned.verdict)
        self.assertEqual(tuned.verdict.kind, harness.run_pb.VERDICT_KIND_PASSED, tuned.verdict)
        print("tuned for the test: both passed, the second with", tuned.totals.counters.connects_established, "connections")

        self.assertEqual(loadstar.cli("teardown", "nodes").code, PASSED)
        self.assertEqual(loadstar.cli("tune", "rollback").code, PASSED)
        self.assertEqual(settings(self.namespace), self.before)


class ThreeHosts(harness.TestCase):
    """Three hosts at once, one of which cannot be tuned."""

    def setUp(self):
        super().setUp()
        self.namespaces = [Namespace(number) for number in range(3)]
        for namespace in self.namespaces:
            self.enterContext(namespace)
        self.loadstar = self.cluster(coordinator_listen="0.0.0.0", insecure=True)
        self.loadstar.start_coordinator()
        for number, namespace in enumerate(self.namespaces):
            # The last one's own configuration allows it nothing but the queue.
            flags = ["--allow-tuning", "net.core.somaxconn"] if number == 2 else []
            self.loadstar.start_agent_in(namespace, f"host{number}", flags)

    def values(self):
        return [namespace.run("sysctl", "-n", "net.core.somaxconn", "net.ipv4.tcp_fin_timeout").split()
                for namespace in self.namespaces]

    def test_all_or_nothing_changes_none_and_otherwise_two_are_done(self):
        loadstar = self.loadstar
        before = self.values()
        profile = loadstar.write("mine.yaml", PROFILE.format(name="mine", backlog=5000))
        none = loadstar.cli("tune", "apply", profile, "--all-or-nothing")
        self.assertEqual(none.code, NOT_CARRIED_OUT, none)
        self.assertIn("host2", none.out)
        self.assertIn("nothing was changed anywhere", none.out)
        self.assertEqual(self.values(), before)
        self.assertNotIn("mine", loadstar.cli("tune", "status").out)

        some = loadstar.cli("tune", "apply", profile)
        self.assertEqual(some.code, NOT_CARRIED_OUT, some)
        self.assertIn("1 of 3 hosts not as wanted: host2", some.out)
        self.assertEqual(self.values(), [["5000", "30"], ["5000", "30"], ["5000", before[2][1]]])
        self.assertEqual(loadstar.cli("tune", "rollback", "mine").code, PASSED)
        self.assertEqual(self.values(), before)

        two = loadstar.cli("tune", "apply", profile, "--all-or-nothing", "--agent", "host0", "--agent", "host1")
        self.assertEqual(two.code, PASSED, two)
        # Somebody else's change is seen and left.
        self.namespaces[0].run("sysctl", "-qw", "net.core.somaxconn=6000")
        self.assertEqual(loadstar.cli("tune", "verify").code, THRESHOLD_FAILED)
        left = loadstar.cli("tune", "rollback")
        self.assertEqual(left.code, NOT_CARRIED_OUT, left)
        self.assertIn("changed by others", left.out)
        self.assertEqual(self.values()[:2], [["6000", before[0][1]], before[1]])
        self.assertEqual(loadstar.cli("tune", "rollback", "--force").code, PASSED)
        self.assertEqual(self.values(), before)

    def test_an_agent_killed_in_between_leaves_what_its_next_life_knows(self):
        loadstar = self.loadstar
        before = self.values()
        profile = loadstar.write("mine.yaml", PROFILE.format(name="mine", backlog=5000))
        self.assertEqual(loadstar.cli("tune", "apply", profile, "--agent", "host0").code, PASSED)
        loadstar.processes["host0"].kill()
        loadstar.processes["host0"].wait()
        loadstar.start_agent_in(self.namespaces[0], "host0")
        status = loadstar.cli("tune", "status", "--agent", "host0")
        self.assertEqual(status.code, PASSED, status)
        self.assertIn("applied", status.out)
        self.assertEqual(loadstar.cli("tune", "rollback").code, PASSED)
        self.assertEqual(self.values(), before)


class TwoAgents(harness.TestCase):
    """Two agents of the same network namespace, each with a journal of its own."""

    def test_what_one_has_set_the_other_leaves_alone(self):
        namespace = self.enterContext(Namespace())
        loadstar = self.cluster(coordinator_listen="0.0.0.0", insecure=True)
        loadstar.start_coordinator()
        for name in ("one", "two"):
            loadstar.start_agent_in(namespace, name)
        before = settings(namespace)
        profile = loadstar.write("mine.yaml", PROFILE.format(name="mine", backlog=5000))
        other = loadstar.write("other.yaml", PROFILE.format(name="other", backlog=6000))
        self.assertEqual(loadstar.cli("tune", "apply", profile, "--agent", "one").code, PASSED)
        refused = loadstar.cli("tune", "apply", other, "--agent", "two")
        self.assertEqual(refused.code, NOT_CARRIED_OUT, refused)
        self.assertIn(f"another agent (process {loadstar.processes['one'].pid}) has settings of this network namespace", refused.out)
        self.assertEqual(namespace.run("sysctl", "-n", "net.core.somaxconn").strip(), "5000")
        self.assertEqual(loadstar.cli("tune", "rollback", "--agent", "one").code, PASSED)
        applied = loadstar.cli("tune", "apply", other, "--agent", "two")
        self.assertEqual(applied.code, PASSED, applied)
        self.assertEqual(namespace.run("sysctl", "-n", "net.core.somaxconn").strip(), "6000")
        self.assertEqual(loadstar.cli("tune", "rollback", "--agent", "two").code, PASSED)
        self.assertEqual(settings(namespace), before)


class BadRequests(harness.TestCase):
    def test_nothing_is_done_and_the_mistake_is_named(self):
        loadstar = self.cluster().start()
        cases = (
            (("tune", "apply"), INVALID, "name a profile"),
            (("tune", "apply", "connections-100"), INVALID, "did you mean \"connections-100k\"?"),
            (("tune", "bend", "connections-100k"), INVALID, "not one of plan, apply, verify, status, rollback"),
            (("tune", "plan", "connections-100k", "--persist"), INVALID, "for apply"),
            (("tune", "apply", "connections-100k", "--for", "smoke"), INVALID, "not both"),
            (("tune", "status", "--force"), INVALID, "for rollback"),
            (("tune", "apply", "connections-100k", "--containers"), INVALID, "--containers is for plan"),
            (("tune", "plan", "colima-100k", "--containers"), INVALID, "profiles without virtualMachine"),
            (("tune", "verify", "--load-modules"), INVALID, "--load-modules is for plan and apply"),
            (("tune", "plan", "connections-100k", "--agent", "nobody"), NOT_CARRIED_OUT, "agent 'nobody' is not connected"),
            (("tune", "rollback", "../x"), INVALID, "profile_name"),
        )
        for arguments, code, text in cases:
            with self.subTest(arguments):
                done = loadstar.cli(*arguments)
                self.assertEqual(done.code, code, done)
                self.assertIn(text, done.err)

    def test_a_profile_for_another_kernel_changes_nothing(self):
        loadstar = self.cluster().start()
        text = PROFILE.format(name="mine", backlog=5000)
        other = loadstar.write("other.yaml", text + "when: {kernelFrom: 999.0}\n")
        for action in ("plan", "apply"):
            refused = loadstar.cli("tune", action, other)
            self.assertEqual(refused.code, NOT_CARRIED_OUT, refused)
            self.assertIn(f"profile mine is meant for kernels from 999.0 on; this host has kernel {os.uname().release}", refused.out)
        partly = loadstar.write("partly.yaml", text.replace("source: ip-sysctl.rst}", "source: ip-sysctl.rst, when: {kernelFrom: 999.0}}", 1))
        plan = loadstar.cli("tune", "plan", partly, json_output=True)
        self.assertEqual(plan.code, PASSED, plan)
        self.assertIn(("local", "net.core.somaxconn", "NOT_MEANT"), steps_of(plan))

    def test_a_run_is_not_disturbed(self):
        loadstar = self.cluster().start()
        loadstar.deploy()
        run_id = loadstar.start_test(loadstar.test_document(LOAD.format(connections=10)))
        harness.elapsed(loadstar, run_id, 0.5)
        refused = loadstar.cli("tune", "apply", "connections-100k")
        self.assertEqual(refused.code, NOT_CARRIED_OUT, refused)
        self.assertIn(run_id, refused.err)
        loadstar.wait_finished(run_id, 30)


if __name__ == "__main__":
    harness.main()
