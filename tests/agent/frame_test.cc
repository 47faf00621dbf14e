#include "agent/supervisor/frame.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace loadstar::agent {
namespace {

TEST(Frame, MessagesSurviveAnyCut) {
  const std::vector<std::string> messages = {"", "a", std::string(70'000, 'x'), std::string("\0\0\0\0\1", 5)};
  std::string stream;
  for (const std::string& message : messages) AppendFrame(message, &stream);
  for (size_t piece : {size_t{1}, size_t{3}, size_t{4096}, stream.size()}) {
    FrameReader reader;
    std::vector<std::string> got;
    for (size_t at = 0; at < stream.size(); at += piece) {
      reader.Append(std::string_view(stream).substr(at, piece));
      for (;;) {
        auto next = reader.Next();
        ASSERT_TRUE(next.ok());
        if (!next->has_value()) break;
        got.push_back(**next);
      }
    }
    EXPECT_EQ(got, messages) << piece;
  }
}

TEST(Frame, RefusesALengthBeyondTheBound) {
  FrameReader reader;
  reader.Append(std::string("\x00\x40\x00\x01", 4));
  EXPECT_FALSE(reader.Next().ok());
}

}  // namespace
}  // namespace loadstar::agent
