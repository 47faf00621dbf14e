#include "agent/observer/observer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/os/clock.h"
#include "tests/agent/test_server.h"

namespace loadstar::agent {
namespace {

// The next inputs of one kind, waited for until `until_ns`; others are passed over.
template <typename Observed>
std::vector<Observed> Collect(Inbox& inbox, size_t count, int64_t until_ns) {
  std::vector<Observed> all;
  std::vector<Input> inputs;
  while (all.size() < count && os::MonotonicNs() < until_ns) {
    inbox.Take(until_ns, &inputs);
    for (Input& input : inputs) {
      if (auto* observed = std::get_if<Observed>(&input)) all.push_back(std::move(*observed));
    }
  }
  return all;
}

TEST(Observer, ReportsEverySecondWithoutWaitingForASilentNode) {
  std::vector<os::Fd> kept;
  const TestServer good("127.0.0.1:26111", TestServer::Answer("loadstar_target_connections 7\n"));
  const TestServer silent("127.0.0.1:26112", [&](os::Fd fd) { kept.push_back(std::move(fd)); });
  Inbox inbox(100);
  Observer observer(
      [&](const std::string& deployment) {
        EXPECT_EQ(deployment, "stack");
        return std::vector<NodeApi>{{"good", good.address()}, {"mute", ""}, {"silent", silent.address()}};
      },
      os::Proc(), [&](Input input) { inbox.Push(std::move(input)); });
  const int64_t start = os::MonotonicNs() - 500'000'000;
  observer.Start({.run_id = "r", .deployment = "stack", .start_monotonic_ns = start});
  const std::vector<NodesObserved> seen = Collect<NodesObserved>(inbox, 2, start + 5'000'000'000);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_LT(os::MonotonicNs() - (start + 2'000'000'000), 1'500'000'000);
  for (uint32_t second = 0; second < 2; ++second) {
    EXPECT_EQ(seen[second].run_id, "r");
    EXPECT_EQ(seen[second].elapsed_s, second);
    ASSERT_EQ(seen[second].nodes.size(), 2u);  // the one without an API is not asked
    EXPECT_EQ(seen[second].nodes[0].node(), "good");
    EXPECT_TRUE(seen[second].nodes[0].reachable());
    EXPECT_EQ(seen[second].nodes[0].connections(), 7u);
    EXPECT_FALSE(seen[second].nodes[1].reachable());
    EXPECT_FALSE(seen[second].nodes[1].has_connections());
  }
}

TEST(Observer, BeginsWithTheSecondThatIsOnAndStopsWhenTold) {
  Inbox inbox(100);
  Observer observer([](const std::string&) { return std::vector<NodeApi>(); }, os::Proc(),
                    [&](Input input) { inbox.Push(std::move(input)); });
  observer.Start({.run_id = "r", .deployment = "stack", .start_monotonic_ns = os::MonotonicNs() - 7'900'000'000});
  const std::vector<NodesObserved> seen = Collect<NodesObserved>(inbox, 1, os::MonotonicNs() + 5'000'000'000);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].elapsed_s, 7u);
  EXPECT_TRUE(seen[0].nodes.empty());
  observer.Stop({.run_id = "r"});
  EXPECT_TRUE(Collect<NodesObserved>(inbox, 1, os::MonotonicNs() + 1'300'000'000).empty());
}

TEST(Observer, AsksNodesAheadOfTheLoadWhenToldInTime) {
  const TestServer node("127.0.0.1:26113", TestServer::Answer("loadstar_target_accepted_total 7\n"));
  Inbox inbox(100);
  Observer observer(
      [&](const std::string&) {
        return std::vector<NodeApi>{{"node1", node.address()}};
      },
      os::Proc(), [&](Input input) { inbox.Push(std::move(input)); });
  const int64_t start = os::MonotonicNs() + 400'000'000;
  observer.Start({.run_id = "r", .deployment = "stack", .start_monotonic_ns = start});
  const std::vector<NodesObserved> seen = Collect<NodesObserved>(inbox, 2, start + 5'000'000'000);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_TRUE(seen[0].before);
  ASSERT_EQ(seen[0].nodes.size(), 1u);
  EXPECT_EQ(seen[0].nodes[0].accepted_total(), 7u);
  EXPECT_FALSE(seen[1].before);
  EXPECT_EQ(seen[1].elapsed_s, 0u);
}

TEST(Observer, ReadsTheHostAheadOfARunAndEachSecondOfItWithOrWithoutNodes) {
  Inbox inbox(100);
  Observer observer([](const std::string&) { return std::vector<NodeApi>(); }, os::Proc(),
                    [&](Input input) { inbox.Push(std::move(input)); });
  const int64_t start = os::MonotonicNs() + 400'000'000;
  observer.Start({.run_id = "r", .deployment = "", .start_monotonic_ns = start});
  std::vector<HostObserved> seen = Collect<HostObserved>(inbox, 3, start + 5'000'000'000);
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_TRUE(seen[0].before);
  EXPECT_GT(seen[0].host.memory_unused_bytes(), 0u);
  seen.erase(seen.begin());
  for (uint32_t second = 0; second < 2; ++second) {
    EXPECT_FALSE(seen[second].before);
    EXPECT_EQ(seen[second].run_id, "r");
    EXPECT_EQ(seen[second].elapsed_s, second);
    EXPECT_EQ(seen[second].host.seconds(), 1u);
    EXPECT_GT(seen[second].host.cpu_ns(), 0u);
    EXPECT_TRUE(seen[second].host.has_segments_sent());
  }
  observer.Stop({.run_id = "r"});
  EXPECT_TRUE(Collect<HostObserved>(inbox, 1, os::MonotonicNs() + 1'300'000'000).empty());
}

}  // namespace
}  // namespace loadstar::agent
