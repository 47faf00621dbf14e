// Bad input without a coordinator: one clear error on stderr, nothing on stdout, exit 2; and 4 when only the
// coordinator is missing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/client/documents.h"
#include "tests/client/program_process.h"

namespace loadstar::client {
namespace {

using ::testing::HasSubstr;

// Nothing listens there: fakes keep below 27900.
constexpr char kNobody[] = "127.0.0.1:27999";

struct BadInput {
  std::string name;
  std::vector<std::string> arguments;
  int code;
  std::string error;
  std::vector<std::string> environment = {};
};

// Names the case in ctest's list.
void PrintTo(const BadInput& input, std::ostream* out) { *out << input.name; }

class BadInputTest : public ::testing::TestWithParam<BadInput> {};

TEST_P(BadInputTest, IsOneClearErrorAndNothingElse) {
  const BadInput& input = GetParam();
  const TemporaryFolder folder;
  folder.Write("good.yaml", kTestYaml);
  folder.Write("stack.yaml", kStackYaml);
  folder.Write("bad.yaml", "apiVersion: loadstar/v1\nkind: Test\nname: x\nlod: {}\n");
  folder.Write("deploy/scenarios/smoke.yaml", kTestYaml);
  std::vector<std::string> environment = input.environment;
  if (environment.empty()) {
    environment.push_back(std::string("LOADSTAR_COORDINATOR=") + kNobody);
  }
  const Ended ended = RunProgram(input.arguments, environment, folder.path());
  EXPECT_EQ(ended.code, input.code) << ended.err;
  EXPECT_EQ(ended.out, "");
  EXPECT_THAT(ended.err, HasSubstr(input.error));
  EXPECT_EQ(ended.err.rfind("loadstar: ", 0), 0u) << ended.err;
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadInputTest,
    ::testing::Values(
        BadInput{"NoVerb", {}, 2, "a verb is missing; there are agents, validate"},
        BadInput{"UnknownVerb", {"agent"}, 2, "unknown verb \"agent\"; did you mean \"agents\"?"},
        BadInput{"VerbOfALaterIssue", {"logs", "x"}, 2, "unknown verb \"logs\""},
        BadInput{"VerbAfterOptions", {"--coordinator", "127.0.0.1:1", "rnus"}, 2, "did you mean \"runs\"?"},
        BadInput{
            "UnknownOption", {"run", "smoke", "--scael", "0.5"}, 2, "unknown option --scael; did you mean --scale?"},
        BadInput{"UnknownOptionOfAll", {"agents", "--jsn"}, 2, "did you mean --json?"},
        BadInput{"MissingArgument", {"run"}, 2, "TEST is required"},
        BadInput{"TooManyArguments", {"show", "a", "b"}, 2, "loadstar show --help"},
        BadInput{"UnknownShell", {"completion", "fish"}, 2, "\"fish\" is not one of bash, zsh"},
        BadInput{"UnknownName", {"run", "smok"}, 2, "did you mean \"smoke\"?"},
        BadInput{"MissingFile", {"run", "./none.yaml"}, 2, "./none.yaml"},
        BadInput{"DirectoryForAFile", {"run", "deploy"}, 2, "directory"},
        BadInput{"InvalidDocument", {"run", "bad.yaml"}, 2, "bad.yaml:4:1"},
        BadInput{"InvalidDocumentSuggests", {"validate", "bad.yaml"}, 2, "\"load\""},
        BadInput{"StackForATest", {"run", "./stack.yaml"}, 2, "is a Stack; a Test is needed"},
        BadInput{"TestForAStack", {"deploy", "./good.yaml"}, 2, "is a Test; a Stack is needed"},
        BadInput{"SetWithoutValue", {"run", "smoke", "--set", "load"}, 2, "--set load"},
        BadInput{"SetOfUnknownPath", {"run", "smoke", "--set", "lod.workers=1"}, 2, "lod"},
        BadInput{"SetOfWrongType", {"run", "smoke", "--set", "load.connections[0].to=many"}, 2, "many"},
        BadInput{"ScaleOfZero", {"run", "smoke", "--scale", "0"}, 2, "--scale 0: expected a number above 0"},
        BadInput{"ScaleAboveOne", {"run", "smoke", "--scale", "1.5"}, 2, "up to 1"},
        BadInput{"ScaleNoNumber", {"run", "smoke", "--scale", "nan"}, 2, "--scale nan"},
        BadInput{"UpdateOfNothing", {"update", "r"}, 2, "nothing to change"},
        BadInput{"UpdateOfUnknown", {"update", "r", "--set", "colour=red"}, 2, "colour"},
        BadInput{"LimitOfZero", {"runs", "--limit", "0"}, 2, "--limit 0"},
        BadInput{"ExportOutside", {"export", "../x"}, 2, "no run id"},
        BadInput{"BeyondLoopback", {"agents", "--coordinator", "192.0.2.1:7400"}, 2, "--insecure"},
        BadInput{"NoAddress", {"agents", "--coordinator", "nowhere"}, 2, "--coordinator nowhere"},
        BadInput{"AddressOfEnvironment", {"agents"}, 2, "--insecure", {"LOADSTAR_COORDINATOR=192.0.2.1:7400"}},
        BadInput{"CoordinatorDown", {"agents"}, 4, "no coordinator in reach at 127.0.0.1:27999"},
        BadInput{"CoordinatorDownSaysHowToStart", {"runs"}, 4, "loadstar-coordinator --listen 127.0.0.1:27999"},
        BadInput{"CoordinatorDownForRun", {"run", "smoke"}, 4, "127.0.0.1:27999"},
        BadInput{"CoordinatorDownForWatch", {"watch", "r"}, 4, "127.0.0.1:27999"},
        BadInput{"CoordinatorDownForDeploy", {"deploy", "./stack.yaml"}, 4, "127.0.0.1:27999"},
        BadInput{"CoordinatorDownInJson", {"--json", "deployments"}, 4, "127.0.0.1:27999"},
        BadInput{
            "CoordinatorDownByDefault", {"agents"}, 4, "127.0.0.1:27998", {"LOADSTAR_COORDINATOR=127.0.0.1:27998"}}),
    [](const auto& input) { return input.param.name; });

TEST(Validate, SaysOkForEachAndNeedsNoCoordinator) {
  const TemporaryFolder folder;
  folder.Write("deploy/scenarios/smoke.yaml", kTestYaml);
  folder.Write("stack.yaml", kStackYaml);
  const Ended ended = RunProgram({"validate", "smoke", "stack.yaml"}, {}, folder.path());
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(ended.out, "deploy/scenarios/smoke.yaml: ok\nstack.yaml: ok\n");
  EXPECT_EQ(ended.err, "");
}

TEST(Validate, GoesOnAfterABadFileAndReportsAllProblems) {
  const TemporaryFolder folder;
  folder.Write("good.yaml", kTestYaml);
  folder.Write("bad.yaml", "apiVersion: loadstar/v1\nkind: Test\nname: BAD\nlod: {}\n");
  const Ended ended = RunProgram({"validate", "bad.yaml", "none.yaml", "good.yaml"}, {}, folder.path());
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.out, "good.yaml: ok\n");
  EXPECT_THAT(ended.err, HasSubstr("bad.yaml:3:"));
  EXPECT_THAT(ended.err, HasSubstr("bad.yaml:4:"));
  EXPECT_THAT(ended.err, HasSubstr("none.yaml"));
}

TEST(Validate, AppliesSetToEach) {
  const TemporaryFolder folder;
  folder.Write("good.yaml", kTestYaml);
  EXPECT_EQ(RunProgram({"validate", "good.yaml", "--set", "load.connections[0].to=5k"}, {}, folder.path()).code, 0);
  EXPECT_EQ(RunProgram({"validate", "good.yaml", "--set=load.connections[0].to=-1"}, {}, folder.path()).code, 2);
}

TEST(Validate, JsonHasOneObjectForEachFile) {
  const TemporaryFolder folder;
  folder.Write("good.yaml", kTestYaml);
  const Ended ended = RunProgram({"validate", "good.yaml", "none.yaml", "--json"}, {}, folder.path());
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.out.substr(0, ended.out.find('\n')), "{\"file_name\":\"good.yaml\",\"problems\":[]}");
  EXPECT_THAT(ended.out, HasSubstr("\n{\"file_name\":\"none.yaml\",\"problems\":[{"));
}

TEST(Help, IsForPeopleAndNamesEveryVerb) {
  const Ended ended = RunProgram({"--help"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.err, "");
  for (const char* verb : {"agents", "validate", "deploy", "deployments", "teardown", "tune", "run", "watch", "update",
                           "stop", "runs", "show", "export", "completion"}) {
    EXPECT_THAT(ended.out, HasSubstr(std::string("\n  ") + verb + " "));
  }
  EXPECT_THAT(RunProgram({"run", "--help"}).out, HasSubstr("--detach"));
}

}  // namespace
}  // namespace loadstar::client
