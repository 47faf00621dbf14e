// Steps that several verbs take.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/command_line.h"
#include "client/coordinator_client.h"
#include "client/exit_code.h"
#include "client/interrupts.h"
#include "lib/spec/spec.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::client {

// Says what failed on stderr and gives the exit code for it.
ExitCode Fail(const Context& context, const absl::Status& status);
ExitCode FailInvalid(const Context& context, const std::string& text);

// Calls `action` with a client of the context's coordinator, or fails.
template <typename Action>
ExitCode WithCoordinator(const Context& context, Action action) {
  const auto client = CoordinatorClient::Create(context.coordinator, context.insecure);
  return client.ok() ? action(client->get()) : Fail(context, client.status());
}

// --set PATH=VALUE, each. False when one is none, after saying so.
bool ParseOverrides(const Context& context, const std::vector<std::string>& texts,
                    std::vector<spec::Override>* overrides);

// Looks up, reads and parses a document of the given kind. Nullopt after saying on stderr everything that is wrong.
std::optional<spec::Parsed> ReadAndParse(const Context& context, const std::string& argument, spec::Parsed::Kind kind,
                                         const std::vector<spec::Override>& overrides);

// Exports a finished run into `folder`, names the folder, and, in *summary, returns summary.txt when there is one. A
// Ctrl-C breaks it off with CANCELLED; then, as after any failure, the folder is as it was.
absl::Status ExportInto(const Context& context, const std::string& run_id, const std::string& folder,
                        CoordinatorClient* client, Interrupts* interrupts, std::string* summary);

// Shows the steps of a Deploy or a Teardown as they come and then the nodes as they stand. `call` makes the call; it is
// given what takes each message.
template <typename Response>
absl::StatusOr<v1::Deployment> ShowSteps(
    const Context& context, const std::function<absl::Status(const std::function<void(const Response&)>& take)>& call);

// The nodes of deployments as a table.
std::string DeploymentTable(const std::vector<v1::Deployment>& deployments);

}  // namespace loadstar::client
