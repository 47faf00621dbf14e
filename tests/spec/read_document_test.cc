#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include "lib/spec/spec.h"

namespace loadstar::spec {
namespace {

using ::testing::HasSubstr;

class ReadDocumentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "spec-test-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) const {
    std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  static std::string ErrorOf(const std::string& path) {
    const auto document = ReadDocument(path);
    return document.ok() ? "read" : std::string(document.status().message());
  }

  std::filesystem::path folder_;
};

TEST_F(ReadDocumentTest, ReadsAFile) {
  const std::string path = Write("test.yaml", "kind: Test\n");
  const auto document = ReadDocument(path);
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ(document->file_name(), path);
  EXPECT_EQ(document->yaml(), "kind: Test\n");
}

TEST_F(ReadDocumentTest, ReadsUpToExactlyOneMebibyte) {
  EXPECT_TRUE(ReadDocument(Write("most.yaml", std::string(size_t{1} << 20, 'a'))).ok());
  EXPECT_THAT(ErrorOf(Write("more.yaml", std::string((size_t{1} << 20) + 1, 'a'))), HasSubstr("has 1048577 bytes"));
}

TEST_F(ReadDocumentTest, MissingFileSuggestsANearName) {
  Write("quickstart.yaml", "");
  const auto document = ReadDocument(folder_ / "quikstart.yaml");
  EXPECT_EQ(document.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(document.status().message()), HasSubstr("there is no such file. Did you mean"));
  EXPECT_THAT(std::string(document.status().message()), HasSubstr("quickstart.yaml?"));
}

TEST_F(ReadDocumentTest, MissingFolderIsNamed) {
  EXPECT_THAT(ErrorOf(folder_ / "none" / "a.yaml"), HasSubstr("There is no folder"));
  EXPECT_THAT(ErrorOf(folder_ / "none"), HasSubstr("Check the path"));
}

TEST_F(ReadDocumentTest, RefusesADirectory) { EXPECT_THAT(ErrorOf(folder_), HasSubstr("is a directory")); }

TEST_F(ReadDocumentTest, RefusesBinary) {
  EXPECT_THAT(ErrorOf(Write("a.yaml", std::string("\x7f"
                                                  "ELF\0\0",
                                                  6))),
              HasSubstr("is no text but binary data"));
}

// 100 MB of a sparse file: refused by its size, without being read.
TEST_F(ReadDocumentTest, RefusesALargeFileWithoutReadingIt) {
  const std::string path = Write("large.yaml", "");
  std::filesystem::resize_file(path, 100'000'000);
  struct stat before {
  }, after{};
  ASSERT_EQ(stat(path.c_str(), &before), 0);
  EXPECT_THAT(ErrorOf(path), HasSubstr("has 100000000 bytes; a document has at most 1 MiB"));
  ASSERT_EQ(stat(path.c_str(), &after), 0);
  EXPECT_EQ(before.st_blocks, after.st_blocks);
}

TEST_F(ReadDocumentTest, StopsAtTheBoundOfAFileWithoutSize) {
  EXPECT_THAT(ErrorOf("/dev/zero"), HasSubstr("has more than 1,048,576 bytes"));
}

TEST_F(ReadDocumentTest, RefusesWhatIsNoPath) {
  EXPECT_NE(ErrorOf(""), "read");
  EXPECT_NE(ErrorOf(std::string(5'000, 'a')), "read");
  EXPECT_NE(ErrorOf(std::string("a\0b", 3)), "read");
}

}  // namespace
}  // namespace loadstar::spec
