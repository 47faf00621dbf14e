// The node's line and JSON-RPC parser: whatever comes, and however it is cut into pieces, every answer is one line of
// JSON with jsonrpc 2.0, and the cutting changes nothing. Found inputs go to tests/fuzz/corpus/target_line.
#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "target/json_rpc.h"
#include "target/line_splitter.h"

namespace {

using loadstar::target::JsonRpc;
using loadstar::target::LineSplitter;

constexpr size_t kLineMax = 4096;

std::string AnswersTo(std::string_view stream, size_t piece) {
  JsonRpc rpc("fuzz", "0");
  LineSplitter lines;
  std::string answers;
  while (!stream.empty()) {
    const LineSplitter::Result result = lines.Feed(stream.substr(0, piece), kLineMax, [&](std::string_view line) {
      if (rpc.Answer(line, nullptr, &answers).answered) {
        answers.push_back('\n');
      }
      return true;
    });
    if (result != LineSplitter::Result::kMore) {
      answers += "(too long)\n";
      break;
    }
    stream.remove_prefix(std::min(piece, stream.size()));
  }
  return answers;
}

void Require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const size_t piece = 1 + data[0] % 37;
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = AnswersTo(stream, SIZE_MAX);
  Require(whole == AnswersTo(stream, piece));
  LineSplitter lines;
  simdjson::dom::parser parser;
  lines.Feed(whole, SIZE_MAX, [&](std::string_view line) {
    if (line != "(too long)") {
      simdjson::dom::element answer;
      std::string_view version;
      Require(parser.parse(line.data(), line.size()).get(answer) == simdjson::SUCCESS);
      Require(answer["jsonrpc"].get(version) == simdjson::SUCCESS && version == "2.0");
      Require((answer["result"].error() == simdjson::SUCCESS) != (answer["error"].error() == simdjson::SUCCESS));
    }
    return true;
  });
  return 0;
}
