#include "target/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace loadstar::target {
namespace {

using ::testing::HasSubstr;

std::variant<Options, int> Parse(std::vector<std::string> words) {
  words.insert(words.begin(), "loadstar-target");
  std::vector<const char*> argv;
  argv.reserve(words.size());
  for (const std::string& word : words) {
    argv.push_back(word.c_str());
  }
  return ParseCommandLine(static_cast<int>(argv.size()), argv.data());
}

TEST(OptionsTest, TheCommandLineOfAServingProcessReadsBackAsTheSame) {
  std::variant<Options, int> parsed =
      Parse({"--listen", "127.0.0.1:9100", "--api", "[::1]:8080", "--processes", "3", "--name", "n 1", "--role", "",
             "--protocol", "mcp-tcp", "--tcp-payload", "64", "--http-body", "7"});
  ASSERT_TRUE(std::holds_alternative<Options>(parsed));
  Options options = std::get<Options>(parsed);
  ASSERT_TRUE(Check(&options).ok());
  EXPECT_FALSE(options.serving);
  parsed = Parse(ServingCommandLine(options, {.index = 2, .state_fd = 5, .control_fd = 6}));
  ASSERT_TRUE(std::holds_alternative<Options>(parsed));
  const Options again = std::get<Options>(parsed);
  ASSERT_TRUE(again.serving);
  EXPECT_EQ(again.serving->index, 2U);
  EXPECT_EQ(again.serving->state_fd, 5);
  EXPECT_EQ(again.serving->control_fd, 6);
  EXPECT_EQ(again.listen, options.listen);
  EXPECT_EQ(again.api, options.api);
  EXPECT_EQ(again.name, "n 1");
  EXPECT_EQ(again.protocol, Protocol::kMcpTcp);
  EXPECT_EQ(again.tcp_payload, 64U);
  EXPECT_EQ(again.http_body, 7U);
}

TEST(OptionsTest, BadWordsAreBadInput) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"--processes", "0"}, {"--processes", "257"}, {"--processes", "x"}, {"--protocol", "udp"}, {"--what"}}) {
    const std::variant<Options, int> parsed = Parse(words);
    ASSERT_TRUE(std::holds_alternative<int>(parsed)) << words[0];
    EXPECT_EQ(std::get<int>(parsed), kExitBadInput);
  }
}

TEST(OptionsTest, BeyondLoopbackNeedsInsecureAndAllErrorsComeAtOnce) {
  Options options;
  options.listen = "0.0.0.0:9100";
  options.api = "nonsense";
  const absl::Status refused = Check(&options);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--listen: 0.0.0.0:9100 is not a loopback address"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--insecure"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--api: \"nonsense\" has no port"));
  options.api = "127.0.0.1:8080";
  options.insecure = true;
  EXPECT_TRUE(Check(&options).ok());
}

}  // namespace
}  // namespace loadstar::target
