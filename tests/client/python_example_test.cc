// examples/python/stream.py against a coordinator that is scripted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/client/documents.h"
#include "tests/client/fake_coordinator.h"
#include "tests/client/program_process.h"
#include "tests/client/terminal/sample_run.h"

namespace loadstar::client {
namespace {

using ::testing::HasSubstr;

class PythonExample : public ::testing::Test {
 protected:
  PythonExample() {
    coordinator_.SetRun(terminal::SampleRun());
    document_ = folder_.Write("smoke.yaml", kTestYaml);
  }
  Ended Stream() {
    ProgramProcess::Options options;
    options.program = "/usr/bin/python3";
    options.arguments = {LOADSTAR_SOURCE_DIR "/examples/python/stream.py", "--coordinator", coordinator_.address(),
                         document_};
    options.environment = {"PYTHONDONTWRITEBYTECODE=1"};
    ProgramProcess process(options);
    const int code = process.Wait();
    return {code, process.out(), process.err()};
  }
  FakeCoordinator coordinator_;
  const TemporaryFolder folder_;
  std::string document_;
};

TEST_F(PythonExample, StartsATestFromItsDocumentAndPrintsTheStream) {
  coordinator_.Publish(terminal::SampleSnapshot(0));
  coordinator_.Publish(terminal::SampleSnapshot(1));
  coordinator_.Finish(v1::VERDICT_KIND_PASSED);
  const Ended ended = Stream();
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("smoke-20261124-204033"));
  EXPECT_THAT(ended.out, HasSubstr("74998/75000"));
  EXPECT_THAT(ended.out, HasSubstr("passed"));
  const auto starts = coordinator_.starts();
  ASSERT_EQ(starts.size(), 1u);
  EXPECT_EQ(starts[0].document().yaml(), kTestYaml);
}

TEST_F(PythonExample, ExitsByTheVerdict) {
  coordinator_.Finish(v1::VERDICT_KIND_FAILED);
  EXPECT_EQ(Stream().code, 1);
}

TEST_F(PythonExample, SaysWhyATestWasRefused) {
  coordinator_.RefuseStart(absl::InvalidArgumentError("smoke.yaml:4:1: unknown key"));
  const Ended ended = Stream();
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.err, HasSubstr("smoke.yaml:4:1: unknown key"));
}

TEST_F(PythonExample, SaysWhenNoCoordinatorIsThere) {
  coordinator_.Down();
  const Ended ended = Stream();
  EXPECT_EQ(ended.code, 4);
  EXPECT_THAT(ended.err, HasSubstr(coordinator_.address()));
}

}  // namespace
}  // namespace loadstar::client
