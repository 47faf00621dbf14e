"""Three independent counts of the same connections agree to the connection in the middle of the hold: the workers' sum,
the nodes' own gauges, and the kernel's."""

import harness
from harness import NOT_TRUSTWORTHY, PASSED


class Witnesses(harness.TestCase):
    CONNECTIONS = 2000

    def test_workers_nodes_and_kernel_agree(self):
        loadstar = self.cluster().start()
        stack = loadstar.deploy(nodes=4, processes=2)
        run_id = loadstar.start_test(loadstar.test_document(f"""
target: {{stack: nodes, protocol: mcp-tcp}}
load:
  connections: [{{ramp: 3s, to: {self.CONNECTIONS}}}, {{hold: 8s}}]
  requests: {{model: open, rate: 500/s total}}
  workers: 3
thresholds: [connections.peak >= {self.CONNECTIONS}]
"""))
        kernel = workers = None
        nodes = {}
        for message in loadstar.stream(run_id):
            snapshot = message.snapshot
            if message.HasField("snapshot") and snapshot.to_elapsed_s == 6:
                workers = snapshot.figures.gauges.connections_established
                nodes = {node.node.rsplit("/", 1)[-1]: node.connections for node in snapshot.nodes}
                by_port = harness.established_on(*map(harness.port_of, stack.nodes))
                kernel = {node.name: by_port[harness.port_of(node)] for node in stack.nodes}
        share = self.CONNECTIONS // 4
        self.assertEqual(workers, self.CONNECTIONS)
        self.assertEqual(nodes, {node.name: share for node in stack.nodes})
        self.assertEqual(kernel, {node.name: share for node in stack.nodes})
        run = loadstar.wait_finished(run_id, 30)
        self.assert_sound(run)
        self.assertIn(loadstar.cli("show", run_id).code, (PASSED, NOT_TRUSTWORTHY))


if __name__ == "__main__":
    harness.main()
