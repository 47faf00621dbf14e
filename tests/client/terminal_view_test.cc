// The program on a terminal: what a person sees.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/client/documents.h"
#include "tests/client/fake_coordinator.h"
#include "tests/client/program_process.h"
#include "tests/client/terminal/sample_run.h"
#include "tests/client/terminal/screen.h"

namespace loadstar::client {
namespace {

using terminal::SampleRun;
using terminal::SampleSnapshot;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Shown(const std::string& bytes, size_t columns) {
  terminal::Screen screen(columns);
  screen.Write(bytes);
  EXPECT_EQ(screen.unknown(), "");
  return screen.Text();
}

class TerminalView : public ::testing::Test {
 protected:
  TerminalView() {
    coordinator_.SetRun(SampleRun());
    coordinator_.SetFiles({{"summary.txt", "the summary of the run\n"}});
    folder_.Write("smoke.yaml", kTestYaml);
  }
  ProgramProcess::Options Options(std::vector<std::string> arguments) {
    ProgramProcess::Options options;
    options.arguments = std::move(arguments);
    options.environment = {"LOADSTAR_COORDINATOR=" + coordinator_.address(), "TERM=xterm-256color"};
    options.folder = folder_.path();
    options.columns = 90;
    options.rows = 30;
    return options;
  }
  FakeCoordinator coordinator_;
  const TemporaryFolder folder_;
};

TEST_F(TerminalView, TheBlockIsRedrawnInPlaceAndTheSummaryFollowsIt) {
  ProgramProcess process(Options({"run", "smoke.yaml"}));
  for (uint32_t second = 0; second < 5; ++second) {
    coordinator_.Publish(SampleSnapshot(second));
    const std::string elapsed = "0:0" + std::to_string(second + 1) + " elapsed";
    ASSERT_TRUE(process.WaitForOut(elapsed)) << process.out();
  }
  coordinator_.Finish(v1::VERDICT_KIND_PASSED);
  EXPECT_EQ(process.Wait(), 0) << process.out();
  const std::string shown = Shown(process.out(), 90);
  EXPECT_THAT(shown, HasSubstr("smoke-20261124-204033   passed\n"));
  EXPECT_THAT(shown, HasSubstr("0:05 elapsed, 1:55 left\n"));
  EXPECT_THAT(shown, Not(HasSubstr("0:04 elapsed")));
  EXPECT_THAT(shown, HasSubstr("target 75,000   established 74,998   pending 2   failed 10   lost 5\n"));
  EXPECT_THAT(shown, HasSubstr("node1       37,499       9,995  20.0 ms            37,499\n"));
  EXPECT_THAT(shown, HasSubstr("\nthe summary of the run\n\nResults: results/smoke-20261124-204033\n"));
  EXPECT_THAT(process.out(), HasSubstr("\x1b[1m"));
}

TEST_F(TerminalView, CtrlCOnTheTerminalStopsTheRunAboveTheBlock) {
  coordinator_.Publish(SampleSnapshot(0));
  ProgramProcess process(Options({"run", "smoke.yaml"}));
  ASSERT_TRUE(process.WaitForOut("0:01 elapsed")) << process.out();
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), 4);
  const std::string shown = Shown(process.out(), 90);
  EXPECT_THAT(shown, HasSubstr("loadstar: stopping the run; once more to leave it at once\nsmoke-20261124-204033"));
  EXPECT_THAT(shown, HasSubstr("stopped"));
}

TEST_F(TerminalView, ANarrowerTerminalIsFollowed) {
  coordinator_.Publish(SampleSnapshot(0));
  ProgramProcess process(Options({"watch", "smoke-20261124-204033"}));
  ASSERT_TRUE(process.WaitForOut("0:01 elapsed")) << process.out();
  const size_t before = process.out().size();
  process.Resize(40, 10);
  process.Signal(SIGWINCH);
  ASSERT_TRUE(process.WaitForOut([&](const std::string& out) { return out.size() > before && out.back() == 'J'; }));
  const std::string frame = process.out().substr(before);
  // Figures go to further lines, and the block is cut to one row less than the terminal has.
  EXPECT_THAT(Shown(frame, 40), HasSubstr("connections   target 75,000\n              established 74,998\n"));
  EXPECT_LE(std::count(frame.begin(), frame.end(), '\n'), 9);
  coordinator_.Finish(v1::VERDICT_KIND_PASSED);
  EXPECT_EQ(process.Wait(), 0);
}

TEST_F(TerminalView, NoColorIsHeeded) {
  coordinator_.Publish(SampleSnapshot(0));
  coordinator_.Finish(v1::VERDICT_KIND_PASSED);
  ProgramProcess::Options options = Options({"run", "smoke.yaml"});
  options.environment.push_back("NO_COLOR=1");
  ProgramProcess process(options);
  EXPECT_EQ(process.Wait(), 0);
  for (const char* code : {"\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"}) {
    EXPECT_THAT(process.out(), Not(HasSubstr(code)));
  }
}

TEST_F(TerminalView, ADumbTerminalGetsALineASecond) {
  coordinator_.Publish(SampleSnapshot(0));
  coordinator_.Finish(v1::VERDICT_KIND_PASSED);
  ProgramProcess::Options options = Options({"run", "smoke.yaml"});
  options.environment[1] = "TERM=dumb";
  ProgramProcess process(options);
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_THAT(process.out(), HasSubstr("0:01/2:00  ramp 0 -> 100k"));
  EXPECT_THAT(process.out(), Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace loadstar::client
