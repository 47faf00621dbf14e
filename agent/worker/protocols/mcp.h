// What the Model Context Protocol (revision 2025-06-18) says whatever carries it: the messages of a client, and what an
// answer means.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/worker/errors.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::worker {

inline constexpr std::string_view kMcpRevision = "2025-06-18";
// Requests carry ids from 2,048 on (see in_flight.h), so 0 is the handshake's.
inline constexpr uint64_t kMcpInitializeId = 0;
inline constexpr std::string_view kMcpInitialize =
    R"({"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},)"
    R"("clientInfo":{"name":"loadstar","version":"0.1.0"}}})";
inline constexpr std::string_view kMcpInitialized = R"({"jsonrpc":"2.0","method":"notifications/initialized"})";
// Longest message of a target that is read.
inline constexpr size_t kMcpMaxMessage = 1 << 20;

// A request that is repeated, with the next id each time. Has no line breaks.
class McpRequest {
 public:
  // That of the test: ping, or tools/call. An error says which setting is wrong.
  static absl::StatusOr<McpRequest> Create(const v1::McpOptions& options);

  static McpRequest Ping() { return McpRequest(R"(,"method":"ping"})"); }

  void AppendTo(uint64_t id, std::string* out) const;
  size_t SizeOf(uint64_t id) const;

 private:
  explicit McpRequest(std::string tail) : tail_(std::move(tail)) {}
  std::string tail_;  // what follows the id
};

// What a message of the target is.
struct McpMessage {
  enum class Kind : uint8_t {
    kNotOurs,  // a notification or request of the target: there is nothing to do for a client that offers nothing
    kResult,
    kError,
    kBroken,
  } kind = Kind::kBroken;
  uint64_t id = 0;          // kResult, kError
  Failure failure = {};     // kError
  const char* broken = "";  // kBroken
};
McpMessage ReadMcpMessage(std::string_view text);

}  // namespace loadstar::worker
