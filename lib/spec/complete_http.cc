#include <algorithm>
#include <cctype>
#include <string>

#include "lib/http/text.h"
#include "lib/spec/complete.h"
#include "lib/spec/text.h"

namespace loadstar::spec {
namespace {

constexpr size_t kMaxMethod = 32;
constexpr size_t kMaxPath = size_t{8} * 1024;
constexpr int kMaxHeaders = 100;
constexpr size_t kMaxHeaderBytes = size_t{32} * 1024;
constexpr size_t kMaxBody = size_t{256} * 1024;
constexpr int kMaxStatuses = 100;
constexpr uint32_t kFirstStatus = 200, kLastStatus = 599;

void CompleteMethod(v1::HttpOptions* http, Report* report) {
  constexpr std::string_view kField = "target.http.method";
  if (http->method().empty() && !report->Spoilt(kField)) http->set_method(http->body().empty() ? "GET" : "POST");
  const std::string& method = http->method();
  if (method.size() > kMaxMethod || !http::IsToken(method)) {
    return report->Add(kField, Cat(Quoted(method), " is no method"), "Write GET, POST, PUT or the like");
  }
  if (method == "CONNECT") {
    return report->Add(kField, "CONNECT opens a tunnel, which is no request with an answer", "Write another method");
  }
  std::string upper;
  for (const char c : method) upper += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string_view known : {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"}) {
    if (upper == known && method != known) {
      report->Add(kField, Cat("methods are in upper case, and ", Quoted(method), " is another one"),
                  Cat("Write ", known));
    }
  }
}

void CompletePath(v1::HttpOptions* http, std::string_view fallback, Report* report) {
  constexpr std::string_view kField = "target.http.path";
  if (http->path().empty() && !report->Spoilt(kField)) http->set_path(std::string(fallback));
  const std::string& path = http->path();
  if (path.size() > kMaxPath) {
    report->Add(kField, Cat("the path has ", path.size(), " bytes; at most 8 KiB are allowed"));
  } else if (path.empty() || path[0] != '/') {
    report->Add(kField, Cat("the path ", Quoted(path), " does not begin with \"/\""),
                "The host is the endpoint; write what follows it, such as /index.html?page=1");
  } else if (!http::IsTarget(path) || path.find('#') != std::string::npos) {
    report->Add(kField, Cat("the path ", Quoted(path), " has characters that a request cannot carry"),
                "Percent-encode blanks, \"#\" and what is not ASCII: %20, %23, %C3%A9");
  }
}

// Null: the header may be given.
const char* WhyNot(const v1::HttpHeader& header, bool mcp) {
  const auto is = [&](std::string_view name) { return http::EqualsIgnoringCase(header.name(), name); };
  if (is("Content-Length") || is("Transfer-Encoding")) return "follows from the body";
  if (is("Connection") && !http::EqualsIgnoringCase(header.value(), "close") &&
      !http::EqualsIgnoringCase(header.value(), "keep-alive")) {
    return "is close or keep-alive";
  }
  if (is("Upgrade")) return "asks for another protocol";
  if (is("Expect")) return "asks for an answer before the body, which is sent at once";
  if (mcp && (is("Accept") || is("Content-Type") || is("Mcp-Session-Id") || is("MCP-Protocol-Version"))) {
    return "is given by the protocol mcp-http";
  }
  return nullptr;
}

void CheckHeaders(const v1::HttpOptions& http, bool mcp, Report* report) {
  if (http.headers_size() > kMaxHeaders) {
    return report->Add("target.http.headers",
                       Cat("there are ", http.headers_size(), " headers; at most ", kMaxHeaders, " are allowed"));
  }
  size_t bytes = 0;
  for (int i = 0; i < http.headers_size(); ++i) {
    const v1::HttpHeader& header = http.headers(i);
    const std::string field = Join("target.http.headers", header.name());
    bytes += header.name().size() + header.value().size();
    if (!http::IsToken(header.name())) {
      report->Add(field, Cat(Quoted(header.name()), " is no name of a header"),
                  "Letters, digits and !#$%&'*+-.^_`|~ are possible");
    } else if (!http::IsFieldValue(header.value())) {
      report->Add(field, Cat("the value ", Quoted(header.value()), " has control characters"),
                  "A header is one line: take out line breaks and the like");
    } else if (const char* why = WhyNot(header, mcp); why != nullptr) {
      report->Add(field, Cat("the header ", header.name(), " ", why), "Take it out or change it");
    }
    for (int j = 0; j < i; ++j) {
      // Several of one name are a list to HTTP; these two are none.
      if (http::EqualsIgnoringCase(http.headers(j).name(), header.name()) &&
          (http::EqualsIgnoringCase(header.name(), "Host") || http::EqualsIgnoringCase(header.name(), "Connection"))) {
        report->Add(field, Cat("the header ", header.name(), " is there twice"), "Keep one of them");
      }
    }
  }
  if (bytes > kMaxHeaderBytes) {
    report->Add("target.http.headers", Cat("the headers have ", bytes, " bytes; at most 32 KiB are allowed"));
  }
}

void CheckStatuses(const v1::HttpOptions& http, Report* report) {
  if (http.expect_status_size() > kMaxStatuses) {
    return report->Add("target.http.expect", Cat("there are ", http.expect_status_size(), " statuses; at most ",
                                                 kMaxStatuses, " are allowed"));
  }
  for (int i = 0; i < http.expect_status_size(); ++i) {
    const uint32_t status = http.expect_status(i);
    if (status >= kFirstStatus && status <= kLastStatus) continue;
    report->Add(Index("target.http.expect", static_cast<size_t>(i)), Cat(status, " is no status of an answer"),
                Cat("Write ", kFirstStatus, " to ", kLastStatus));
  }
}

}  // namespace

void CompleteHttp(v1::HttpOptions* http, Report* report) {
  CompleteMethod(http, report);
  CompletePath(http, "/", report);
  CheckHeaders(*http, /*mcp=*/false, report);
  if (http->body().size() > kMaxBody) {
    report->Add("target.http.body", Cat("the body has ", http->body().size(), " bytes; at most 256 KiB are allowed"));
  }
  CheckStatuses(*http, report);
}

void CompleteMcpHttp(v1::HttpOptions* http, Report* report) {
  constexpr std::string_view kWhy = "the protocol mcp-http makes its own";
  if (!http->method().empty()) report->Add("target.http.method", Cat("every request is a POST; ", kWhy), "Take it out");
  if (!http->body().empty()) report->Add("target.http.body", Cat("the body is JSON-RPC; ", kWhy), "Take it out");
  if (http->expect_status_size() > 0) {
    report->Add("target.http.expect", "MCP says which statuses are answers: those of 200 to 299", "Take it out");
  }
  CompletePath(http, "/mcp", report);
  CheckHeaders(*http, /*mcp=*/true, report);
}

void CheckClosingHttp(const v1::TestSpec& test, Report* report) {
  const auto& headers = test.target().http().headers();
  const bool closes = std::any_of(headers.begin(), headers.end(), [](const v1::HttpHeader& header) {
    return http::EqualsIgnoringCase(header.name(), "Connection") && http::EqualsIgnoringCase(header.value(), "close");
  });
  if (!closes) return;
  if (test.load().requests().pipeline() > 1) {
    report->Add("load.requests.pipeline",
                "every request ends its connection (Connection: close), so no other can be in flight on it",
                "Write pipeline: 1, or take the header out");
  }
  if (test.load().has_heartbeat()) {
    report->Add("load.heartbeat", "every request ends its connection (Connection: close), and so would a heartbeat",
                "Take the heartbeat or the header out");
  }
}

}  // namespace loadstar::spec
