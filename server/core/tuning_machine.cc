#include "server/core/tuning_machine.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/core/words.h"

namespace loadstar::server {
namespace {

constexpr std::string_view kPrefix = "tuning-";
constexpr std::string_view kPhases[] = {"plan", "act", "undo"};

// What a host has made of an order, for people.
std::string Outcome(v1::TuneAction action, size_t changed, size_t obstacles, bool any_step) {
  if (!any_step) return action == v1::TUNE_ACTION_APPLY ? "the profile has no settings" : "nothing is applied";
  std::string text;
  switch (action) {
    case v1::TUNE_ACTION_PLAN:
      text = changed == 0 ? "nothing has to be changed" : absl::StrCat(Counted(changed, "setting"), " to be changed");
      break;
    case v1::TUNE_ACTION_APPLY:
      text = changed == 0 ? "nothing had to be changed" : absl::StrCat(Counted(changed, "setting"), " changed");
      break;
    case v1::TUNE_ACTION_ROLLBACK:
      text = changed == 0 ? "nothing had to be put back" : absl::StrCat(Counted(changed, "setting"), " put back");
      break;
    default:
      text = obstacles == 0 ? "as it was applied" : "";
      break;
  }
  if (obstacles > 0) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", Counted(obstacles, "setting"), " not as wanted");
  }
  return text;
}

}  // namespace

std::string TuningOf(const std::string& command_id) {
  return command_id.starts_with(kPrefix) ? command_id.substr(0, command_id.find('/')) : "";
}

bool IsUndo(const v1::Command& command) {
  return command.has_tune_host() && command.command_id().ends_with(absl::StrCat("/", std::string(kPhases[2])));
}

TuningMachine::TuningMachine(const std::string& id, const v1::TuneRequest& request,
                             const std::vector<std::string>& agents, CallId caller, const Turn& turn)
    : id_(absl::StrCat(std::string(kPrefix), id)), request_(request), caller_(caller), began_(turn.now) {
  for (const std::string& agent : agents) hosts_[agent] = {};
  const bool plans_first = request.action() == v1::TUNE_ACTION_APPLY && request.all_or_nothing();
  Begin(plans_first ? State::kPlanning : State::kActing, turn);
}

std::string TuningMachine::CommandId(const std::string& agent) const {
  return absl::StrCat(id_, "/", agent, "/", std::string(kPhases[static_cast<size_t>(state_)]));
}

bool TuningMachine::Changes(const std::string& agent) const {
  return !over_ && hosts_.count(agent) > 0 &&
         (request_.action() == v1::TUNE_ACTION_APPLY || request_.action() == v1::TUNE_ACTION_ROLLBACK);
}

void TuningMachine::Begin(State state, const Turn& turn) {
  state_ = state;
  began_ = turn.now;
  for (auto& [agent, host] : hosts_) {
    v1::TuneHost order;
    order.set_allow_restart(request_.allow_restart());
    if (state == State::kUndoing) {
      if (host.to_undo.empty()) continue;
      order.set_action(v1::TUNE_ACTION_ROLLBACK);
      // Which tells whether it was applied to the host or to its virtual machine.
      *order.mutable_profile() = request_.profile();
      order.set_profile_name(request_.profile().name());
      order.mutable_keys()->Add(host.to_undo.begin(), host.to_undo.end());
    } else {
      order.set_action(state == State::kPlanning ? v1::TUNE_ACTION_PLAN : request_.action());
      if (request_.has_profile()) *order.mutable_profile() = request_.profile();
      order.set_profile_name(request_.profile_name());
      order.set_persist(request_.persist());
      order.set_force(request_.force());
      order.set_load_modules(request_.load_modules());
      order.set_containers(request_.containers());
      host = Host{.to_undo = std::move(host.to_undo)};
    }
    Order(agent, &host, std::move(order), turn);
  }
}

void TuningMachine::Order(const std::string& agent, Host* host, v1::TuneHost order, const Turn& turn) {
  host->pending = true;
  v1::Command command;
  command.set_command_id(CommandId(agent));
  *command.mutable_tune_host() = std::move(order);
  turn.Issue(agent, std::move(command));
}

void TuningMachine::OnCallerLeft(CallId caller) {
  if (caller_ == caller) caller_.reset();
}

void TuningMachine::OnStep(const std::string& agent, const v1::TuneReport& report, const Turn& turn) {
  const auto found = hosts_.find(agent);
  if (found == hosts_.end() || !found->second.pending || report.command_id() != CommandId(agent)) return;
  Host& host = found->second;
  v1::TuneStep step = report.step();
  step.set_agent(agent);
  const bool changes = step.outcome() == v1::TUNE_OUTCOME_CHANGED;
  const bool puts_back = (step.outcome() == v1::TUNE_OUTCOME_RESTORED || step.outcome() == v1::TUNE_OUTCOME_KEPT) &&
                         step.before() != step.after();
  host.any_step = true;
  if (state_ == State::kPlanning && changes && step.applied_before()) {
    step.set_obstacle(true);
    step.set_message(absl::StrCat("profile ", step.profile(),
                                  " was applied to it before, which could not be had back if this were undone; roll "
                                  "it back first, or tune without all-or-nothing"));
  }
  if (state_ == State::kPlanning && !step.applied_before() &&
      (changes || step.outcome() == v1::TUNE_OUTCOME_FULFILLED)) {
    host.to_undo.insert(step.key());
  }
  if (state_ != State::kUndoing) {
    const std::pair name(step.profile(), step.key());
    if (changes || puts_back) host.changed.insert(name);
    if (step.obstacle()) host.obstacles.insert(name);
  } else if (step.obstacle()) {
    host.put_back = false;
    host.message = absl::StrCat(host.message, "; ", step.key(), " could not be put back: ", step.message());
  }
  if (state_ == State::kPlanning && !step.obstacle()) return;  // applying tells it
  v1::TuneResponse response;
  *response.mutable_step() = std::move(step);
  Tell(std::move(response), false, turn);
}

void TuningMachine::OnResult(const std::string& agent, const v1::Command& command, const absl::Status& status,
                             const Turn& turn) {
  const auto found = hosts_.find(agent);
  if (found == hosts_.end() || !found->second.pending || command.command_id() != CommandId(agent)) return;
  Finish(agent, &found->second, status, turn);
  Advance(turn);
}

void TuningMachine::OnTick(const Turn& turn) {
  const bool of_machine = request_.profile().has_virtual_machine();
  const bool late = turn.now - began_ >= (of_machine ? turn.options.tune_machine_timeout : turn.options.tune_timeout);
  for (auto& [agent, host] : hosts_) {
    if (!host.pending || (!late && !turn.GivenUp(agent))) continue;
    if (state_ != State::kUndoing) {
      turn.commands.Drop(
          agent, [id = CommandId(agent)](const v1::Command& command) { return command.command_id() == id; },
          turn.actions);
    }
    std::string why = late ? "it did not come to an end in time" : "the agent went out of reach";
    if (state_ == State::kUndoing) absl::StrAppend(&why, "; it puts back what it changed when it is back");
    if (state_ == State::kActing) {
      absl::StrAppend(&why, "; what it did is not known here: when it is back, see loadstar tune status --agent ",
                      agent);
    }
    Finish(agent, &host, absl::DeadlineExceededError(why), turn);
  }
  Advance(turn);
}

void TuningMachine::Finish(const std::string& agent, Host* host, const absl::Status& status, const Turn& turn) {
  host->pending = false;
  if (state_ == State::kUndoing) {
    host->put_back = host->put_back && status.ok();
    if (host->put_back) absl::StrAppend(&host->message, "; put back, because it is all or nothing");
    if (!status.ok()) absl::StrAppend(&host->message, "; not put back: ", status.message());
    return;
  }
  host->ok = status.ok() && (host->obstacles.empty() || request_.action() == v1::TUNE_ACTION_PLAN);
  host->message = status.ok() ? Outcome(state_ == State::kPlanning ? v1::TUNE_ACTION_PLAN : request_.action(),
                                        host->changed.size(), host->obstacles.size(), host->any_step)
                              : std::string(status.message());
  if (state_ == State::kPlanning) return;
  v1::TuneResponse response;
  *response.mutable_host() = ResultOf(agent, *host);
  Tell(std::move(response), false, turn);
}

v1::TuneHostResult TuningMachine::ResultOf(const std::string& agent, const Host& host) {
  v1::TuneHostResult result;
  result.set_agent(agent);
  result.set_ok(host.ok);
  result.set_changed(static_cast<uint32_t>(host.changed.size()));
  result.set_obstacles(static_cast<uint32_t>(host.obstacles.size()));
  result.set_message(host.message);
  return result;
}

bool TuningMachine::AllOk() const {
  return std::all_of(hosts_.begin(), hosts_.end(), [](const auto& each) { return each.second.ok; });
}

void TuningMachine::Advance(const Turn& turn) {
  if (over_ || std::any_of(hosts_.begin(), hosts_.end(), [](const auto& each) { return each.second.pending; })) return;
  if (state_ == State::kPlanning && AllOk()) return Begin(State::kActing, turn);
  const bool to_undo =
      std::any_of(hosts_.begin(), hosts_.end(), [](const auto& each) { return !each.second.to_undo.empty(); });
  if (state_ == State::kActing && to_undo && !AllOk()) {
    undone_ = true;
    return Begin(State::kUndoing, turn);
  }
  End(turn);
}

void TuningMachine::End(const Turn& turn) {
  over_ = true;
  v1::TuneResponse response;
  v1::TuneVerdict* verdict = response.mutable_verdict();
  verdict->set_ok(AllOk());
  std::vector<std::string> failed;
  std::vector<std::string> left;  // undone, and not or not fully
  size_t changed = 0;
  for (const auto& [agent, host] : hosts_) {
    v1::TuneHostResult* result = verdict->add_hosts();
    *result = ResultOf(agent, host);
    result->set_ok(host.ok && !undone_);
    const bool stands = state_ != State::kPlanning && (!undone_ || !host.put_back);
    if (!stands) result->set_changed(0);
    changed += host.changed.size();
    if (!host.ok) failed.push_back(agent);
    if (undone_ && !host.put_back) left.push_back(agent);
  }
  std::string message = failed.empty() ? absl::StrCat(Counted(hosts_.size(), "host"), " as wanted")
                                       : absl::StrCat(failed.size(), " of ", Counted(hosts_.size(), "host"),
                                                      " not as wanted: ", absl::StrJoin(failed, ", "));
  if (state_ == State::kPlanning) absl::StrAppend(&message, "; nothing was changed anywhere");
  if (undone_ && left.empty()) absl::StrAppend(&message, "; what was changed was put back");
  if (!left.empty()) {
    absl::StrAppend(&message, "; what was changed was put back, but not, or not all of it, on ",
                    absl::StrJoin(left, ", "));
  }
  if (request_.action() == v1::TUNE_ACTION_PLAN && failed.empty()) {
    message = absl::StrCat(Counted(hosts_.size(), "host"), " planned: ", Counted(changed, "setting"), " to be changed");
  }
  verdict->set_message(message);
  Tell(std::move(response), true, turn);
}

void TuningMachine::Tell(v1::TuneResponse response, bool last, const Turn& turn) const {
  if (caller_.has_value()) turn.Do(Reply{*caller_, absl::OkStatus(), std::move(response), last});
}

}  // namespace loadstar::server
