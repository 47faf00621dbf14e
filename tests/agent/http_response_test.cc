#include "agent/fetch/http_response.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace loadstar::agent {
namespace {

// Feeds byte by byte, so that no answer depends on how it was cut.
absl::StatusOr<std::string> Read(std::string_view bytes, bool close) {
  HttpResponse response(1000);
  for (char c : bytes) {
    const absl::StatusOr<bool> complete = response.Append({&c, 1});
    if (!complete.ok()) return complete.status();
    if (*complete) return std::to_string(response.status()) + ":" + response.body();
  }
  if (!close) return absl::UnavailableError("incomplete");
  if (absl::Status status = response.Finish(); !status.ok()) return status;
  return std::to_string(response.status()) + ":" + response.body();
}

TEST(HttpResponse, ReadsEveryKindOfBody) {
  EXPECT_EQ(*Read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false), "200:hello");
  EXPECT_EQ(*Read("HTTP/1.1 503 No\r\ncontent-length:0\r\n\r\n", true), "503:");
  EXPECT_EQ(*Read("HTTP/1.0 200 OK\r\n\r\nuntil the end", true), "200:until the end");
  EXPECT_EQ(
      *Read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", false),
      "200:abc0123456789");
  EXPECT_EQ(*Read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", false), "200:x");
  EXPECT_EQ(*Read("HTTP/1.1 204 None\r\n\r\n", true), "204:");
}

TEST(HttpResponse, RefusesGarbageAndCutAnswers) {
  EXPECT_EQ(Read("SSH-2.0-OpenSSH\r\n\r\n", true).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Read("HTTP/1.1 2x0 OK\r\n\r\n", true).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Read("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", true).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", true).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", true).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Read("", true).status().message(), "the connection was closed without an answer");
}

TEST(HttpResponse, IsBounded) {
  EXPECT_EQ(Read("HTTP/1.1 200 OK\r\n\r\n" + std::string(2000, 'x'), true).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace loadstar::agent
