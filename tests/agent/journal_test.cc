#include "agent/deployer/journal.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace loadstar::agent {
namespace {

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "loadstar-journal-XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(JournalTest, ComesBackAsWritten) {
  Journal journal{
      .deployment = "stack", .complete = true, .nodes = {{.spec = {}, .pid = 4711, .start_ticks = 99, .restarts = 2}}};
  journal.nodes[0].spec.set_name("node1");
  journal.nodes[0].spec.add_command("/bin/sh");
  journal.nodes[0].spec.mutable_stop_timeout()->set_seconds(3);
  ASSERT_TRUE(WriteJournal(folder_, journal).ok());
  const absl::StatusOr<Journal> read = ReadJournal(folder_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->deployment, "stack");
  EXPECT_TRUE(read->complete);
  ASSERT_EQ(read->nodes.size(), 1u);
  EXPECT_EQ(read->nodes[0].pid, 4711);
  EXPECT_EQ(read->nodes[0].start_ticks, 99u);
  EXPECT_EQ(read->nodes[0].restarts, 2u);
  EXPECT_EQ(read->nodes[0].spec.SerializeAsString(), journal.nodes[0].spec.SerializeAsString());
}

TEST_F(JournalTest, TellsMissingFromDamaged) {
  EXPECT_EQ(ReadJournal(folder_).status().code(), absl::StatusCode::kNotFound);
  for (const char* text :
       {"", "{", "[]", "{\"deployment\":1}", "{\"deployment\":\"a\",\"complete\":true,\"nodes\":[{}]}",
        "{\"deployment\":\"a\",\"complete\":true,\"nodes\":[{\"spec\":7,\"pid\":1}]}"}) {
    std::ofstream(folder_ + "/journal.json") << text;
    EXPECT_EQ(ReadJournal(folder_).status().code(), absl::StatusCode::kDataLoss) << text;
  }
}

}  // namespace
}  // namespace loadstar::agent
