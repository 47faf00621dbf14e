// What a gRPC client fills in is held to the rules of the YAML.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/spec/spec.h"
#include "tests/spec/documents.h"

namespace loadstar::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::TestSpec MinimalTest() {
  v1::TestSpec test;
  test.set_name("minimal");
  test.mutable_target()->add_endpoints("127.0.0.1:9100");
  test.mutable_target()->set_protocol(v1::PROTOCOL_MCP_TCP);
  v1::Stage* ramp = test.mutable_load()->add_connections();
  ramp->mutable_duration()->set_seconds(1);
  ramp->set_to_connections(10);
  return test;
}

TEST(Complete, FillsInDefaults) {
  v1::TestSpec test = MinimalTest();
  v1::Stage* hold = test.mutable_load()->add_connections();
  hold->mutable_duration()->set_seconds(1);
  hold->set_hold(true);
  v1::ThresholdSpec* threshold = test.add_thresholds();
  threshold->set_metric("connections.peak");
  threshold->set_comparison(v1::COMPARISON_GE);
  threshold->set_value(10);
  EXPECT_EQ(ToString(Complete(&test)), "");
  EXPECT_EQ(test.target().mcp().method(), "ping");
  EXPECT_EQ(test.load().connections(1).to_connections(), 10u);
  EXPECT_EQ(test.load().connect_timeout().seconds(), 10);
  EXPECT_EQ(test.thresholds(0).text(), "connections.peak >= 10");
}

TEST(Complete, IsIdempotent) {
  v1::TestSpec test = MinimalTest();
  test.mutable_load()->add_source_addresses("127.0.0.2-127.0.0.4");
  test.mutable_load()->mutable_reconnect()->set_enabled(true);
  test.mutable_load()->mutable_heartbeat()->mutable_every()->set_seconds(5);
  test.mutable_load()->mutable_keepalive()->mutable_idle()->set_seconds(5);
  ASSERT_EQ(ToString(Complete(&test)), "");
  EXPECT_THAT(test.load().source_addresses(), ElementsAre("127.0.0.2", "127.0.0.3", "127.0.0.4"));
  v1::TestSpec again = test;
  ASSERT_EQ(ToString(Complete(&again)), "");
  EXPECT_EQ(again.SerializeAsString(), test.SerializeAsString());
}

TEST(Complete, BlockOfSourceAddressesIsTheHostsInIt) {
  v1::TestSpec test = MinimalTest();
  for (const char* block : {"127.1.0.0/30", "127.2.0.4/31", "127.3.0.9/32"}) {
    test.mutable_load()->add_source_addresses(block);
  }
  ASSERT_EQ(ToString(Complete(&test)), "");
  EXPECT_THAT(test.load().source_addresses(),
              ElementsAre("127.1.0.1", "127.1.0.2", "127.2.0.4", "127.2.0.5", "127.3.0.9"));
  test.mutable_load()->clear_source_addresses();
  test.mutable_load()->add_source_addresses("127.1.0.0/20");
  ASSERT_EQ(ToString(Complete(&test)), "");
  EXPECT_EQ(test.load().source_addresses_size(), 4'094);
}

TEST(Complete, WhatTheYamlGaveIsCompleteAlready) {
  Parsed parsed = ParseText(kTest);
  v1::TestSpec again = parsed.test;
  ASSERT_EQ(ToString(Complete(&again)), "");
  EXPECT_EQ(again.SerializeAsString(), parsed.test.SerializeAsString());
  parsed = ParseText(kStack);
  v1::StackSpec stack = parsed.stack;
  ASSERT_EQ(ToString(Complete(&stack)), "");
  EXPECT_EQ(stack.SerializeAsString(), parsed.stack.SerializeAsString());
}

TEST(Complete, ReportsEverythingAnEmptyMessageLacks) {
  v1::TestSpec test;
  EXPECT_EQ(
      ToString(Complete(&test)),
      "1. name: there is no name. Give one, such as my-test\n"
      "2. target: the target has neither a stack nor endpoints. Write stack: NAME or endpoints: [127.0.0.1:9100]\n"
      "3. load.connections: the load profile is empty. Write stages, such as [{ramp: 1m, to: 1k}, {hold: 1m}]");
  v1::StackSpec stack;
  EXPECT_EQ(Complete(&stack).size(), 3u);
}

struct BadMessage {
  const char* expected;
  void (*spoil)(v1::TestSpec*);
};

TEST(Complete, RefusesWhatYamlCannotEvenSay) {
  const BadMessage cases[] = {
      {"load.connections[0].ramp: the duration is negative",
       [](v1::TestSpec* t) { t->mutable_load()->mutable_connections(0)->mutable_duration()->set_seconds(-1); }},
      {"load.connections[0].ramp: the duration is malformed",
       [](v1::TestSpec* t) { t->mutable_load()->mutable_connections(0)->mutable_duration()->set_nanos(-5); }},
      {"load.connectTimeout: the duration is malformed",
       [](v1::TestSpec* t) { t->mutable_load()->mutable_connect_timeout()->set_nanos(2'000'000'000); }},
      {"is too long",
       [](v1::TestSpec* t) {
         t->mutable_load()->mutable_connections(0)->mutable_duration()->set_seconds(
             std::numeric_limits<int64_t>::max());
       }},
      {"connections are absurd",
       [](v1::TestSpec* t) {
         t->mutable_load()->mutable_connections(0)->set_to_connections(std::numeric_limits<uint64_t>::max());
       }},
      {"load.requests.rate: the rate is no number above zero",
       [](v1::TestSpec* t) {
         auto* requests = t->mutable_load()->mutable_requests();
         requests->set_model(v1::REQUEST_MODEL_OPEN);
         requests->set_rate_scope(v1::RATE_SCOPE_TOTAL);
         requests->set_rate_per_s(std::nan(""));
       }},
      {"load.requests.model: the requests need a model",
       [](v1::TestSpec* t) { t->mutable_load()->mutable_requests()->set_model(static_cast<v1::RequestModel>(99)); }},
      {"target.protocol: there is no known protocol",
       [](v1::TestSpec* t) { t->mutable_target()->set_protocol(static_cast<v1::Protocol>(99)); }},
      {"target.mcp.arguments: the arguments are no JSON object",
       [](v1::TestSpec* t) {
         t->mutable_target()->mutable_mcp()->set_tool("echo");
         t->mutable_target()->mutable_mcp()->set_arguments_json("[1]");
       }},
      {"thresholds[0]: there is no comparison",
       [](v1::TestSpec* t) { t->add_thresholds()->set_metric("connections.peak"); }},
      {"thresholds[0]: the bound nan is no number from 0 on",
       [](v1::TestSpec* t) {
         auto* threshold = t->add_thresholds();
         threshold->set_metric("connections.peak");
         threshold->set_comparison(v1::COMPARISON_GE);
         threshold->set_value(std::nan(""));
       }},
      {"target.endpoints[0]: \"127.0.0.1\\000\" is neither an address nor a host name",
       [](v1::TestSpec* t) { t->mutable_target()->set_endpoints(0, std::string("127.0.0.1\0:9100", 15)); }},
      {"load.heartbeat.every: the duration is negative",
       [](v1::TestSpec* t) { t->mutable_load()->mutable_heartbeat()->mutable_every()->set_seconds(-1); }},
      {"load.keepalive.idle: keepalive needs to be told",
       [](v1::TestSpec* t) { t->mutable_load()->mutable_keepalive(); }},
      {"a hold keeps the connections",
       [](v1::TestSpec* t) {
         auto* hold = t->mutable_load()->add_connections();
         hold->mutable_duration()->set_seconds(1);
         hold->set_hold(true);
         hold->set_to_connections(5);
       }},
  };
  for (const BadMessage& bad : cases) {
    v1::TestSpec test = MinimalTest();
    bad.spoil(&test);
    const Problems problems = Complete(&test);
    ASSERT_EQ(problems.size(), 1u) << bad.expected << "\n" << ToString(problems);
    EXPECT_THAT(ToString(problems), HasSubstr(bad.expected));
  }
}

TEST(Complete, RefusesBadNodes) {
  v1::StackSpec stack;
  stack.set_name("bad");
  stack.set_runtime(v1::RUNTIME_PROCESS);
  v1::NodeSpec* node = stack.add_nodes();
  node->set_name("node1");
  node->set_listen_address("127.0.0.1:9100");
  node->add_command(std::string("./a\0b", 5));
  node->add_environment("no equals sign");
  node->set_restart(static_cast<v1::RestartPolicy>(99));
  node->set_role("two\nlines");
  EXPECT_EQ(Complete(&stack).size(), 4u) << ToString(Complete(&stack));
}

}  // namespace
}  // namespace loadstar::spec
