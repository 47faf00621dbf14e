#include "agent/tuner/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

namespace loadstar::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Kind = JournalRecord::Kind;

const Era kEra{.of_host = "boot-1", .of_network_namespace = "boot-1/ns-1"};

JournalRecord Applying(const std::string& key, const std::string& profile = "p") {
  return {.kind = Kind::kApplying, .profile = profile, .key = key, .wish = {{9}}, .base = "1", .from = "1", .to = "9"};
}
JournalRecord Applied(const std::string& key, const std::string& profile = "p") {
  return {.kind = Kind::kApplied, .profile = profile, .key = key, .to = "9"};
}

std::string Line(JournalRecord record, uint64_t sequence) {
  if (record.era.empty()) record.era = kEra.of_host;
  return ToLine(record, sequence);
}

std::string Text(const std::vector<JournalRecord>& records) {
  std::string text;
  uint64_t sequence = 0;
  for (const JournalRecord& record : records) text += Line(record, ++sequence);
  return text;
}

TEST(JournalTest, WhatIsWrittenIsReplayed) {
  const Replayed replayed = Replay(Text({Applying("a.a"),
                                         Applied("a.a"),
                                         {.kind = Kind::kJoined,
                                          .profile = "q",
                                          .key = "a.a",
                                          .wish = {{5}, v1::SYSCTL_POLICY_EXACTLY},
                                          .base = "1",
                                          .to = "9"},
                                         Applying("b.b")}),
                                   kEra);
  EXPECT_THAT(replayed.problems, IsEmpty());
  EXPECT_FALSE(replayed.torn_end);
  EXPECT_EQ(replayed.last_sequence, 4U);
  ASSERT_THAT(replayed.keys, SizeIs(2));
  const TunedKey& a = replayed.keys.at("a.a");
  EXPECT_EQ(a.base, "1");
  EXPECT_EQ(a.set, "9");
  EXPECT_THAT(a.layers, ElementsAre(Layer{"p", {{9}}}, Layer{"q", {{5}, v1::SYSCTL_POLICY_EXACTLY}}));
  EXPECT_EQ(a.pending, std::nullopt);
  const TunedKey& b = replayed.keys.at("b.b");
  EXPECT_THAT(b.layers, IsEmpty());
  ASSERT_TRUE(b.pending.has_value());
  EXPECT_EQ(b.pending->to, "9");
}

TEST(JournalTest, AReleasedKeyIsForgotten) {
  const Replayed replayed =
      Replay(Text({Applying("a.a"),
                   Applied("a.a"),
                   {.kind = Kind::kReleasing, .profile = "p", .key = "a.a", .from = "9", .to = "1"},
                   {.kind = Kind::kReleased, .profile = "p", .key = "a.a", .to = "1"}}),
             kEra);
  EXPECT_THAT(replayed.problems, IsEmpty());
  EXPECT_THAT(replayed.keys, IsEmpty());
}

TEST(JournalTest, ATornEndIsNoProblemWhereverItIsTorn) {
  const std::string whole = Text({Applying("a.a"), Applied("a.a")});
  const std::string last = Line(Applying("b.b"), 3);
  for (size_t length = 0; length < last.size(); ++length) {
    const Replayed replayed = Replay(whole + last.substr(0, length), kEra);
    EXPECT_THAT(replayed.problems, IsEmpty()) << length;
    EXPECT_THAT(replayed.keys, SizeIs(1)) << length;
    EXPECT_EQ(replayed.torn_end, length > 0) << length;
  }
}

TEST(JournalTest, EveryFlippedBitIsNoticedAndTheRestIsUsed) {
  const std::string one = Line(Applying("a.a"), 1);
  const std::string intact = Line(Applying("b.b"), 2) + Line(Applied("b.b"), 3);
  const std::string last = Line(Applying("c.c"), 4);
  const std::string whole = one + intact + last;
  for (size_t byte = 0; byte + 1 < whole.size(); ++byte) {
    if (byte >= one.size() - 1 && byte < one.size() + intact.size()) continue;
    for (int bit = 0; bit < 8; ++bit) {
      std::string text = whole;
      text[byte] = static_cast<char>(text[byte] ^ (1 << bit));
      const Replayed replayed = Replay(text, kEra);
      EXPECT_THAT(replayed.problems, ::testing::Not(IsEmpty())) << byte << "." << bit;
      ASSERT_THAT(replayed.keys, SizeIs(2)) << byte << "." << bit;
      EXPECT_EQ(replayed.keys.at("b.b").set, "9");
    }
  }
}

TEST(JournalTest, MissingLinesAreNamed) {
  const std::string text = Line(Applying("a.a"), 1) + Line(Applied("a.a"), 4);
  EXPECT_THAT(Replay(text, kEra).problems, ElementsAre("steps 2 to 3 are missing before line 2"));
}

TEST(JournalTest, ALineThatDoesNotFitIsLeftOutAndItsKeyDoubted) {
  const Replayed replayed = Replay(Text({Applied("a.a"), Applying("b.b"), Applying("b.b", "q")}), kEra);
  EXPECT_THAT(replayed.problems, ElementsAre(HasSubstr("line 1 (a.a) does not fit"), HasSubstr("line 3 (b.b)")));
  EXPECT_EQ(replayed.keys.at("b.b").pending->layer.profile, "p");
  EXPECT_TRUE(replayed.keys.at("b.b").doubted);
}

TEST(JournalTest, WhatWasSetInAnotherEraIsGone) {
  JournalRecord of_namespace = Applying("n.n");
  of_namespace.era = kEra.of_network_namespace;
  const std::string text = Text({Applying("a.a"), Applied("a.a"), of_namespace});
  EXPECT_THAT(Replay(text, kEra).keys, SizeIs(2));
  const Replayed elsewhere = Replay(text, {.of_host = "boot-1", .of_network_namespace = "boot-1/ns-2"});
  ASSERT_THAT(elsewhere.keys, SizeIs(1));
  EXPECT_TRUE(elsewhere.keys.contains("a.a"));
  const Era rebooted{.of_host = "boot-2", .of_network_namespace = "boot-2/ns-1"};
  EXPECT_THAT(Replay(text, rebooted).keys, IsEmpty());
  EXPECT_THAT(Replay(text, rebooted).problems, IsEmpty());
  JournalRecord later = Applying("a.a");
  later.era = "boot-2";
  const Replayed again = Replay(text + Line(later, 4), rebooted);
  EXPECT_THAT(again.problems, IsEmpty());
  EXPECT_THAT(again.keys.at("a.a").layers, IsEmpty()) << "what an earlier boot had applied";
}

TEST(JournalTest, CompactedSaysTheSame) {
  const Replayed replayed =
      Replay(Text({Applying("b.b"),
                   Applied("b.b"),
                   Applying("a.a"),
                   Applied("a.a"),
                   {.kind = Kind::kJoined, .profile = "q", .key = "a.a", .wish = {{5}}, .base = "1", .to = "9"},
                   {.kind = Kind::kReleasing, .profile = "p", .key = "b.b", .from = "9", .to = "1"},
                   Applying("c.c"),
                   {.kind = Kind::kFound, .profile = "p", .key = "c.c", .to = "7"}}),
             kEra);
  ASSERT_THAT(replayed.problems, IsEmpty());
  uint64_t sequence = replayed.last_sequence;
  Replayed again = Replay(Compacted(replayed.keys, &sequence), kEra);
  EXPECT_THAT(again.problems, IsEmpty());
  EXPECT_EQ(again.last_sequence, sequence);
  ASSERT_THAT(again.keys, SizeIs(3));
  EXPECT_LT(again.keys.at("b.b").order, again.keys.at("a.a").order);
  for (auto& [key, tuned] : again.keys) tuned.order = replayed.keys.at(key).order;
  EXPECT_EQ(again.keys, replayed.keys);
}

TEST(JournalTest, ValuesOfAnyTextSurvive) {
  JournalRecord record = Applying("a.a");
  record.base = record.from = "\"quoted\"\t\\ and\x01 more";
  const Replayed replayed = Replay(Text({record}), kEra);
  EXPECT_EQ(replayed.keys.at("a.a").pending->from, record.from);
}

class JournalFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "journal-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ / "journal"; }
  std::filesystem::path folder_;
};

TEST_F(JournalFileTest, KeepsWhatIsAppendedAndReplaced) {
  const std::unique_ptr<JournalStore> first = MakeJournalFile(path());
  EXPECT_EQ(*first->Load(), "");
  ASSERT_TRUE(first->Append("one\n").ok());
  ASSERT_TRUE(first->Append("two\n").ok());
  const std::unique_ptr<JournalStore> second = MakeJournalFile(path());
  EXPECT_EQ(*second->Load(), "one\ntwo\n");
  ASSERT_TRUE(second->Replace("three\n").ok());
  ASSERT_TRUE(second->Append("four\n").ok());
  EXPECT_EQ(*MakeJournalFile(path())->Load(), "three\nfour\n");
}

TEST_F(JournalFileTest, NothingIsAppendedToWhatWasNotLoaded) {
  EXPECT_EQ(MakeJournalFile(path())->Append("x\n").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(JournalFileTest, WhatDoesNotFitLeavesTheFileAsItWas) {
  const std::unique_ptr<JournalStore> journal = MakeJournalFile(path());
  ASSERT_TRUE(journal->Load().ok());
  ASSERT_TRUE(journal->Append("one\n").ok());
  // A bound on the file's size stands in for a full disk: part of the line is taken, then no more.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status appended = journal->Append(std::string(100, 'x') + "\n");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  (void)signal(SIGXFSZ, handler);
  EXPECT_FALSE(appended.ok());
  ASSERT_TRUE(journal->Append("two\n").ok());
  EXPECT_EQ(*MakeJournalFile(path())->Load(), "one\ntwo\n");
}

}  // namespace
}  // namespace loadstar::agent
