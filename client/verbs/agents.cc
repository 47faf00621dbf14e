#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/terminal/format.h"
#include "client/terminal/table.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

using terminal::Table;

std::string Doing(const v1::Agent& agent) {
  std::vector<std::string> parts;
  for (const std::string& run : agent.active_runs()) {
    parts.push_back("run " + run);
  }
  for (const std::string& deployment : agent.deployments()) {
    parts.push_back("deployment " + deployment);
  }
  return parts.empty() ? "nothing" : absl::StrJoin(parts, ", ");
}

std::string State(const v1::Agent& agent) {
  if (agent.connected()) {
    return "connected";
  }
  const absl::Time seen = terminal::ToTime(agent.last_seen());
  return seen == absl::InfinitePast() ? "out of reach"
                                      : absl::StrCat("out of reach for ", terminal::Age(absl::Now() - seen));
}

// How well the agent's clock is known. The offset itself compares a monotonic clock with a wall clock and tells people
// nothing; --json has it.
std::string ClockUncertainty(const v1::Agent& agent) {
  if (!agent.has_clock_offset()) {
    return "";
  }
  return absl::StrFormat("+-%.2f ms", absl::ToDoubleMilliseconds(terminal::ToDuration(agent.clock_uncertainty())));
}

// What tuning would make of the host's capacity.
std::string Projection(const v1::Agent& agent) {
  const v1::TunedCapacity& tuned = agent.capacity().tuned();
  return absl::StrCat("\n", terminal::Printable(agent.name()), " tuned by ", tuned.profile(), " could hold ",
                      terminal::Grouped(tuned.connections()), " connections (limited by ", tuned.binding_limit(), "), ",
                      terminal::Grouped(tuned.per_address_pair()),
                      " per address pair, by its limits as they stand: ", "loadstar tune plan ", tuned.profile(),
                      " --agent ", terminal::Printable(agent.name()));
}

class Agents : public Verb {
 public:
  std::string name() const override { return "agents"; }
  std::string help() const override { return "Hosts, their capacity and what they are doing"; }
  void Declare(Arguments* /*arguments*/) override {}

  ExitCode Run(const Context& context) override {
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      const auto response = client->ListAgents({});
      if (!response.ok()) {
        return Fail(context, response.status());
      }
      context.output->Json(*response);
      if (response->agents().empty()) {
        context.output->Text(absl::StrCat("No agent is connected. Start one with \"loadstar-agent --coordinator ",
                                          context.coordinator, " --name NAME --state DIR\"."));
        return ExitCode::kPassed;
      }
      Table table({{"AGENT"},
                   {"STATE"},
                   {"HOST"},
                   {"CORES", Table::Align::kRight},
                   {"MEMORY FREE", Table::Align::kRight},
                   {"CONNECTIONS", Table::Align::kRight},
                   {"LIMITED BY"},
                   {"PER WORKER", Table::Align::kRight},
                   {"PER ADDRESS PAIR", Table::Align::kRight},
                   {"CLOCK"},
                   {"DOING"}});
      for (const v1::Agent& agent : response->agents()) {
        const bool known = agent.has_host() && agent.has_capacity();
        table.Add({agent.name(), State(agent), agent.host().hostname(),
                   known ? std::to_string(agent.host().cores()) : "",
                   known ? terminal::Bytes(agent.host().memory_available_bytes()) : "",
                   known ? terminal::Grouped(agent.capacity().connections()) : "", agent.capacity().binding_limit(),
                   known ? terminal::Grouped(agent.capacity().per_worker()) : "",
                   known ? terminal::Grouped(agent.capacity().per_address_pair()) : "", ClockUncertainty(agent),
                   Doing(agent)});
      }
      context.output->Raw(table.Text());
      for (const v1::Agent& agent : response->agents()) {
        if (agent.connected() && agent.capacity().has_tuned()) context.output->Text(Projection(agent));
      }
      return ExitCode::kPassed;
    });
  }
};

}  // namespace

std::unique_ptr<Verb> MakeAgents() { return std::make_unique<Agents>(); }

}  // namespace loadstar::client
