// Whatever a target sends over an MCP connection, in whatever cuts: no crash, no unbounded memory, and the same events
// as when it comes in one piece.
#include <cstdlib>
#include <string>

#include "agent/worker/protocols/mcp_tcp.h"

namespace {

struct Log final : loadstar::worker::ProtocolEvents {
  bool OnReady() override { return Note("r"); }
  bool OnAnswer(uint64_t id) override { return Note("a" + std::to_string(id)); }
  bool OnErrorAnswer(uint64_t id, const loadstar::worker::Failure& failure) override {
    return Note("e" + std::to_string(id) + failure.detail);
  }
  uint64_t OldestInFlight() const override { return 0; }
  bool OnSend(std::span<const std::byte> /*bytes*/) override { return Note("s"); }
  void OnBroken(const char* detail) override {
    Note(detail);
    broken = true;
  }
  void OnLast() override { Note("l"); }
  bool Note(const std::string& what) {
    text += what + ";";
    return true;
  }
  std::string text;
  bool broken = false;
};

std::string Read(const uint8_t* data, size_t size, size_t step) {
  loadstar::worker::McpTcp protocol(*loadstar::worker::McpRequest::Create({}), 1);
  std::string greeting;
  if (protocol.Begin(0, 0, &greeting)) std::abort();
  Log log;
  for (size_t at = 0; at < size && !log.broken; at += step) {
    const size_t length = std::min(step, size - at);
    protocol.OnReceived(0, std::as_bytes(std::span(data + at, length)), &log);
  }
  return log.text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t step = 1 + data[0];
  if (Read(data + 1, size - 1, size) != Read(data + 1, size - 1, step)) std::abort();
  return 0;
}
