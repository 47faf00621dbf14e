// What HTTP/1.1 requests are read as, however they are cut.
#include "lib/http/request_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace loadstar::http {
namespace {

std::string ReadBy(std::string_view stream, size_t step) {
  RequestReader reader;
  std::string text;
  std::string body;
  const auto end = [&](const std::string& how) {
    if (!body.empty()) text += "body " + body + "\n";
    body.clear();
    text += how + "\n";
  };
  Piece piece;
  while (!stream.empty()) {
    std::string_view bytes = stream.substr(0, step);
    stream.remove_prefix(bytes.size());
    for (bool more = false; !more;) {
      switch (reader.Next(&bytes, &piece)) {
        case Event::kMore:
          more = true;
          break;
        case Event::kStart:
          text.append(piece.method).append(" ").append(piece.target).append("\n");
          break;
        case Event::kHeader:
          text.append(piece.name).append("=").append(piece.value).append("\n");
          break;
        case Event::kBody:
          body.append(piece.body);
          break;
        case Event::kEnd:
          end(reader.last() ? "last" : "end");
          break;
        case Event::kBroken:
          end(std::string("broken ") + NameOf(piece.flaw));
          return text;
      }
    }
  }
  end(reader.idle() ? "idle" : reader.awaits_body() ? "awaits body" : "within");
  return text;
}

std::string Read(std::string_view stream) {
  std::string whole = ReadBy(stream, stream.size());
  for (size_t step = 1; step < stream.size(); ++step) {
    const std::string parted = ReadBy(stream, step);
    if (parted == whole) continue;
    ADD_FAILURE() << "in parts of " << step << ":\n" << parted << "instead of\n" << whole;
    break;
  }
  return whole;
}

TEST(RequestReaderTest, ReadsEveryKindOfRequest) {
  constexpr struct {
    std::string_view stream, events;
  } kRows[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\nHost=a\nend\nidle\n"},
      {"GET / HTTP/1.0\r\n\r\n", "GET /\nlast\nidle\n"},
      {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET /\nConnection=keep-alive\nend\nidle\n"},
      {"\r\n\r\nGET /a?b=%20 HTTP/1.1\r\nhost:\r\nConnection: close\r\n\r\n",
       "GET /a?b=%20\nhost=\nConnection=close\nlast\nidle\n"},
      {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\nHost: a\r\n\r\n",
       "POST /x\nHost=a\nContent-Length=2\nbody ab\nend\nGET /\nHost=a\nend\nidle\n"},
      {"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;q\r\nab\r\n1\r\nc\r\n0\r\nT: t\r\n\r\n",
       "POST /x\nHost=a\nTransfer-Encoding=chunked\nbody abc\nend\nidle\n"},
      {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", "POST /x\nHost=a\nContent-Length=2\nawaits body\n"},
      {"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
       "POST /x\nHost=a\nTransfer-Encoding=chunked\nawaits body\n"},
      {"GET / HTTP/1.1\r\nHost: a\r\n", "GET /\nHost=a\nwithin\n"},
  };
  for (const auto& [stream, events] : kRows) EXPECT_EQ(Read(stream), events) << stream;
}

TEST(RequestReaderTest, WhatCannotBeToldApartIsBroken) {
  constexpr struct {
    std::string_view stream, flaw;
  } kRows[] = {
      {"GET\r\n", "start-line"},
      {"GET /\r\n", "start-line"},
      {"GET  HTTP/1.1\r\n", "start-line"},
      {"GET  / HTTP/1.1\r\n", "start-line"},
      {"GET / x HTTP/1.1\r\n", "start-line"},
      {" GET / HTTP/1.1\r\n", "start-line"},
      {"G(T / HTTP/1.1\r\n", "start-line"},
      {"GET /\x80 HTTP/1.1\r\n", "start-line"},
      {"GET / HTTP/2\r\n", "start-line"},
      {"GET / http/1.1\r\n", "start-line"},
      {"GET / HTTP/1.1\n", "bare-lf"},
      {"GET / HTTP/1.1\r\n\r\n", "host"},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", "host"},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "two-lengths"},
      {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "two-lengths"},
      {"GET / HTTP/1.1\r\nContent-Length: x\r\n", "content-length"},
  };
  for (const auto& [stream, flaw] : kRows) {
    const std::string events = Read(stream);
    EXPECT_NE(events.find("broken " + std::string(flaw) + "\n"), std::string::npos) << stream << "\n" << events;
  }
}

TEST(RequestReaderTest, EmptyLinesBeforeARequestAreBounded) {
  std::string lines;
  while (lines.size() <= MessageReader::kMaxHead) lines += "\r\n";
  EXPECT_EQ(ReadBy(lines, lines.size()), "broken head-too-long\n");
}

}  // namespace
}  // namespace loadstar::http
