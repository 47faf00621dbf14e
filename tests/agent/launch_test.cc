#include "agent/deployer/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace loadstar::agent {
namespace {

using testing::Contains;
using testing::ElementsAre;

TEST(PlanLaunch, ImpliesTheTargetsFlags) {
  Policy policy;
  policy.bin_folder = "/opt/bin";
  v1::NodeSpec node;
  node.set_name("node1");
  node.set_role("worker");
  node.set_listen_address("127.0.0.1:9100");
  node.set_api_address("127.0.0.1:8080");
  node.set_processes(3);
  const auto launch = PlanLaunch(policy, node, "mark");
  ASSERT_TRUE(launch.ok()) << launch.status();
  EXPECT_EQ(launch->program, "/opt/bin/loadstar-target");
  EXPECT_THAT(launch->arguments, ElementsAre("--listen", "127.0.0.1:9100", "--name", "node1", "--processes", "3",
                                             "--api", "127.0.0.1:8080", "--role", "worker"));
  EXPECT_THAT(launch->environment, Contains("LOADSTAR_NODE=mark"));
}

TEST(PlanLaunch, TakesTheCommandAsItIs) {
  v1::NodeSpec node;
  node.add_command("/bin/sh");
  node.add_command("-c");
  node.add_command("true");
  node.add_environment("A=1");
  const auto launch = PlanLaunch(Policy(), node, "mark");
  ASSERT_TRUE(launch.ok()) << launch.status();
  EXPECT_EQ(launch->program, "/bin/sh");
  EXPECT_THAT(launch->arguments, ElementsAre("-c", "true"));
  EXPECT_THAT(launch->environment, Contains("A=1"));
}

}  // namespace
}  // namespace loadstar::agent
