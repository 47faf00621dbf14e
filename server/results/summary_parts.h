#pragma once

#include <string>

#include "loadstar/v1/run.pb.h"

namespace loadstar::server::results {

// Words for what the API has numbers for.
std::string VerdictWord(v1::VerdictKind kind);
std::string SideWord(v1::Side side);
std::string PhaseWord(v1::ErrorPhase phase);
std::string ErrorWord(v1::ErrorKind kind);

// A threshold's figure in the unit of its metric: "12.345 ms", "0.5 %", "100,000", "19,990.2/s".
std::string FormatMeasured(const std::string& metric, double value);
// "1 h 2 min 3 s", "1.5 s"
std::string FormatSpan(const google::protobuf::Duration& duration);

// Sections of the summary; each ends with a newline.
std::string VerdictPart(const v1::Run& run);
std::string ThresholdsPart(const v1::Run& run);
std::string LedgerPart(const v1::Run& run);
std::string LatencyPart(const v1::Run& run);
std::string ErrorsPart(const v1::Run& run);
std::string NodesPart(const v1::Run& run);
std::string AgentsPart(const v1::Run& run);
// What the hosts' kernels counted over the run; empty when nothing is known of any.
std::string HostsPart(const v1::Run& run);
std::string HowPart(const v1::Run& run, const std::string& version);

}  // namespace loadstar::server::results
