"""The Python example against a real coordinator: what README says of other services is true."""

import subprocess

import harness
from harness import INVALID, NOT_TRUSTWORTHY, PASSED, ROOT

EXAMPLE = ROOT / "examples" / "python" / "stream.py"


class Example(harness.TestCase):
    def stream(self, loadstar, document):
        return subprocess.run(["/usr/bin/python3", "-B", EXAMPLE, "--coordinator", loadstar.address, document],
                              capture_output=True, text=True, timeout=60, check=False)

    def test_starts_a_test_and_prints_the_live_stream(self):
        loadstar = self.cluster().start()
        loadstar.deploy(nodes=2)
        document = loadstar.test_document("""
target: {stack: nodes, protocol: mcp-tcp}
load:
  connections: [{ramp: 2s, to: 100}, {hold: 3s}]
  requests: {model: open, rate: 2/s per connection}
thresholds: [connections.peak >= 100]
""")
        done = self.stream(loadstar, document)
        # Not trustworthy: on a machine whose cores are busy elsewhere, which the example is to say as well.
        self.assertIn(done.returncode, (PASSED, NOT_TRUSTWORTHY), done.stdout + done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], "  connections.peak >= 100: held")
        self.assertIn("connections 100/100", done.stdout)
        self.assertGreaterEqual(sum(" s  connections " in line for line in done.stdout.splitlines()), 5)

    def test_says_what_is_wrong_with_a_document(self):
        loadstar = self.cluster().start()
        done = self.stream(loadstar, loadstar.test_document("target: {}\nload: {}\n"))
        self.assertEqual(done.returncode, INVALID, done.stdout + done.stderr)
        self.assertIn("target", done.stderr)


if __name__ == "__main__":
    harness.main()
