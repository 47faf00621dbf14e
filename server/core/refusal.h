// How the core says no: absl statuses with google.rpc details as payloads, which lib/rpc passes on to gRPC clients. The
// core itself links no gRPC.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"

namespace loadstar::server {

// FAILED_PRECONDITION with PreconditionFailure{reason, subject, description} and ErrorInfo{reason, "loadstar"}.
absl::Status Precondition(absl::string_view reason, absl::string_view subject, absl::string_view description);
// INVALID_ARGUMENT with BadRequest{field, description}.
absl::Status BadField(absl::string_view field, absl::string_view description);
// NOT_FOUND with ErrorInfo{reason, "loadstar"}.
absl::Status Missing(absl::string_view reason, absl::string_view description);

// A status from the wire, its details as payloads.
absl::Status FromWire(const google::rpc::Status& status);

}  // namespace loadstar::server
