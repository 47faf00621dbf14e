#include "agent/spill/file_spill.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

namespace loadstar::agent {
namespace {

class FileSpillTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "loadstar-spill-XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/spill"; }
  static v1::Report Make(uint64_t sequence, size_t size = 10) {
    v1::Report report;
    report.set_sequence(sequence);
    report.mutable_run_event()->set_run_id(std::string(size, static_cast<char>('a' + sequence % 26)));
    return report;
  }
  static std::vector<uint64_t> Sequences(const std::vector<v1::Report>& reports) {
    std::vector<uint64_t> sequences;
    for (const v1::Report& report : reports) {
      EXPECT_EQ(report.SerializeAsString(),
                Make(report.sequence(), report.run_event().run_id().size()).SerializeAsString());
      sequences.push_back(report.sequence());
    }
    return sequences;
  }

  std::string folder_;
};

TEST_F(FileSpillTest, ReadsInOrderAfterASequence) {
  auto spill = *FileSpill::Create(path());
  for (uint64_t i = 1; i <= 500; ++i) ASSERT_TRUE(spill->Append(Make(i)).ok());
  EXPECT_EQ(Sequences(spill->Read(0, 3)), (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_EQ(Sequences(spill->Read(63, 3)), (std::vector<uint64_t>{64, 65, 66}));
  EXPECT_EQ(Sequences(spill->Read(64, 2)), (std::vector<uint64_t>{65, 66}));
  EXPECT_EQ(Sequences(spill->Read(498, 10)), (std::vector<uint64_t>{499, 500}));
  EXPECT_TRUE(spill->Read(500, 10).empty());
}

TEST_F(FileSpillTest, TrimmedReportsAreGoneAndTheFileEmptiesInTheEnd) {
  auto spill = *FileSpill::Create(path());
  for (uint64_t i = 1; i <= 300; ++i) ASSERT_TRUE(spill->Append(Make(i)).ok());
  spill->Trim(200);
  EXPECT_EQ(Sequences(spill->Read(0, 2)), (std::vector<uint64_t>{201, 202}));
  spill->Trim(300);
  EXPECT_EQ(std::filesystem::file_size(path()), 0u);
  ASSERT_TRUE(spill->Append(Make(301)).ok());
  EXPECT_EQ(Sequences(spill->Read(0, 9)), (std::vector<uint64_t>{301}));
}

TEST_F(FileSpillTest, BoundCountsWhatIsNotAcknowledged) {
  auto spill = *FileSpill::Create(path(), 100'000);
  uint64_t sequence = 0;
  absl::Status status;
  while (status.ok()) status = spill->Append(Make(++sequence, 500));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(spill->Read(0, 1'000).size(), sequence - 1);  // the refused one left nothing
  spill->Trim(sequence / 2 + 64);
  EXPECT_TRUE(spill->Append(Make(sequence, 500)).ok());
}

TEST_F(FileSpillTest, ANewInstanceStartsEmpty) {
  {
    auto spill = *FileSpill::Create(path());
    ASSERT_TRUE(spill->Append(Make(1)).ok());
  }
  EXPECT_TRUE((*FileSpill::Create(path()))->Read(0, 10).empty());
}

// Property: whatever the order of appends and trims, Read gives exactly what was appended and not trimmed.
TEST_F(FileSpillTest, BehavesAsAListForAnyHistory) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    auto spill = *FileSpill::Create(path());
    uint64_t next = 1;
    uint64_t trimmed = 0;
    for (int step = 0; step < 200; ++step) {
      if (random() % 4 != 0) {
        for (uint64_t i = random() % 40; i > 0; --i) ASSERT_TRUE(spill->Append(Make(next++, random() % 100)).ok());
      } else {
        trimmed = std::max(trimmed, random() % next);
        spill->Trim(trimmed);
      }
      const uint64_t after = random() % next;
      std::vector<uint64_t> expected;
      for (uint64_t i = std::max(after, trimmed) + 1; i < next && expected.size() < 50; ++i) expected.push_back(i);
      ASSERT_EQ(Sequences(spill->Read(after, 50)), expected);
    }
  }
}

}  // namespace
}  // namespace loadstar::agent
