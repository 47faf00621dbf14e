#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "lib/spec/address.h"
#include "lib/spec/complete.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr int kMaxEndpoints = 1024;
constexpr uint32_t kDefaultPayload = 64, kMinPayload = 8, kMaxPayload = 65'536;
constexpr size_t kMaxArguments = size_t{64} * 1024;
constexpr size_t kMaxTool = 256;

void CheckEndpoints(const v1::TargetSpec& target, Report* report) {
  if (target.endpoints_size() > kMaxEndpoints) {
    return report->Add("target.endpoints", Cat("there are ", target.endpoints_size(), " endpoints; at most ",
                                               kMaxEndpoints, " are allowed"));
  }
  std::set<std::string> seen;
  for (int i = 0; i < target.endpoints_size(); ++i) {
    const std::string field = Index("target.endpoints", static_cast<size_t>(i));
    HostPort address;
    if (MaybeFlaw flaw = ReadHostPort(target.endpoints(i), &address)) {
      report->Add(field, *std::move(flaw));
    } else if (!seen.insert(address.ToString()).second) {
      report->Add(field, Cat("the endpoint ", target.endpoints(i), " is there twice"), "Keep one of them");
    }
  }
}

void CheckWhat(const v1::TargetSpec& target, Report* report) {
  const bool has_stack = !target.stack().empty() || report->Spoilt("target.stack");
  const bool has_endpoints = target.endpoints_size() > 0 || report->Spoilt("target.endpoints");
  if (!target.stack().empty() && target.endpoints_size() > 0) {
    return report->Add("target.endpoints", "the target has both a stack and endpoints", "Keep one of the two");
  }
  if (!has_stack && !has_endpoints) {
    return report->Add("target", "the target has neither a stack nor endpoints",
                       "Write stack: NAME or endpoints: [127.0.0.1:9100]");
  }
  if (!target.stack().empty()) CheckName("target.stack", target.stack(), "four-nodes", report);
  CheckEndpoints(target, report);
}

void CompleteTcp(v1::TcpOptions* tcp, Report* report) {
  if (tcp->payload_bytes() == 0 && !report->Spoilt("target.tcp.payload")) tcp->set_payload_bytes(kDefaultPayload);
  if (tcp->payload_bytes() < kMinPayload || tcp->payload_bytes() > kMaxPayload) {
    report->Add("target.tcp.payload", Cat("a payload of ", tcp->payload_bytes(), " bytes is out of bounds"),
                Cat("Between ", kMinPayload, " and ", kMaxPayload, " bytes are possible"));
  }
}

void CompleteMcp(v1::McpOptions* mcp, Report* report) {
  if (report->Spoilt("target.mcp.method")) return;
  if (mcp->method().empty()) mcp->set_method(mcp->tool().empty() ? "ping" : "tools/call");
  const bool calls = mcp->method() == "tools/call";
  if (!calls && mcp->method() != "ping") {
    return report->Add("target.mcp.method", Cat("unknown method ", Quoted(mcp->method())), "Write ping or tools/call");
  }
  if (!calls) {
    if (!mcp->tool().empty())
      report->Add("target.mcp.tool", "ping calls no tool", "Write method: tools/call or take the tool out");
    if (!mcp->arguments_json().empty()) {
      report->Add("target.mcp.arguments", "ping has no arguments",
                  "Write method: tools/call or take the arguments out");
    }
    return;
  }
  if (mcp->tool().empty() && !report->Spoilt("target.mcp.tool")) {
    report->Add("target.mcp.tool", "tools/call needs the tool's name", "Write tool: NAME");
  }
  CheckText("target.mcp.tool", mcp->tool(), kMaxTool, report);
  if (report->Spoilt("target.mcp.arguments")) return;
  if (mcp->arguments_json().empty()) mcp->set_arguments_json("{}");
  if (mcp->arguments_json().size() > kMaxArguments) {
    report->Add("target.mcp.arguments",
                Cat("the arguments have ", mcp->arguments_json().size(), " bytes as JSON; at most 64 KiB are allowed"));
  } else if (!nlohmann::json::parse(mcp->arguments_json(), nullptr, false).is_object()) {
    report->Add("target.mcp.arguments", "the arguments are no JSON object", "Write a mapping, such as {text: hello}");
  }
}

// Settings that the protocol has no use for.
void RefuseOthers(const v1::TargetSpec& target, std::string_view protocol, Report* report) {
  const bool mcp = protocol.starts_with("mcp-");
  const auto refuse = [&](std::string_view key, std::string_view of, std::string_view proposal) {
    report->Add(Cat("target.", key), Cat("settings of ", of, " do not apply to the protocol ", protocol),
                Cat("Take them out or write protocol: ", proposal));
  };
  if (target.has_tcp() && protocol != "tcp") refuse("tcp", "tcp", "tcp");
  if (target.has_mcp() && !mcp) refuse("mcp", "MCP", protocol == "http" ? "mcp-http" : "mcp-tcp");
  if (target.has_http() && protocol != "http" && protocol != "mcp-http") {
    refuse("http", "HTTP", mcp ? "mcp-http" : "http");
  }
}

}  // namespace

void CompleteTarget(v1::TargetSpec* target, Report* report) {
  CheckWhat(*target, report);
  switch (target->protocol()) {
    case v1::PROTOCOL_TCP:
      RefuseOthers(*target, "tcp", report);
      CompleteTcp(target->mutable_tcp(), report);
      break;
    case v1::PROTOCOL_MCP_TCP:
      RefuseOthers(*target, "mcp-tcp", report);
      CompleteMcp(target->mutable_mcp(), report);
      break;
    case v1::PROTOCOL_HTTP:
      RefuseOthers(*target, "http", report);
      CompleteHttp(target->mutable_http(), report);
      break;
    case v1::PROTOCOL_MCP_HTTP:
      RefuseOthers(*target, "mcp-http", report);
      CompleteMcp(target->mutable_mcp(), report);
      CompleteMcpHttp(target->mutable_http(), report);
      break;
    default:
      if (!report->Spoilt("target.protocol")) {
        report->Add("target.protocol", "there is no known protocol", "Write protocol: tcp, mcp-tcp, http or mcp-http");
      }
  }
}

}  // namespace loadstar::spec
