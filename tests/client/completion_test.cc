// The completion scripts, run by the shells they are for.
#include "client/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>

#include "client/program.h"
#include "tests/client/documents.h"
#include "tests/client/fake_coordinator.h"
#include "tests/client/program_process.h"
#include "tests/client/terminal/sample_run.h"

namespace loadstar::client {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class Completion : public ::testing::Test {
 protected:
  Completion() {
    folder_.Write("deploy/scenarios/my-smoke.yaml", kTestYaml);
    folder_.Write("deploy/scenarios/my-soak.yaml", kTestYaml);
    folder_.Write("deploy/stacks/my-nodes.yaml", kStackYaml);
    coordinator_.SetRun(terminal::SampleRun());
    v1::Deployment deployment;
    deployment.set_name("two-nodes");
    deployment.mutable_stack()->set_name("two-nodes");
    deployment.mutable_stack()->add_nodes()->set_name("node1");
    coordinator_.SetDeployment({}, deployment);
  }
  std::string Shell(const std::string& shell, const std::string& script) {
    ProgramProcess::Options options;
    options.program = shell;
    options.arguments = {"-c", script};
    options.environment = {"PATH=" LOADSTAR_BIN_DIR ":/usr/bin:/bin", "LOADSTAR_COORDINATOR=" + coordinator_.address()};
    options.folder = folder_.path();
    ProgramProcess process(options);
    EXPECT_EQ(process.Wait(), 0) << process.err();
    EXPECT_EQ(process.err(), "");
    return process.out();
  }
  // What bash offers for the last of `words`.
  std::vector<std::string> Bash(const std::vector<std::string>& words) {
    std::string array;
    for (const std::string& word : words) {
      array += " '" + word + "'";
    }
    std::vector<std::string> offered;
    std::istringstream lines(Shell("/bin/bash", "source <(loadstar completion bash); COMP_WORDS=(loadstar" + array +
                                                    "); COMP_CWORD=" + std::to_string(words.size()) +
                                                    "; _loadstar; printf '%s\\n' \"${COMPREPLY[@]}\""));
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) {
        offered.push_back(line);
      }
    }
    return offered;
  }
  FakeCoordinator coordinator_;
  const TemporaryFolder folder_;
};

TEST_F(Completion, BashOffersVerbs) {
  EXPECT_THAT(Bash({"ru"}), UnorderedElementsAre("run", "runs"));
  EXPECT_THAT(Bash({"--json", "te"}), UnorderedElementsAre("teardown"));
  EXPECT_THAT(Bash({"--coordinator", "127.0.0.1:1", "ag"}), UnorderedElementsAre("agents"));
}

TEST_F(Completion, BashOffersOptionsOfTheVerbAndOfAll) {
  EXPECT_THAT(Bash({"run", "--"}), AllOf(Contains("--detach"), Contains("--set"), Contains("--coordinator")));
  EXPECT_THAT(Bash({"show", "--"}), Not(Contains("--detach")));
}

TEST_F(Completion, BashOffersDocumentsOfTheKind) {
  EXPECT_THAT(Bash({"run", "my"}), UnorderedElementsAre("my-smoke", "my-soak"));
  EXPECT_THAT(Bash({"deploy", "my"}), UnorderedElementsAre("my-nodes"));
  EXPECT_THAT(Bash({"run", "--detach", "my-sm"}), UnorderedElementsAre("my-smoke"));
  EXPECT_THAT(Bash({"validate", "my-smoke", "my-n"}), UnorderedElementsAre("my-nodes"));
  EXPECT_THAT(Bash({"run", "dep"}), UnorderedElementsAre("deploy"));  // a file
}

TEST_F(Completion, BashOffersRunsAndDeploymentsOfTheCoordinator) {
  EXPECT_THAT(Bash({"watch", ""}), UnorderedElementsAre("smoke-20261124-204033", "older-20261124-100000"));
  EXPECT_THAT(Bash({"watch", "smoke-20261124-204033", ""}), IsEmpty());
  EXPECT_THAT(Bash({"teardown", ""}), UnorderedElementsAre("two-nodes"));
  coordinator_.Down();
  EXPECT_THAT(Bash({"watch", ""}), IsEmpty());
}

TEST_F(Completion, BashOffersAllowedWordsAndFolders) {
  EXPECT_THAT(Bash({"completion", ""}), UnorderedElementsAre("bash", "zsh"));
  EXPECT_THAT(Bash({"export", "x", "--output", "dep"}), UnorderedElementsAre("deploy"));
  EXPECT_THAT(Bash({"run", "smoke", "--set", ""}), IsEmpty());
}

TEST_F(Completion, ZshOffersTheSame) {
  if (access("/usr/bin/zsh", X_OK) != 0) {
    GTEST_SKIP() << "zsh is not installed";
  }
  // compadd and compdef exist inside completion alone; what would be offered is printed.
  const auto zsh = [&](const std::string& words) {
    return Shell("/usr/bin/zsh",
                 "compdef() { : }; compadd() { shift; print -l -- \"$@\" }; _files() { print files }; "
                 "source <(loadstar completion zsh); words=(loadstar " +
                     words + "); CURRENT=${#words}; _loadstar");
  };
  EXPECT_THAT(zsh("''"), AllOf(HasSubstr("agents\n"), HasSubstr("completion\n")));
  EXPECT_THAT(zsh("run --"), AllOf(HasSubstr("--detach\n"), HasSubstr("--json\n")));
  EXPECT_THAT(zsh("run ''"), AllOf(HasSubstr("my-smoke\nmy-soak\n"), HasSubstr("files\n"), Not(HasSubstr("my-nodes"))));
  EXPECT_THAT(zsh("watch ''"), HasSubstr("smoke-20261124-204033\n"));
}

TEST(CompletionScript, NamesEveryVerbAndOptionOfTheTree) {
  const CommandTree tree = MakeCommandLine()->Tree();
  ASSERT_EQ(tree.commands.size(), 14u);
  for (const std::string& script : {BashCompletion(tree), ZshCompletion(tree)}) {
    for (const auto& command : tree.commands) {
      EXPECT_THAT(script, HasSubstr(command.name + ") options='"));
      for (const auto& option : command.options) {
        EXPECT_THAT(script, HasSubstr(option.name));
      }
    }
    for (const auto& option : tree.options) {
      EXPECT_THAT(script, HasSubstr(option.name));
    }
  }
}

}  // namespace
}  // namespace loadstar::client
