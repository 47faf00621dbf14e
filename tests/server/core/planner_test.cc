#include "server/core/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "absl/strings/match.h"
#include "lib/plan/capacity.h"

namespace loadstar::server {
namespace {

v1::TestSpec TestOf(uint64_t peak, uint32_t workers = 0) {
  v1::TestSpec test;
  v1::Stage* stage = test.mutable_load()->add_connections();
  stage->mutable_duration()->set_seconds(60);
  stage->set_to_connections(peak);
  test.mutable_load()->set_workers(workers);
  return test;
}

Candidate Agent(const std::string& name, uint64_t connections, uint64_t per_worker = 14'000, uint32_t cores = 2) {
  Candidate candidate;
  candidate.name = name;
  candidate.cores = cores;
  candidate.capacity.set_connections(connections);
  candidate.capacity.set_per_worker(per_worker);
  candidate.capacity.set_per_address_pair(14'116);
  candidate.capacity.set_binding_limit("memory");
  return candidate;
}

const std::vector<std::string> kFourEndpoints = {"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"};

TEST(Planner, SmallTestTakesOneWorker) {
  const Plan plan = MakePlan(TestOf(50), kFourEndpoints, {Agent("a", 100'000)});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan.workers_total, 1u);
}

TEST(Planner, DescriptorsOfOneProcessDecideTheNumberOfWorkers) {
  v1::TestSpec test = TestOf(100'000);
  for (const char* source : {"127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"}) {
    test.mutable_load()->add_source_addresses(source);
  }
  const Plan plan = MakePlan(test, kFourEndpoints, {Agent("a", 200'000)});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan.workers_total, 8u);  // ceil(100,000 / 14,000)
}

TEST(Planner, WorkersAreInProportionToCapacity) {
  const Plan plan = MakePlan(TestOf(30'000, 12), kFourEndpoints, {Agent("a", 60'000), Agent("b", 30'000)});
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan.assignment.size(), 2u);
  EXPECT_EQ(plan.assignment[0].worker_count + plan.assignment[1].worker_count, 12u);
  EXPECT_GT(plan.assignment[0].worker_count, plan.assignment[1].worker_count);
  EXPECT_EQ(plan.assignment[1].first_worker, plan.assignment[0].worker_count);
}

TEST(Planner, RefusalNamesTheLimitItsFigureAndTheScale) {
  const Plan plan = MakePlan(TestOf(40'000), kFourEndpoints, {Agent("a", 28'000)});
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.misfit.limit, "memory");
  EXPECT_TRUE(absl::StrContains(plan.misfit.message, "28000")) << plan.misfit.message;
  EXPECT_TRUE(absl::StrContains(plan.misfit.message, "40000")) << plan.misfit.message;
  EXPECT_TRUE(absl::StrContains(plan.misfit.remedy, "--scale 0.7")) << plan.misfit.remedy;
}

TEST(Planner, PortsAreALimitOfTheirOwnWithTheirOwnRemedy) {
  const Plan plan = MakePlan(TestOf(100'000), kFourEndpoints, {Agent("a", 200'000)});
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.misfit.limit, "ports");
  EXPECT_TRUE(absl::StrContains(plan.misfit.message, "56464")) << plan.misfit.message;  // 4 x 14,116
  EXPECT_TRUE(absl::StrContains(plan.misfit.remedy, "sourceAddresses")) << plan.misfit.remedy;
}

TEST(Planner, RefusalNamesTheHostItsLimitAndWhatRaisesItThere) {
  Candidate agent = Agent("a", 28'000);
  agent.host = "box1";
  v1::CapacityLimit* limit = agent.capacity.add_limits();
  limit->set_name("memory");
  limit->set_remedy("free memory, now 300 MiB available");
  const Plan plan = MakePlan(TestOf(40'000), kFourEndpoints, {agent, Agent("b", 1'000)});
  ASSERT_FALSE(plan.ok());
  EXPECT_TRUE(absl::StrContains(plan.misfit.message, "agent a on host box1 can hold 28000 (limit: memory)"))
      << plan.misfit.message;
  EXPECT_TRUE(absl::StrContains(plan.misfit.message, "agent b can hold 1000 (limit: memory)")) << plan.misfit.message;
  EXPECT_TRUE(absl::StrContains(plan.misfit.remedy, "add agents on other hosts, or on box1 free memory, now 300 MiB"))
      << plan.misfit.remedy;
}

TEST(Planner, RefusalForPortsSaysWhenOnlyTheSlowHalfWouldDo) {
  Candidate agent = Agent("a", 200'000);
  agent.host = "box1";
  agent.capacity.set_per_address_pair_max(28'232);
  const Plan slow = MakePlan(TestOf(100'000), kFourEndpoints, {agent});
  ASSERT_FALSE(slow.ok());
  EXPECT_TRUE(absl::StrContains(
      slow.misfit.message, "agent a on host box1 56464 (4 pairs of source address and endpoint, 14116 ports each)"))
      << slow.misfit.message;
  EXPECT_TRUE(absl::StrContains(slow.misfit.message, "a few hundred a second")) << slow.misfit.message;
  const Plan none = MakePlan(TestOf(150'000), kFourEndpoints, {agent});
  ASSERT_FALSE(none.ok());
  EXPECT_FALSE(absl::StrContains(none.misfit.message, "a few hundred a second")) << none.misfit.message;
}

TEST(Planner, WhatOtherRunsHoldIsTakenOff) {
  Candidate agent = Agent("a", 50'000);
  agent.held = 30'000;
  const Plan plan = MakePlan(TestOf(40'000), kFourEndpoints, {agent});
  ASSERT_FALSE(plan.ok());
  EXPECT_TRUE(absl::StrContains(plan.misfit.message, "other runs hold up to 30000")) << plan.misfit.message;
  EXPECT_TRUE(absl::StrContains(plan.misfit.remedy, "--scale 0.5")) << plan.misfit.remedy;
  EXPECT_TRUE(MakePlan(TestOf(20'000), kFourEndpoints, {agent}).ok());
}

// A host whose socket memory would do for 50,000 connections with bytes under way, and its memory for 200,000.
Candidate AgentWithLittleSocketMemory() {
  Candidate agent = Agent("a", 50'000);
  agent.capacity.set_binding_limit("tcp memory");
  for (const auto& [name, connections] : {std::pair("tcp memory", 50'000), std::pair("memory", 200'000)}) {
    v1::CapacityLimit* limit = agent.capacity.add_limits();
    limit->set_name(name);
    limit->set_connections(static_cast<uint64_t>(connections));
  }
  agent.capacity.set_per_address_pair(1'000'000);
  return agent;
}

TEST(Planner, SocketMemoryBindsOnlyWhereSoManyRequestsCanBeInFlight) {
  const std::vector<Candidate> agents = {AgentWithLittleSocketMemory()};
  v1::TestSpec test = TestOf(100'000);
  test.mutable_load()->clear_requests();
  EXPECT_TRUE(MakePlan(test, kFourEndpoints, agents).ok());
  v1::RequestsSpec* requests = test.mutable_load()->mutable_requests();
  requests->set_model(v1::REQUEST_MODEL_OPEN);
  requests->set_rate_scope(v1::RATE_SCOPE_TOTAL);
  requests->set_rate_per_s(5'000);
  requests->mutable_timeout()->set_seconds(10);
  EXPECT_TRUE(MakePlan(test, kFourEndpoints, agents).ok());
  requests->set_rate_per_s(5'001);
  EXPECT_EQ(MakePlan(test, kFourEndpoints, agents).misfit.limit, "tcp memory");
  requests->set_rate_scope(v1::RATE_SCOPE_PER_CONNECTION);
  requests->set_rate_per_s(0.05);
  EXPECT_TRUE(MakePlan(test, kFourEndpoints, agents).ok());
  requests->set_model(v1::REQUEST_MODEL_CLOSED);
  EXPECT_EQ(MakePlan(test, kFourEndpoints, agents).misfit.limit, "tcp memory");
  // Where it is none, the next limit is the one that binds.
  test = TestOf(300'000);
  test.mutable_load()->clear_requests();
  EXPECT_EQ(MakePlan(test, kFourEndpoints, agents).misfit.limit, "memory");
}

TEST(Planner, WhatIsInFlightCountsHeartbeatsBurstsAndChance) {
  v1::TestSpec test = TestOf(1'000);
  EXPECT_EQ(MostInFlight(test, 1, 1), 0u);
  v1::HeartbeatSpec* heartbeat = test.mutable_load()->mutable_heartbeat();
  heartbeat->mutable_every()->set_seconds(30);
  heartbeat->mutable_timeout()->set_seconds(10);
  EXPECT_EQ(MostInFlight(test, 1, 1), 334u) << "a third of them within the timeout";
  heartbeat->mutable_every()->set_seconds(5);
  EXPECT_EQ(MostInFlight(test, 1, 1), 1'000u) << "one on each, never two";
  v1::RequestsSpec* requests = test.mutable_load()->mutable_requests();
  requests->set_model(v1::REQUEST_MODEL_CLOSED);
  requests->set_pipeline(4);
  EXPECT_EQ(MostInFlight(test, 1, 1), 5'000u) << "heartbeats come on top of the pipeline";
  test.mutable_load()->clear_heartbeat();
  requests->set_model(v1::REQUEST_MODEL_OPEN);
  requests->set_rate_scope(v1::RATE_SCOPE_TOTAL);
  requests->set_rate_per_s(40);
  requests->mutable_timeout()->set_seconds(10);
  EXPECT_EQ(MostInFlight(test, 1, 1), 400u);
  EXPECT_EQ(MostInFlight(test, 1, 4), 100u) << "its part of the rate";
  requests->set_arrival(v1::ARRIVAL_POISSON);
  EXPECT_EQ(MostInFlight(test, 1, 1), 500u) << "400 and five times 20";
  requests->set_arrival(v1::ARRIVAL_BURST);
  requests->set_burst_requests(1'500);
  EXPECT_EQ(MostInFlight(test, 1, 1), 1'500u) << "a burst comes at once";
  requests->set_burst_requests(1'000'000);
  EXPECT_EQ(MostInFlight(test, 1, 1), 4'000u) << "what the pipelines allow";
}

TEST(Planner, SocketMemoryThatOtherRunsUseIsTakenOffByWhatTheyHaveInFlight) {
  Candidate agent = AgentWithLittleSocketMemory();
  agent.held = 60'000;
  v1::TestSpec test = TestOf(40'000);
  test.mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  EXPECT_TRUE(MakePlan(test, kFourEndpoints, {agent}).ok()) << "the others only hold theirs";
  agent.held_in_flight = 10'001;
  const Plan plan = MakePlan(test, kFourEndpoints, {agent});
  EXPECT_EQ(plan.misfit.limit, "tcp memory");
  EXPECT_TRUE(absl::StrContains(plan.misfit.message, "can hold 39999")) << plan.misfit.message;
  test.mutable_load()->clear_requests();
  EXPECT_TRUE(MakePlan(test, kFourEndpoints, {agent}).ok()) << "it has none itself";
}

TEST(Planner, MemoryIsPredictedForBothEndsWhereTheTargetIsOnTheHost) {
  Candidate near = Agent("near", 100'000);
  near.capacity.set_kernel_bytes_per_end(4'000);
  near.endpoints_here = 4;
  near.node_processes_here = 8;
  Candidate far = Agent("far", 100'000);
  far.capacity.set_kernel_bytes_per_end(5'000);
  const Plan plan = MakePlan(TestOf(40'000, 4), kFourEndpoints, {far, near, Agent("silent", 1)});
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan.assignment.size(), 2u);
  const v1::MemoryNeed& of_far = plan.assignment[0].memory.value();
  EXPECT_EQ(of_far.connections(), 20'000u);
  EXPECT_EQ(of_far.kernel_bytes(), 20'000u * 5'000);
  EXPECT_EQ(of_far.user_bytes(), 2 * plan::kProcessMemory + 20'000 * plan::kUserMemoryPerEnd);
  const v1::MemoryNeed& of_near = plan.assignment[1].memory.value();
  EXPECT_EQ(of_near.kernel_bytes(), 2u * 20'000 * 4'000);
  EXPECT_EQ(of_near.user_bytes(), (2 + 8) * plan::kProcessMemory + 2 * 20'000 * plan::kUserMemoryPerEnd);
  const Plan unknown = MakePlan(TestOf(10), kFourEndpoints, {Agent("silent", 100)});
  EXPECT_FALSE(unknown.assignment[0].memory.has_value());
}

TEST(Planner, FewerWorkersThanDescriptorsAllowAreRefused) {
  const Plan plan = MakePlan(TestOf(40'000, 1), kFourEndpoints, {Agent("a", 200'000)});
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.misfit.limit, "workers");
}

// Property, over random fleets and tests: what is planned fits every limit, and the scale of a refusal fits.
TEST(Planner, WhateverIsPlannedFitsAndWhateverIsRefusedFitsAtItsScale) {
  std::mt19937_64 random(20261124);
  for (int round = 0; round < 500; ++round) {
    std::vector<Candidate> candidates;
    for (uint64_t i = 0; i < 1 + random() % 4; ++i) {
      candidates.push_back(Agent("agent" + std::to_string(i), random() % 60'000, 1 + random() % 15'000,
                                 1 + static_cast<uint32_t>(random() % 16)));
      candidates.back().held = random() % 5'000;
    }
    const uint64_t peak = 1 + random() % 150'000;
    const auto workers = static_cast<uint32_t>(random() % 3 == 0 ? 1 + random() % 40 : 0);
    const v1::TestSpec test = TestOf(peak, workers);
    Plan plan = MakePlan(test, kFourEndpoints, candidates);
    uint64_t planned = peak;
    if (!plan.ok()) {
      if (plan.misfit.scale == 0) continue;
      planned = static_cast<uint64_t>(static_cast<double>(peak) * plan.misfit.scale);
      if (planned == 0) continue;
      plan = MakePlan(TestOf(planned, workers), kFourEndpoints, candidates);
      ASSERT_TRUE(plan.ok()) << "round " << round << ": scale " << plan.misfit.scale << " of " << peak;
    }
    uint32_t next = 0;
    for (const Assigned& assigned : plan.assignment) {
      EXPECT_EQ(assigned.first_worker, next);
      next += assigned.worker_count;
      const auto candidate = std::find_if(candidates.begin(), candidates.end(),
                                          [&](const Candidate& c) { return c.name == assigned.agent; });
      const uint64_t each = (planned + plan.workers_total - 1) / plan.workers_total;
      EXPECT_LE(each, candidate->capacity.per_worker());
      EXPECT_LE(each * assigned.worker_count + candidate->held, candidate->capacity.connections());
      EXPECT_LE(each * assigned.worker_count, 4 * candidate->capacity.per_address_pair());
    }
    EXPECT_EQ(next, plan.workers_total);
  }
}

}  // namespace
}  // namespace loadstar::server
