// What HTTP/1.1 responses are read as. Every stream is fed whole, byte by byte, and in two parts cut at every place:
// what is read must not depend on it.
#include "lib/http/response_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace loadstar::http {
namespace {

// Reads a part and appends an event a line, with pieces of one body joined: their sizes are the cut's.
class Transcript {
 public:
  explicit Transcript(bool head_request = false) : head_request_(head_request) {}

  void Feed(std::string_view bytes) {
    Piece piece;
    while (!broken_) {
      switch (reader_.Next(&bytes, head_request_, &piece)) {
        case Event::kMore:
          EXPECT_TRUE(bytes.empty()) << "asks for more with bytes unread";
          return;
        case Event::kStart:
          text_ += std::to_string(reader_.status()) + "\n";
          break;
        case Event::kHeader:
          text_.append(piece.name).append("=").append(piece.value).append("\n");
          break;
        case Event::kBody:
          EXPECT_FALSE(piece.body.empty());
          body_.append(piece.body);
          break;
        case Event::kEnd:
          End(reader_.last() ? "last" : "end");
          break;
        case Event::kBroken:
          End(std::string("broken ") + NameOf(piece.flaw));
          broken_ = true;
      }
    }
  }
  void Close() {
    if (!broken_) End(reader_.EndOfConnection() ? "last by close" : reader_.idle() ? "closed" : "closed within");
  }
  const std::string& text() const { return text_; }

 private:
  void End(const std::string& how) {
    if (!body_.empty()) text_ += "body " + body_ + "\n";
    body_.clear();
    text_ += how + "\n";
  }

  const bool head_request_;
  ResponseReader reader_;
  bool broken_ = false;
  std::string body_;
  std::string text_;
};

std::string ReadInTwo(std::string_view stream, size_t cut, bool head_request) {
  Transcript transcript(head_request);
  transcript.Feed(stream.substr(0, cut));
  transcript.Feed(stream.substr(cut));
  transcript.Close();
  return transcript.text();
}

// What the stream is read as, however it is cut.
std::string Read(std::string_view stream, bool head_request = false) {
  std::string whole = ReadInTwo(stream, 0, head_request);
  Transcript bytewise(head_request);
  for (const char c : stream) bytewise.Feed({&c, 1});
  bytewise.Close();
  EXPECT_EQ(bytewise.text(), whole) << "byte by byte";
  for (size_t cut = 1; cut < stream.size(); ++cut) {
    const std::string parted = ReadInTwo(stream, cut, head_request);
    if (parted == whole) continue;
    ADD_FAILURE() << "cut at " << cut << ":\n" << parted << "instead of\n" << whole;
    break;
  }
  return whole;
}

TEST(ResponseReaderTest, ReadsEveryKindOfResponse) {
  constexpr struct {
    std::string_view stream, events;
  } kRows[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200\nContent-Length=5\nbody hello\nend\nclosed\n"},
      {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200\nContent-Length=0\nend\nclosed\n"},
      {"HTTP/1.1 200 \r\ncontent-LENGTH:1\r\n\r\nx", "200\ncontent-LENGTH=1\nbody x\nend\nclosed\n"},
      {"HTTP/1.1 599 Caf\xc3\xa9 \t!\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
       "599\nContent-Length=0\nContent-Length=0\nend\nclosed\n"},
      {"HTTP/1.1 204 None\r\n\r\n", "204\nend\nclosed\n"},
      {"HTTP/1.1 204 None\r\nContent-Length: 7\r\n\r\n", "204\nContent-Length=7\nend\nclosed\n"},
      {"HTTP/1.1 304 Same\r\nContent-Length: 7\r\nTransfer-Encoding: x\r\n\r\n",
       "304\nContent-Length=7\nbroken transfer-coding\n"},
      {"HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n", "304\nTransfer-Encoding=chunked\nend\nclosed\n"},
      {"HTTP/1.1 200 OK\r\nEmpty:\r\nBlank: \t \r\nTabs:\ta\tb\t\r\n\r\nuntil\r\n\r\nthe end",
       "200\nEmpty=\nBlank=\nTabs=a\tb\nbody until\r\n\r\nthe end\nlast by close\n"},
      {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "200\nContent-Length=1\nbody x\nlast\nclosed\n"},
      {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx",
       "200\nConnection=Keep-Alive\nContent-Length=1\nbody x\nend\nclosed\n"},
      {"HTTP/1.1 200 OK\r\nConnection: upgrade, ,CLOSE\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
       "200\nConnection=upgrade, ,CLOSE\nConnection=keep-alive\nContent-Length=0\nlast\nclosed\n"},
      {"HTTP/1.1 200 OK\r\nConnection: closed\r\nContent-Length: 0\r\n\r\n",
       "200\nConnection=closed\nContent-Length=0\nend\nclosed\n"},
      // Chunked.
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
       "200\nTransfer-Encoding=Chunked\nbody abc0123456789\nend\nclosed\n"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0003;a;b=\"c d\"\r\n\r\n\r\r\n00 ; x\r\nT1: "
       "1\r\nT2:2\r\n\r\n",
       "200\nTransfer-Encoding=chunked\nbody \r\n\r\nend\nclosed\n"},
      // Interim responses are read over, with their headers.
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\nConnection: close\r\n\r\n"
       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
       "200\nContent-Length=1\nbody x\nend\nclosed\n"},
      // Pipelined.
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 No\r\nTransfer-Encoding: "
       "chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n"
       "HTTP/1.1 204 .\r\n\r\nHTTP/1.1 500 .\r\n\r\nc",
       "200\nContent-Length=1\nbody a\nend\n404\nTransfer-Encoding=chunked\nbody b\nend\n204\nend\n500\nbody c\n"
       "last by close\n"},
      // Cut short.
      {"", "closed\n"},
      {"HTTP/1.1 2", "closed within\n"},
      {"HTTP/1.1 200 OK\r\nA: b\r\n", "200\nA=b\nclosed within\n"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "200\nContent-Length=3\nbody ab\nclosed within\n"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
       "200\nTransfer-Encoding=chunked\nbody a\nclosed within\n"},
  };
  for (const auto& [stream, events] : kRows) EXPECT_EQ(Read(stream), events) << stream;
}

TEST(ResponseReaderTest, ResponseToHeadHasNoBody) {
  constexpr std::string_view kStream =
      "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      "HTTP/1.1 200 OK\r\n\r\n";
  EXPECT_EQ(Read(kStream, /*head_request=*/true),
            "200\nContent-Length=500\nend\n200\nTransfer-Encoding=chunked\nend\n200\nend\nclosed\n");
}

TEST(ResponseReaderTest, WhatCannotBeToldApartIsBroken) {
  constexpr struct {
    std::string_view stream, flaw;
  } kRows[] = {
      {"SSH-2.0-OpenSSH\r\n", "start-line"},
      {"\r\nHTTP/1.1 200 OK\r\n", "start-line"},
      {"HTTP/2.0 200 OK\r\n", "start-line"},
      {"HTTP/1.2 200 OK\r\n", "start-line"},
      {"http/1.1 200 OK\r\n", "start-line"},
      {"HTTP/1.1  200 OK\r\n", "start-line"},
      {"HTTP/1.1 20 OK\r\n", "start-line"},
      {"HTTP/1.1 2000 OK\r\n", "start-line"},
      {"HTTP/1.1 099 OK\r\n", "start-line"},
      {"HTTP/1.1 +20 OK\r\n", "start-line"},
      {"HTTP/1.1 200OK\r\n", "start-line"},
      {"HTTP/1.1 200 O\x01K\r\n", "start-line"},
      {"HTTP/1.1 200 OK\n", "bare-lf"},
      {"HTTP/1.1 200 O\rK\r\n", "start-line"},
      {"HTTP/1.1 200 OK\r\nA: b\n\r\n", "bare-lf"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\n", "bare-lf"},
      {"HTTP/1.1 200 OK\r\nnone\r\n", "header-line"},
      {"HTTP/1.1 200 OK\r\n: none\r\n", "header-line"},
      {"HTTP/1.1 200 OK\r\nName : x\r\n", "header-line"},
      {"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n", "header-line"},
      {"HTTP/1.1 200 OK\r\nA: b\rc\r\n", "header-line"},
      {"HTTP/1.1 200 OK\r\nA: \x7f\r\n", "header-line"},
      {"HTTP/1.1 200 OK\r\nContent-Length: \r\n", "content-length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", "content-length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n", "content-length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n", "content-length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n", "content-length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n", "content-length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n", "content-length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "two-lengths"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "two-lengths"},
      {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "two-lengths"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", "transfer-coding"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "transfer-coding"},
      {"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", "unasked-upgrade"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8000000000000000\r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;\x01\r\n", "chunk-size"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na", "bare-lf"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "chunk-end"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n", "bare-lf"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n", "header-line"},
      // Bytes after an answer that ended are the next answer's.
      {"HTTP/1.1 204 .\r\n\r\nrubbish\r\n", "start-line"},
  };
  for (const auto& [stream, flaw] : kRows) {
    const std::string events = Read(stream);
    const std::string expected = "broken " + std::string(flaw) + "\n";
    EXPECT_TRUE(events.size() >= expected.size() && events.substr(events.size() - expected.size()) == expected)
        << stream << "\nis read as\n"
        << events;
  }
}

// The bound counts what arrived, so a line that never ends is given up as early as one that does.
TEST(ResponseReaderTest, HeadsAndChunkLinesAreBounded) {
  const std::string head = "HTTP/1.1 200 OK\r\n";
  const std::string chunked = head + "Transfer-Encoding: chunked\r\n\r\n";
  const auto outcome = [](const std::string& stream) {
    Transcript transcript;
    transcript.Feed(stream);
    transcript.Close();
    const std::string& text = transcript.text();
    return text.substr(text.rfind('\n', text.size() - 2) + 1);
  };
  const auto fill = [](size_t bytes) { return std::string(bytes, 'x'); };
  EXPECT_EQ(outcome(head + "A: " + fill(MessageReader::kMaxHead - head.size() - 7) + "\r\n\r\n"), "last by close\n");
  EXPECT_EQ(outcome(head + "A: " + fill(MessageReader::kMaxHead - head.size() - 6) + "\r\n\r\n"),
            "broken head-too-long\n");
  EXPECT_EQ(outcome(head + "A: " + fill(MessageReader::kMaxHead)), "broken head-too-long\n");
  EXPECT_EQ(outcome(chunked + "1;" + fill(MessageReader::kMaxChunkLine - 4) + "\r\n"), "closed within\n");
  EXPECT_EQ(outcome(chunked + "1;" + fill(MessageReader::kMaxChunkLine - 3) + "\r\n"), "broken head-too-long\n");
  std::string trailers = chunked + "0\r\n";
  while (trailers.size() < MessageReader::kMaxHead + chunked.size()) trailers += "T: " + fill(100) + "\r\n";
  EXPECT_EQ(outcome(trailers + "T: " + fill(200) + "\r\n\r\n"), "broken head-too-long\n");
}

TEST(ResponseReaderTest, OnlyACutLineIsCopied) {
  const std::string stream = "HTTP/1.1 200 OK\r\nName: value\r\n\r\n";
  ResponseReader reader;
  std::string_view bytes = stream;
  Piece piece;
  ASSERT_EQ(reader.Next(&bytes, false, &piece), Event::kStart);
  ASSERT_EQ(reader.Next(&bytes, false, &piece), Event::kHeader);
  EXPECT_EQ(piece.name.data(), stream.data() + stream.find("Name"));
}

}  // namespace
}  // namespace loadstar::http
