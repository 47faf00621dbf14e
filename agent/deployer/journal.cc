#include "agent/deployer/journal.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "lib/os/files.h"

namespace loadstar::agent {
namespace {

std::string FileIn(const std::string& folder) { return absl::StrCat(folder, "/journal.json"); }

}  // namespace

absl::Status WriteJournal(const std::string& folder, const Journal& journal) {
  nlohmann::json document = {{"version", 1},
                             {"deployment", journal.deployment},
                             {"complete", journal.complete},
                             {"nodes", nlohmann::json::array()}};
  for (const Journal::Node& node : journal.nodes) {
    std::string spec;
    if (const auto status = google::protobuf::util::MessageToJsonString(node.spec, &spec); !status.ok()) {
      return absl::InternalError(absl::StrCat("cannot write node ", node.spec.name(), " as JSON"));
    }
    document["nodes"].push_back({{"spec", nlohmann::json::parse(spec)},
                                 {"pid", node.pid},
                                 {"start_ticks", node.start_ticks},
                                 {"restarts", node.restarts}});
  }
  return os::WriteFileAtomically(FileIn(folder), absl::StrCat(document.dump(2), "\n"));
}

absl::StatusOr<Journal> ReadJournal(const std::string& folder) {
  absl::StatusOr<std::string> text = os::ReadFile(FileIn(folder));
  if (!text.ok()) return text.status();
  // The library reports by exceptions; they end here.
  try {
    const nlohmann::json document = nlohmann::json::parse(*text);
    Journal journal;
    journal.deployment = document.at("deployment").get<std::string>();
    journal.complete = document.at("complete").get<bool>();
    for (const nlohmann::json& entry : document.at("nodes")) {
      Journal::Node node;
      google::protobuf::util::JsonParseOptions options;
      options.ignore_unknown_fields = true;  // of a newer agent
      if (!google::protobuf::util::JsonStringToMessage(entry.at("spec").dump(), &node.spec, options).ok()) {
        return absl::DataLossError(absl::StrCat(FileIn(folder), ": a node's spec is not understood"));
      }
      node.pid = entry.at("pid").get<pid_t>();
      node.start_ticks = entry.at("start_ticks").get<uint64_t>();
      node.restarts = entry.at("restarts").get<uint32_t>();
      journal.nodes.push_back(std::move(node));
    }
    return journal;
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat(FileIn(folder), ": ", error.what()));
  }
}

absl::Status RemoveJournal(const std::string& folder) { return os::RemoveTree(FileIn(folder)); }

}  // namespace loadstar::agent
