#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/spec/spec.h"
#include "lib/spec/units.h"
#include "tests/spec/documents.h"

namespace loadstar::spec {
namespace {

using ::testing::ElementsAre;

TEST(ParseOverride, SplitsAtTheFirstEquals) {
  const auto override = ParseOverride("load.connections[0].to=1k");
  ASSERT_TRUE(override.ok()) << override.status();
  EXPECT_EQ(override->path, "load.connections[0].to");
  EXPECT_EQ(override->value, "1k");
  EXPECT_EQ(ParseOverride("thresholds[0]=latency.p99 <= 5ms")->value, "latency.p99 <= 5ms");
  EXPECT_EQ(ParseOverride("target.stack=")->value, "");
}

TEST(ParseOverride, RefusesWhatIsNoPath) {
  for (const char* text : {"", "=1", "load", ".load=1", "load.=1", "load..to=1", "load[=1", "load[x]=1", "load[-1]=1",
                           "[0]=1", "a b=1", "load[99999999999999999999]=1"}) {
    EXPECT_FALSE(ParseOverride(text).ok()) << text;
  }
  EXPECT_FALSE(ParseOverride(std::string(10'000, 'a') + "=1").ok());
}

TEST(Override, ChangesWhatIsThere) {
  const Parsed parsed = ParseText(kTest, {{"load.connections[0].to", "1k"},
                                          {"load.connections[1].hold", "10s"},
                                          {"target.endpoints", "[127.0.0.1:1, 127.0.0.1:2]"},
                                          {"thresholds[0]", "latency.p50 < 1ms"}});
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.test.load().connections(0).to_connections(), 1'000u);
  EXPECT_EQ(FromProto(parsed.test.load().connections(1).duration()), absl::Seconds(10));
  EXPECT_THAT(parsed.test.target().endpoints(), ElementsAre("127.0.0.1:1", "127.0.0.1:2"));
  EXPECT_EQ(parsed.test.thresholds(0).metric(), "latency.p50");
}

TEST(Override, MakesMappingsThatAreMissing) {
  const Parsed parsed =
      ParseText(kTest, {{"target.tcp.payload", "4KiB"}, {"load.reconnect.max", "1s"}, {"load.heartbeat.every", "10s"}});
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.test.target().tcp().payload_bytes(), 4096u);
  EXPECT_TRUE(parsed.test.load().reconnect().enabled());
  EXPECT_EQ(FromProto(parsed.test.load().heartbeat().every()), absl::Seconds(10));
}

TEST(Override, AppendsToAList) {
  const Parsed parsed = ParseText(kTest, {{"load.connections[2]", "{ramp: 1m, to: 0}"},
                                          {"load.connections[3].hold", "1s"},
                                          {"thresholds[1]", "errors.ratio < 1%"}});
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.test.load().connections_size(), 4);
  EXPECT_EQ(parsed.test.thresholds_size(), 2);
}

TEST(Override, EmptyValueTakesTheKeyOut) {
  const Parsed parsed =
      ParseText(kTest, {{"target.endpoints", ""}, {"target.stack", "four-nodes"}, {"thresholds", "~"}});
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.test.target().stack(), "four-nodes");
  EXPECT_EQ(parsed.test.target().endpoints_size(), 0);
  EXPECT_EQ(parsed.test.thresholds_size(), 0);
}

TEST(Override, LaterOnesComeOnTopOfEarlierOnes) {
  const Parsed parsed = ParseText(kTest, {{"name", "one"}, {"name", "two"}});
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.test.name(), "two");
}

struct BadOverride {
  Override override;
  std::string expected;
};

TEST(Override, ProblemsNameTheOption) {
  const BadOverride cases[] = {
      {{"load.conections", "[]"},
       "--set load.conections: load.conections: unknown key \"conections\". Did you mean \"connections\" (the "
       "connections held open over time)?"},
      {{"lod.connections[0].to", "5"},
       "--set lod.connections[0].to: lod: unknown key \"lod\". Did you mean \"load\" (the load)?"},
      {{"lod.connections[1].to", "5"},
       "--set lod.connections[1].to: lod.connections[1].to: lod.connections has 0 items; there is no [1]. Items are "
       "counted from 0, and [0] appends one"},
      {{"load.requests.pipeline", "many"},
       "--set load.requests.pipeline: load.requests.pipeline: \"many\" does not start with a digit. Write a whole "
       "number, "
       "with k, M or G for thousands, such as 10000 or 100k (left out, it is 1)"},
      {{"load.connections[7].to", "5"},
       "--set load.connections[7].to: load.connections[7].to: load.connections has 2 items; there is no [7]. Items are "
       "counted from 0, and [2] appends one"},
      {{"load.connections.to", "5"},
       "--set load.connections.to: load.connections.to: load.connections is a list, not a mapping"},
      {{"name.first", "5"}, "--set name.first: name.first: name is a value, not a mapping"},
      {{"target.protocol", "tpc"},
       "--set target.protocol: target.protocol: unknown protocol \"tpc\"; known: tcp, mcp-tcp, http, mcp-http. Did you "
       "mean \"tcp\"?"},
      {{"load.seed", ""}, "--set load.seed: load.seed: there is nothing there to take out"},
      {{"load.agents", "[a"},
       "--set load.agents: load.agents: a key is no plain text, or a bracket is not closed. Write keys as text, and "
       "check "
       "the brackets here"},
      {{"load.agents", "a: b: c"},
       "--set load.agents: load.agents: this is not YAML: illegal map value. Check the indentation, quotes and "
       "brackets "
       "here"},
      {{"load.agents", "&a [x]"},
       "--set load.agents: load.agents: anchors (&name) are not allowed. Write the value out "
       "where it is needed"},
      {{"no path", "5"}, "--set no path: this is no path. Write PATH=VALUE, such as load.connections[0].to=1k"},
      {{"name", std::string("\0\1\2", 3)},
       "--set name: name: this is no text but binary data. Give a YAML document in UTF-8"},
  };
  for (const BadOverride& bad : cases) {
    const Parsed parsed = ParseText(kTest, {bad.override});
    ASSERT_EQ(parsed.problems.size(), 1u) << bad.override.path << "\n" << ToString(parsed.problems);
    EXPECT_EQ(ToString(parsed.problems[0]), bad.expected);
  }
}

TEST(Override, ThatDeletesMoreThanTheTestCanSpareIsReportedInTheDocument) {
  const Parsed parsed = ParseText(kTest, {{"load.connections", ""}});
  ASSERT_EQ(parsed.problems.size(), 1u);
  EXPECT_THAT(ToString(parsed.problems[0]),
              ::testing::StartsWith("test.yaml:7:1: load.connections: the load profile is empty"));
}

TEST(Override, TooManyAreRefused) {
  const Parsed parsed = ParseText(kTest, std::vector<Override>(1'001, {"name", "x"}));
  ASSERT_FALSE(parsed.problems.empty());
  EXPECT_THAT(parsed.problems[0].message(), ::testing::HasSubstr("more than 1k overrides"));
}

}  // namespace
}  // namespace loadstar::spec
