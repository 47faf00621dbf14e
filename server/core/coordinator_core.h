// server/core: everything the coordinator decides. Deterministic: it is given inputs and the time and returns actions;
// it has no thread, clock, socket or random source of its own (options carry a seed). The shell (server/service,
// server/store) runs it on one thread, commits the writes of a batch of inputs in one transaction, and only then
// carries out the rest of their actions in order: so nothing that an agent or client was told is lost by kill -9.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "loadstar/v1/agent_service.pb.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::server {

// A session stream or a client's call, numbered by the shell; never reused within one life of the coordinator.
using SessionId = uint64_t;
using CallId = uint64_t;

// ---- Inputs

struct SessionOpened {
  SessionId session;
  v1::AgentHello hello;
};
struct SessionClosed {
  SessionId session;
};
struct SessionSaid {
  SessionId session;
  v1::SessionRequest message;  // heartbeat or report
};
// A client's call. Documents have been parsed, defaults filled in and endpoints resolved by the shell.
struct ClientCalled {
  CallId call;
  struct StartTest {
    v1::TestSpec test;                   // complete and valid
    std::vector<std::string> endpoints;  // numeric; empty when the target is a deployment
    std::string request_id;
  };
  std::variant<v1::ListAgentsRequest, v1::DeployRequest /*stack set*/, v1::TeardownRequest, v1::ListDeploymentsRequest,
               v1::TuneRequest /*profile set and complete, where the action needs one*/, StartTest,
               v1::UpdateLoadRequest, v1::StopTestRequest,
               v1::TestSpec /*capacity check of Validate; answered with ValidateResponse*/>
      request;
};
// The caller of a streaming call (Deploy, Teardown, Tune) went away: what was begun goes on.
struct ClientLeft {
  CallId call;
};
struct Tick {};
using Input = std::variant<SessionOpened, SessionClosed, SessionSaid, ClientCalled, ClientLeft, Tick>;

// ---- Actions, to be carried out in order after the writes are durable

struct SendToAgent {
  SessionId session;
  v1::SessionResponse message;
};
// End the session's stream with this status.
struct CloseSession {
  SessionId session;
  absl::Status status;
};
// An answer. `last` ends the call; a failed status is always last and carries no response.
struct Reply {
  CallId call;
  absl::Status status;
  std::variant<std::monostate, v1::ListAgentsResponse, v1::DeployResponse, v1::TeardownResponse,
               v1::ListDeploymentsResponse, v1::TuneResponse, v1::StartTestResponse, v1::UpdateLoadResponse,
               v1::StopTestResponse, v1::ValidateResponse>
      response;
  bool last = true;
};
// Durable writes.
struct PutRun {  // insert or replace by run_id
  v1::Run run;
  // Set on the first put of a run whose StartTest carried one: to be kept beside it (see Restored::request_ids).
  std::string request_id = "";
};
// The seconds that an agent reported; (run, agent, elapsed_s) is unique, a repeat replaces nothing.
struct PutSample {
  std::string agent;
  v1::AgentSample sample;
};
// The merge of one second over all agents, ready for subscribers: (run, to_elapsed_s) is unique, a repeat replaces.
struct PutSnapshot {
  v1::Snapshot snapshot;
};
// How far the reports of an agent's instance have been taken.
struct PutCursor {
  std::string agent;
  std::string instance_id;
  uint64_t sequence;
};
struct PutDeployment {
  v1::Deployment deployment;
};
struct DeleteDeployment {
  std::string name;
};
// The cursors of an agent, or of one instance of it, that will not come back.
struct DeleteCursors {
  std::string agent;
  std::string instance_id;  // empty: all of the agent's
};
// Commands whose result is outstanding, so that they survive a restart.
struct PutCommand {
  std::string agent;
  v1::Command command;
};
struct DeleteCommand {
  std::string command_id;
};
// Tell subscribers of a run that something new is in the store.
struct Publish {
  std::string run_id;
};
using Action = std::variant<SendToAgent, CloseSession, Reply, PutRun, PutSample, PutSnapshot, PutCursor, DeleteCursors,
                            PutDeployment, DeleteDeployment, PutCommand, DeleteCommand, Publish>;

struct StoredCursor {
  PutCursor cursor;
  absl::Time updated = absl::InfinitePast();  // when it was put
};

// What the store held at the start.
struct Restored {
  std::vector<v1::Run> unfinished_runs;
  // Every sample of those runs, by run in order of arrival.
  std::vector<PutSample> samples;
  std::vector<StoredCursor> cursors;
  std::vector<v1::Deployment> deployments;
  std::vector<PutCommand> commands;
  // request_id -> run_id of StartTest, recent ones.
  std::map<std::string, std::string> request_ids;
  // Ids of all runs that were created in the last minute (run ids carry the second).
  std::vector<std::string> recent_run_ids;
};

struct CoordinatorOptions {
  // Time from the moment all agents are ready to the common start.
  absl::Duration start_delay = absl::Seconds(1);
  // An agent out of reach for longer is lost to its runs.
  absl::Duration agent_lost_after = absl::Seconds(30);
  // An agent that was not seen for so long, and that nothing here refers to, is forgotten.
  absl::Duration agent_forgotten_after = absl::Hours(24 * 7);
  // A live snapshot waits this long past its second for a late agent, then names it as missing.
  absl::Duration snapshot_patience = absl::Seconds(3);
  // Preparation of a run, and the end of it after its profile is over, may take this long.
  absl::Duration prepare_timeout = absl::Seconds(60);
  absl::Duration drain_timeout = absl::Seconds(60);
  // A host may take this long to plan, to apply and to put back.
  absl::Duration tune_timeout = absl::Minutes(5);
  // The same when the profile has a virtual machine, which is created or started for it: longer than the programs that
  // do so are given by the agent (agent/tuner/colima/colima_cli.cc), so that what they say arrives.
  absl::Duration tune_machine_timeout = absl::Minutes(30);
  // Seeds the ids it draws.
  uint64_t seed = 0;
};

class CoordinatorCore {
 public:
  CoordinatorCore(const CoordinatorOptions& options, Restored restored, absl::Time now);
  ~CoordinatorCore();

  // Takes one input; appends what follows from it to *actions. `now` never goes back. When it comes much later than
  // NextTick() asked for, this process stood still: agents that were not heard meanwhile are not to blame for it.
  void Handle(Input input, absl::Time now, std::vector<Action>* actions);
  // Takes back what Handle has just been given, if that was this call's StartTest: the run never was, and the actions
  // that Handle appended must be thrown away. For a shell that could not make them durable.
  void Revoke(CallId call);
  // When it wants a Tick at the latest.
  absl::Time NextTick() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace loadstar::server
