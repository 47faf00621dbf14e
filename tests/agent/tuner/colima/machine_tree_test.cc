#include "agent/tuner/colima/machine_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/agent/tuner/colima/fake_colima.h"

namespace loadstar::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class MachineTreeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    runner_.answer = [this](const std::string& call) { return machine_.Answer(call); };
    ASSERT_TRUE(cli_.Detect().ok());
    runner_.calls.clear();
    machine_.kernel = {{"a.one", "1"}, {"a.rmem", "4096\t8192"}, {"a.ports", ""}};
  }
  std::string Inside(const std::string& command) { return "colima ssh --profile x -- sudo " + command; }

  FakeRunner runner_;
  FakeMachine machine_;
  ColimaCli cli_{&runner_, HostSystem::kLinux, absl::ZeroDuration()};
  MachineTree tree_{&cli_, "x"};
};

TEST_F(MachineTreeTest, WhatWasPrefetchedIsReadWithoutACall) {
  ASSERT_TRUE(tree_.Prefetch({"a.one", "a.rmem", "a.ports", "a.none"}).ok());
  EXPECT_EQ(*tree_.Read("a.one"), "1");
  EXPECT_EQ(*tree_.Read("a.rmem"), "4096\t8192") << "byte for byte";
  EXPECT_EQ(*tree_.Read("a.ports"), "");
  EXPECT_TRUE(absl::IsNotFound(tree_.Read("a.none").status()));
  EXPECT_TRUE(tree_.Writable("a.one"));
  EXPECT_FALSE(tree_.Writable("a.none"));
  EXPECT_THAT(runner_.calls, ElementsAre(Inside("sysctl -e a.one a.rmem a.ports a.none")));
}

TEST_F(MachineTreeTest, AfterAWriteThatKeyAloneIsReadAgain) {
  ASSERT_TRUE(tree_.Prefetch({"a.one", "a.rmem"}).ok());
  ASSERT_TRUE(tree_.Write("a.rmem", "1\t2").ok());
  machine_.kernel["a.one"] = "7";
  EXPECT_EQ(*tree_.Read("a.rmem"), "1 2");
  EXPECT_EQ(*tree_.Read("a.one"), "1");
  EXPECT_THAT(runner_.calls, ElementsAre(Inside("sysctl -e a.one a.rmem"), Inside("sysctl -w a.rmem=1 2"),
                                         Inside("sysctl -e a.rmem")));
}

TEST_F(MachineTreeTest, AnEmptyValueIsWrittenAsABlank) {
  EXPECT_TRUE(tree_.Write("a.ports", "").ok());
  EXPECT_THAT(runner_.calls, ElementsAre(Inside("sysctl -w a.ports= ")));
}

TEST_F(MachineTreeTest, ARefusalSaysWhatSysctlSaid) {
  machine_.complaint = "sysctl: setting key \"a.one\": Invalid argument\n";
  const absl::Status refused = tree_.Write("a.one", "5");
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("setting key a.one: Invalid argument"));
  EXPECT_TRUE(tree_.failure().ok());

  machine_.complaint = "Warning: Permanently added '[127.0.0.1]:2222' to the list of known hosts.\n";
  EXPECT_TRUE(tree_.Write("a.one", "5").ok()) << "what ssh has to say is no refusal";
}

TEST_F(MachineTreeTest, AMachineThatIsOutOfReachIsNotCalledAgain) {
  ASSERT_TRUE(tree_.Prefetch({"a.one"}).ok());
  runner_.answer = [](const std::string& /*call*/) { return Says("", 1, "colima is not running"); };
  EXPECT_EQ(tree_.Write("a.one", "5").code(), absl::StatusCode::kUnavailable);
  const size_t calls = runner_.calls.size();
  EXPECT_EQ(tree_.Read("a.one").status(), tree_.failure());
  EXPECT_EQ(tree_.Read("a.rmem").status(), tree_.failure());
  EXPECT_EQ(tree_.Write("a.one", "1"), tree_.failure());
  EXPECT_EQ(runner_.calls.size(), calls);
}

TEST_F(MachineTreeTest, WhatCannotBeReadAtAllIsAnError) {
  runner_.answer = [](const std::string& /*call*/) { return Says("", 1, "sudo: a password is required"); };
  const absl::Status read = tree_.Prefetch({"a.one"});
  EXPECT_EQ(read.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(read.message()), HasSubstr("a password is required"));
}

TEST_F(MachineTreeTest, ASettingOfSeveralLinesStaysWhole) {
  runner_.answer = [](const std::string& /*call*/) { return Says("a.one = x\na.one = y\n"); };
  EXPECT_EQ(*tree_.Read("a.one"), "x\ny");
}

TEST_F(MachineTreeTest, WhatIsNoNameIsNeverAnArgument) {
  for (const char* key : {"--system", "a", "a.b=1", "a.b c"}) {
    EXPECT_EQ(tree_.Read(key).status().code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_EQ(tree_.Write(key, "1").code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_EQ(tree_.Prefetch({"a.one", key}).code(), absl::StatusCode::kInvalidArgument) << key;
  }
  EXPECT_THAT(runner_.calls, IsEmpty());
}

}  // namespace
}  // namespace loadstar::agent
