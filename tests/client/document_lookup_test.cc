#include "client/document_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/client/program_process.h"

namespace loadstar::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DocumentLookupTest : public ::testing::Test {
 protected:
  const TemporaryFolder first_, second_;
  const DocumentLookup lookup_{{first_.path(), second_.path()}};
};

TEST_F(DocumentLookupTest, ANameIsFoundInTheFirstRootThatHasIt) {
  second_.Write("deploy/scenarios/smoke.yaml", "second");
  EXPECT_EQ(lookup_.Read("smoke", {DocumentKind::kTest})->yaml(), "second");
  const std::string path = first_.Write("deploy/scenarios/smoke.yaml", "first");
  const auto document = lookup_.Read("smoke", {DocumentKind::kTest});
  ASSERT_TRUE(document.ok());
  EXPECT_EQ(document->yaml(), "first");
  EXPECT_EQ(document->file_name(), path);
}

TEST_F(DocumentLookupTest, ANameIsLookedUpAmongItsKindAlone) {
  first_.Write("deploy/stacks/four-nodes.yaml", "stack");
  EXPECT_TRUE(lookup_.Read("four-nodes", {DocumentKind::kStack}).ok());
  EXPECT_FALSE(lookup_.Read("four-nodes", {DocumentKind::kTest}).ok());
  EXPECT_TRUE(lookup_.Read("four-nodes", {DocumentKind::kTest, DocumentKind::kStack}).ok());
}

TEST_F(DocumentLookupTest, APathIsReadAsItIs) {
  const std::string path = first_.Write("elsewhere/mine.yaml", "mine");
  EXPECT_EQ(lookup_.Read(path, {DocumentKind::kTest})->yaml(), "mine");
}

TEST_F(DocumentLookupTest, AnUnknownNameSaysWhereItWasLookedForAndWhatIsNear) {
  first_.Write("deploy/scenarios/smoke.yaml", "x");
  const absl::Status status = lookup_.Read("smok", {DocumentKind::kTest}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr(first_.path() + "/deploy/scenarios"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("did you mean \"smoke\"?"));
}

TEST_F(DocumentLookupTest, WithoutAnyDocumentItNamesTheVariable) {
  const absl::Status status = lookup_.Read("smoke", {DocumentKind::kTest}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("LOADSTAR_HOME"));
}

TEST_F(DocumentLookupTest, NamesAreSortedAndWithoutRepeats) {
  first_.Write("deploy/scenarios/b.yaml", "x");
  second_.Write("deploy/scenarios/a.yaml", "x");
  second_.Write("deploy/scenarios/b.yaml", "x");
  second_.Write("deploy/scenarios/README.md", "x");
  EXPECT_THAT(lookup_.Names(DocumentKind::kTest), ElementsAre("a", "b"));
  EXPECT_TRUE(lookup_.Names(DocumentKind::kStack).empty());
}

}  // namespace
}  // namespace loadstar::client
