// lib/rpc: how Loadstar's programs meet over gRPC 1.51: the one place for addresses that may be used, channel and
// server arguments, and the mapping of absl::Status with details to gRPC's. See docs/decisions for the traps it is
// built around.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/rpc/error_details.pb.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::rpc {

// Until mutual TLS exists: OK for loopback addresses ("127.x:PORT", "[::1]:PORT", "localhost:PORT", "unix:PATH"); for
// others only when `insecure`. The error says that and names the flag.
absl::Status CheckAddress(const std::string& address, bool insecure);

// A channel with keepalive, size limits and loopback rules set as design says. Never waits.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address);
// Sets size limits, keepalive, port-sharing off, health and reflection.
void ConfigureServer(grpc::ServerBuilder* builder);

// Statuses. A detail is attached as a payload under its type URL, inside (absl) as outside (google.rpc.Status).
absl::Status WithBadRequest(absl::Status status, const google::rpc::BadRequest& details);
absl::Status InvalidDocument(const std::vector<v1::DocumentProblem>& problems);  // INVALID_ARGUMENT + BadRequest
// FAILED_PRECONDITION + PreconditionFailure + ErrorInfo(reason, domain "loadstar").
absl::Status Precondition(const std::string& reason, const std::string& subject, const std::string& description);
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace loadstar::rpc
