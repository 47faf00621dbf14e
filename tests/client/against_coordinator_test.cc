// The program against a coordinator that is scripted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "lib/rpc/rpc.h"
#include "tests/client/documents.h"
#include "tests/client/fake_coordinator.h"
#include "tests/client/program_process.h"
#include "tests/client/terminal/sample_run.h"

namespace loadstar::client {
namespace {

using terminal::SampleRun;
using terminal::SampleSnapshot;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kRunId[] = "smoke-20261124-204033";

// One host that is changed and meets an obstacle, and its verdict.
std::vector<v1::TuneResponse> Tuning(bool ok) {
  std::vector<v1::TuneResponse> responses(3);
  v1::TuneStep* changed = responses[0].mutable_step();
  changed->set_agent("host1");
  changed->set_profile("mine");
  changed->set_key("net.ipv4.tcp_fin_timeout");
  changed->set_outcome(v1::TUNE_OUTCOME_CHANGED);
  changed->set_before("60");
  changed->set_after("30");
  changed->set_lowers(true);
  v1::TuneStep* obstacle = responses[1].mutable_step();
  obstacle->set_agent("host1");
  obstacle->set_key("fs.file-max");
  obstacle->set_outcome(v1::TUNE_OUTCOME_READ_ONLY);
  obstacle->set_obstacle(!ok);
  obstacle->set_message("it cannot be written here by this agent");
  v1::TuneVerdict* verdict = responses[2].mutable_verdict();
  verdict->set_ok(ok);
  verdict->set_message(ok ? "1 host as wanted" : "1 of 1 host not as wanted: host1");
  v1::TuneHostResult* host = verdict->add_hosts();
  host->set_agent("host1");
  host->set_ok(ok);
  host->set_message("1 setting changed");
  return responses;
}

class AgainstCoordinator : public ::testing::Test {
 protected:
  AgainstCoordinator() {
    coordinator_.SetRun(SampleRun());
    coordinator_.SetFiles({{"summary.txt", "the summary of the run\n"}, {"run.json", "{}"}});
    folder_.Write("smoke.yaml", kTestYaml);
    folder_.Write("stack.yaml", kStackYaml);
  }
  Ended Run(const std::vector<std::string>& arguments) {
    return RunProgram(arguments, {"LOADSTAR_COORDINATOR=" + coordinator_.address()}, folder_.path());
  }
  ProgramProcess::Options Options(std::vector<std::string> arguments) {
    ProgramProcess::Options options;
    options.arguments = std::move(arguments);
    options.environment = {"LOADSTAR_COORDINATOR=" + coordinator_.address()};
    options.folder = folder_.path();
    return options;
  }
  // Seconds [from, to) and the end.
  void PublishAll(uint32_t from, uint32_t to, v1::VerdictKind verdict) {
    for (uint32_t second = from; second < to; ++second) {
      coordinator_.Publish(SampleSnapshot(second));
    }
    coordinator_.Finish(verdict);
  }
  static std::vector<nlohmann::json> JsonLines(const std::string& text) {
    std::vector<nlohmann::json> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      lines.push_back(nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false));
      EXPECT_TRUE(lines.back().is_object()) << line;
    }
    return lines;
  }

  FakeCoordinator coordinator_;
  const TemporaryFolder folder_;
};

TEST_F(AgainstCoordinator, RunStartsWatchesAndWritesTheResults) {
  PublishAll(0, 3, v1::VERDICT_KIND_PASSED);
  const Ended ended = Run({"run", "smoke.yaml", "--set", "load.connections[0].to=7", "--scale", "0.5"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(ended.out, HasSubstr("0:01/2:00  ramp 0 -> 100k"));
  EXPECT_THAT(ended.out, HasSubstr("0:03/2:00  ramp 0 -> 100k"));
  EXPECT_THAT(ended.out, HasSubstr(std::string("the summary of the run\n\nResults: results/") + kRunId + "\n"));
  EXPECT_EQ(folder_.Read(std::string("results/") + kRunId + "/run.json"), "{}");
  const auto starts = coordinator_.starts();
  ASSERT_EQ(starts.size(), 1u);
  EXPECT_EQ(starts[0].test().name(), "smoke");
  EXPECT_EQ(starts[0].test().load().connections(0).to_connections(), 7u);
  EXPECT_EQ(starts[0].scale(), 0.5);
  EXPECT_EQ(starts[0].request_id().size(), 32u);
}

TEST_F(AgainstCoordinator, TheVerdictIsTheExitCode) {
  PublishAll(0, 1, v1::VERDICT_KIND_FAILED);
  EXPECT_EQ(Run({"run", "smoke.yaml"}).code, 1);
  EXPECT_EQ(Run({"watch", kRunId}).code, 1);
  EXPECT_EQ(Run({"show", kRunId}).code, 0);
  coordinator_.Finish(v1::VERDICT_KIND_NOT_TRUSTWORTHY);
  EXPECT_EQ(Run({"run", "smoke.yaml"}).code, 3);
  coordinator_.Finish(v1::VERDICT_KIND_NOT_CARRIED_OUT);
  EXPECT_EQ(Run({"run", "smoke.yaml"}).code, 4);
  coordinator_.Finish(v1::VERDICT_KIND_STOPPED);
  EXPECT_EQ(Run({"run", "smoke.yaml"}).code, 4);
}

TEST_F(AgainstCoordinator, OutputNamesTheFolder) {
  PublishAll(0, 1, v1::VERDICT_KIND_PASSED);
  const Ended ended = Run({"run", "smoke.yaml", "--output", "here/mine"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(folder_.Read("here/mine/summary.txt"), "the summary of the run\n");
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/results"));
}

TEST_F(AgainstCoordinator, ResultsThatCannotBeWrittenAreNotPassed) {
  PublishAll(0, 1, v1::VERDICT_KIND_PASSED);
  folder_.Write("file", "x");
  const Ended ended = Run({"run", "smoke.yaml", "--output", "file/results"});
  EXPECT_EQ(ended.code, 4);
  EXPECT_THAT(ended.err, HasSubstr("file/results"));
  EXPECT_THAT(ended.err, HasSubstr("loadstar export"));
  // The figures are shown all the same.
  EXPECT_THAT(ended.out, HasSubstr("verdict      passed"));
}

TEST_F(AgainstCoordinator, JsonIsOneObjectALineOnStdoutAlone) {
  PublishAll(0, 3, v1::VERDICT_KIND_PASSED);
  const Ended ended = Run({"--json", "run", "smoke.yaml"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  const auto lines = JsonLines(ended.out);
  ASSERT_GE(lines.size(), 6u);
  EXPECT_EQ(lines[0]["run"]["run_id"], kRunId);
  int snapshots = 0;
  for (const auto& line : lines) {
    ASSERT_EQ(line.size(), 1u);
    snapshots += static_cast<int>(line.contains("snapshot"));
  }
  EXPECT_EQ(snapshots, 3);
  EXPECT_EQ(lines[lines.size() - 2]["run"]["verdict"]["kind"], "VERDICT_KIND_PASSED");
  EXPECT_EQ(lines.back()["export"]["folder"], std::string("results/") + kRunId);
  EXPECT_EQ(lines.back()["export"]["files"].size(), 2u);
}

TEST_F(AgainstCoordinator, EveryVerbHasJson) {
  PublishAll(0, 1, v1::VERDICT_KIND_PASSED);
  v1::Deployment deployment;
  deployment.set_name("two-nodes");
  deployment.set_state(v1::DEPLOYMENT_STATE_HEALTHY);
  coordinator_.SetDeployment({v1::Event()}, deployment);
  coordinator_.SetTuning(Tuning(true));
  const std::vector<std::vector<std::string>> calls = {{"agents"},
                                                       {"deployments"},
                                                       {"deploy", "stack.yaml"},
                                                       {"tune", "status"},
                                                       {"runs"},
                                                       {"show", kRunId},
                                                       {"watch", kRunId},
                                                       {"export", kRunId},
                                                       {"validate", "smoke.yaml"},
                                                       {"stop", kRunId, "--abort"},
                                                       {"update", kRunId, "--set", "connections=5k"},
                                                       {"teardown", "two-nodes"},
                                                       {"run", "smoke.yaml", "--detach"}};
  for (std::vector<std::string> arguments : calls) {
    SCOPED_TRACE(arguments[0]);
    arguments.push_back("--json");
    const Ended ended = Run(arguments);
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_EQ(ended.err, "");
    EXPECT_THAT(JsonLines(ended.out), Not(IsEmpty()));
  }
}

TEST_F(AgainstCoordinator, DetachStartsAndSaysHowToGoOn) {
  const Ended ended = Run({"run", "smoke.yaml", "--detach"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr(std::string("loadstar watch ") + kRunId));
  EXPECT_THAT(coordinator_.cursors(), IsEmpty());
}

TEST_F(AgainstCoordinator, ARefusalForCapacityIsToldAsTheCoordinatorWordsIt) {
  // Which scale fits, or that none does, only the coordinator knows.
  for (const std::string told : {"host1 holds 20,000 of 100,000 connections; run it with --scale 0.2, or add agents",
                                 "host1 holds 0 of 100,000 connections; no scale fits; add agents"}) {
    coordinator_.RefuseStart(rpc::Precondition("CAPACITY", "descriptors", told));
    const Ended ended = Run({"run", "smoke.yaml"});
    EXPECT_EQ(ended.code, 4);
    EXPECT_EQ(ended.out, "");
    EXPECT_EQ(ended.err, "loadstar: " + told + "\n");
  }
}

TEST_F(AgainstCoordinator, ATestThatTheCoordinatorFindsInvalidIsInvalidInput) {
  coordinator_.RefuseStart(absl::InvalidArgumentError("no such host: nowhere.invalid"));
  const Ended ended = Run({"run", "smoke.yaml"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.err, HasSubstr("nowhere.invalid"));
}

TEST_F(AgainstCoordinator, UnknownRunsAreInvalidInput) {
  for (const char* verb : {"watch", "show", "stop", "export"}) {
    const Ended ended = Run({verb, "none"});
    EXPECT_EQ(ended.code, 2) << verb;
    EXPECT_THAT(ended.err, HasSubstr("there is no run \"none\"")) << verb;
  }
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/results"));
}

TEST_F(AgainstCoordinator, AnUnfinishedRunIsNotExported) {
  const Ended ended = Run({"export", kRunId});
  EXPECT_EQ(ended.code, 4);
  EXPECT_THAT(ended.err, HasSubstr("not finished yet"));
}

TEST_F(AgainstCoordinator, WatchGoesOnAtItsCursorWhenTheCoordinatorRestarts) {
  coordinator_.Publish(SampleSnapshot(0));
  coordinator_.Publish(SampleSnapshot(1));
  ProgramProcess process(Options({"watch", kRunId, "--json"}));
  ASSERT_TRUE(process.WaitForOut("\"to_elapsed_s\":1")) << process.err();
  coordinator_.Down();
  ASSERT_TRUE(process.WaitForErr("lost the coordinator")) << process.err();
  coordinator_.Publish(SampleSnapshot(2));
  coordinator_.Up();
  ASSERT_TRUE(process.WaitForErr("the coordinator is back")) << process.err();
  coordinator_.Finish(v1::VERDICT_KIND_PASSED);
  EXPECT_EQ(process.Wait(), 0) << process.err();
  EXPECT_THAT(coordinator_.cursors(), ElementsAre(0, 2));
  std::vector<int> seconds;
  for (const auto& line : JsonLines(process.out())) {
    if (line.contains("snapshot")) {
      seconds.push_back(line["snapshot"]["to_elapsed_s"]);
    }
  }
  EXPECT_THAT(seconds, ElementsAre(0, 1, 2));
}

TEST_F(AgainstCoordinator, CtrlCOnceStopsTheRunAndWatchesItToItsEnd) {
  coordinator_.Publish(SampleSnapshot(0));
  ProgramProcess process(Options({"run", "smoke.yaml"}));
  ASSERT_TRUE(process.WaitForOut("0:01/2:00")) << process.err();
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), 4);
  ASSERT_EQ(coordinator_.stops().size(), 1u);
  EXPECT_FALSE(coordinator_.stops()[0].abort());
  EXPECT_THAT(process.out(), HasSubstr("the summary of the run"));
  EXPECT_THAT(process.err(), HasSubstr("stopping the run"));
}

TEST_F(AgainstCoordinator, CtrlCTwiceLeavesAtOnce) {
  coordinator_.SetStopEnds(false);
  coordinator_.Publish(SampleSnapshot(0));
  ProgramProcess process(Options({"run", "smoke.yaml"}));
  ASSERT_TRUE(process.WaitForOut("0:01/2:00")) << process.err();
  process.Signal(SIGINT);
  ASSERT_TRUE(process.WaitForErr("once more to leave it")) << process.err();
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 4);
  EXPECT_THAT(process.err(), HasSubstr(std::string("loadstar watch ") + kRunId));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/results"));
}

// Until `done`; false after 20 s.
bool WaitUntil(const std::function<bool()>& done) {
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (!done()) {
    if (absl::Now() > limit) {
      return false;
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

TEST_F(AgainstCoordinator, CtrlCBeforeTheRunHasANameStopsItAsSoonAsItHas) {
  for (const bool detach : {false, true}) {
    coordinator_.SetRun(SampleRun());
    coordinator_.HoldStarts(true);
    const size_t stops = coordinator_.stops().size();
    const size_t starts = coordinator_.starts().size();
    ProgramProcess process(Options(detach ? std::vector<std::string>{"run", "smoke.yaml", "--detach"}
                                          : std::vector<std::string>{"run", "smoke.yaml"}));
    ASSERT_TRUE(WaitUntil([&] { return coordinator_.starts().size() > starts; }));
    process.Signal(SIGINT);
    ASSERT_TRUE(process.WaitForErr("will be stopped as soon as the coordinator has named it")) << process.err();
    EXPECT_EQ(coordinator_.stops().size(), stops);
    coordinator_.HoldStarts(false);
    EXPECT_EQ(process.Wait(), 4) << process.err();
    EXPECT_EQ(coordinator_.stops().size(), stops + 1);
    EXPECT_THAT(process.out(), HasSubstr("the summary of the run"));
  }
}

TEST_F(AgainstCoordinator, CtrlCTwiceBeforeTheRunHasANameLeavesAtOnce) {
  coordinator_.HoldStarts(true);
  ProgramProcess process(Options({"run", "smoke.yaml"}));
  ASSERT_TRUE(WaitUntil([&] { return coordinator_.starts().size() == 1; }));
  process.Signal(SIGINT);
  ASSERT_TRUE(process.WaitForErr("once more to leave")) << process.err();
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), 4);
  EXPECT_THAT(process.err(), HasSubstr("may have begun: \"loadstar runs\" shows it"));
  EXPECT_THAT(coordinator_.stops(), IsEmpty());
}

TEST_F(AgainstCoordinator, CtrlCDuringTheExportLeavesNoHalfResultsAndSaysHowToGetThem) {
  PublishAll(0, 1, v1::VERDICT_KIND_PASSED);
  coordinator_.HoldExports();
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"run", "smoke.yaml"}, std::vector<std::string>{"export", kRunId}}) {
    const int exports = coordinator_.exports();
    ProgramProcess process(Options(arguments));
    ASSERT_TRUE(WaitUntil([&] { return coordinator_.exports() > exports; })) << process.err();
    process.Signal(SIGINT);
    EXPECT_EQ(process.Wait(), 4) << arguments[0];
    EXPECT_THAT(process.err(), HasSubstr("the export was broken off, as asked"));
    if (arguments[0] == "run") {
      EXPECT_THAT(process.err(), HasSubstr(std::string("\"loadstar export ") + kRunId + "\" writes them"));
      EXPECT_THAT(process.out(), HasSubstr("verdict      passed"));
    }
    EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/results"));
  }
  EXPECT_THAT(coordinator_.stops(), IsEmpty());
}

TEST_F(AgainstCoordinator, AStartWhoseAnswerIsLostIsRepeatedAsTheSameRequest) {
  coordinator_.LoseStarts(2);
  PublishAll(0, 1, v1::VERDICT_KIND_PASSED);
  const Ended ended = Run({"run", "smoke.yaml"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("no answer to the request to start"));
  EXPECT_THAT(ended.err, HasSubstr("the same request is repeated for 1 min"));
  const auto starts = coordinator_.starts();
  ASSERT_EQ(starts.size(), 3u);
  EXPECT_EQ(starts[0].request_id(), starts[1].request_id());
  EXPECT_EQ(starts[0].SerializeAsString(), starts[2].SerializeAsString());
}

TEST_F(AgainstCoordinator, AStartIsRepeatedAcrossARestartOfTheCoordinator) {
  coordinator_.HoldStarts(true);
  ProgramProcess process(Options({"run", "smoke.yaml", "--detach"}));
  ASSERT_TRUE(WaitUntil([&] { return coordinator_.starts().size() == 1; }));
  coordinator_.Down();
  ASSERT_TRUE(process.WaitForErr("the same request is repeated")) << process.err();
  coordinator_.HoldStarts(false);
  coordinator_.Up();
  EXPECT_EQ(process.Wait(), 0) << process.err();
  const auto starts = coordinator_.starts();
  EXPECT_GE(starts.size(), 2u);
  EXPECT_EQ(starts.front().request_id(), starts.back().request_id());
}

TEST_F(AgainstCoordinator, ACoordinatorThatIsDownIsNotWaitedFor) {
  coordinator_.Down();
  const Ended ended = Run({"run", "smoke.yaml"});
  EXPECT_EQ(ended.code, 4);
  EXPECT_THAT(ended.err, HasSubstr("no coordinator in reach at " + coordinator_.address()));
  EXPECT_THAT(ended.err, Not(HasSubstr("repeated")));
}

TEST_F(AgainstCoordinator, AStopThatMeetsADownCoordinatorIsAskedForAgain) {
  coordinator_.Publish(SampleSnapshot(0));
  ProgramProcess process(Options({"run", "smoke.yaml"}));
  ASSERT_TRUE(process.WaitForOut("0:01/2:00")) << process.err();
  coordinator_.Down();
  ASSERT_TRUE(process.WaitForErr("lost the coordinator")) << process.err();
  process.Signal(SIGINT);
  ASSERT_TRUE(process.WaitForErr("stopping the run")) << process.err();
  coordinator_.Up();
  EXPECT_EQ(process.Wait(), 4) << process.err();
  EXPECT_EQ(coordinator_.stops().size(), 1u);
}

TEST_F(AgainstCoordinator, AnOnlookersCtrlCLeavesTheRunAlone) {
  coordinator_.Publish(SampleSnapshot(0));
  ProgramProcess process(Options({"watch", kRunId}));
  ASSERT_TRUE(process.WaitForOut("0:01/2:00")) << process.err();
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), 4);
  EXPECT_THAT(coordinator_.stops(), IsEmpty());
  EXPECT_THAT(process.err(), HasSubstr("which goes on"));
}

TEST_F(AgainstCoordinator, EventsAreShownOnceEach) {
  v1::Run run = SampleRun();
  run.add_events()->set_message("the first thing");
  coordinator_.SetRun(run);
  ProgramProcess process(Options({"watch", kRunId}));
  ASSERT_TRUE(process.WaitForOut("the first thing"));
  PublishAll(0, 2, v1::VERDICT_KIND_PASSED);
  EXPECT_EQ(process.Wait(), 0);
  const std::string out = process.out();
  const size_t first = out.find("event  the first thing");
  EXPECT_EQ(out.find("event  the first thing", first + 1), std::string::npos) << out;
}

TEST_F(AgainstCoordinator, DeployStreamsItsStepsAndEndsWithTheNodes) {
  v1::Deployment deployment;
  deployment.set_name("two-nodes");
  deployment.set_state(v1::DEPLOYMENT_STATE_HEALTHY);
  auto* node = deployment.add_nodes();
  node->set_node("node1");
  node->set_agent("host1");
  node->set_state(v1::DEPLOYMENT_STATE_HEALTHY);
  node->set_pid(4711);
  v1::Event event;
  event.set_agent("host1");
  event.set_subject("node1");
  event.set_message("healthy after 0.2 s");
  coordinator_.SetDeployment({event}, deployment);
  const Ended ended = Run({"deploy", "stack.yaml"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr(" s  host1 node1: healthy after 0.2 s\n"));
  EXPECT_THAT(ended.out, HasSubstr("two-nodes   node1  healthy  host1"));
  EXPECT_THAT(ended.out, HasSubstr("4711"));
  deployment.mutable_nodes(0)->set_state(v1::DEPLOYMENT_STATE_FAILED);
  deployment.mutable_nodes(0)->set_message("port 9100 is taken by process 12");
  deployment.set_state(v1::DEPLOYMENT_STATE_FAILED);
  coordinator_.SetDeployment({}, deployment);
  const Ended failed = Run({"deploy", "stack.yaml"});
  EXPECT_EQ(failed.code, 4);
  EXPECT_THAT(failed.out, HasSubstr("port 9100 is taken by process 12"));
}

TEST_F(AgainstCoordinator, TuneShowsEachHostsSettingsAndTheVerdict) {
  coordinator_.SetTuning(Tuning(false));
  const Ended applied = Run({"tune", "apply", "--for", "smoke.yaml", "--agent", "host1", "--all-or-nothing"});
  EXPECT_EQ(applied.code, 4) << applied.err;
  EXPECT_EQ(applied.out,
            "host1: 1 setting changed\n"
            "SETTING                   STATE      BEFORE  NOW  PROFILE\n"
            "net.ipv4.tcp_fin_timeout  changed    60      30   mine\n"
            "    lowers it, as the profile asks\n"
            "fs.file-max               read-only  -       -    -\n"
            "    it cannot be written here by this agent\n"
            "\n"
            "1 of 1 host not as wanted: host1\n");
  ASSERT_EQ(coordinator_.tunings().size(), 1u);
  const v1::TuneRequest asked = coordinator_.tunings()[0];
  EXPECT_EQ(asked.action(), v1::TUNE_ACTION_APPLY);
  EXPECT_EQ(asked.profile().name(), "for-smoke");
  EXPECT_TRUE(asked.all_or_nothing());
  EXPECT_EQ(asked.agents(0), "host1");

  EXPECT_EQ(Run({"tune", "verify"}).code, 1) << "a host is not as it was tuned";
  coordinator_.SetTuning(Tuning(true));
  EXPECT_EQ(Run({"tune", "rollback", "mine", "--force"}).code, 0);
  EXPECT_EQ(coordinator_.tunings()[2].profile_name(), "mine");
  EXPECT_TRUE(coordinator_.tunings()[2].force());
}

TEST_F(AgainstCoordinator, TuneHeadsWhatIsInTheVirtualMachineOnce) {
  std::vector<v1::TuneResponse> responses = Tuning(true);
  v1::TuneResponse inside = responses[0];
  inside.mutable_step()->set_place(v1::TUNE_PLACE_VIRTUAL_MACHINE);
  inside.mutable_step()->set_lowers(false);
  responses.insert(responses.begin() + 1, 2, inside);
  responses[2].mutable_step()->set_outcome(v1::TUNE_OUTCOME_NOT_MEANT);
  responses.erase(responses.begin() + 3);
  coordinator_.SetTuning(std::move(responses));
  EXPECT_EQ(Run({"tune", "status"}).out,
            "host1: 1 setting changed\n"
            "SETTING                   STATE      BEFORE  NOW  PROFILE\n"
            "net.ipv4.tcp_fin_timeout  changed    60      30   mine\n"
            "    lowers it, as the profile asks\n"
            "in the virtual machine:\n"
            "net.ipv4.tcp_fin_timeout  changed    60      30   mine\n"
            "net.ipv4.tcp_fin_timeout  not meant  60      30   mine\n"
            "\n"
            "1 host as wanted\n");
}

TEST_F(AgainstCoordinator, APlanForContainersIsPrintedForCompose) {
  std::vector<v1::TuneResponse> responses(4);
  const struct {
    const char* key;
    const char* after;
  } settings[] = {{"net.ipv4.tcp_rmem", "4096\t131072\t268435456"}, {"ulimit nofile", "1000:infinity"}};
  for (size_t i = 0; i < std::size(settings); ++i) {
    v1::TuneStep* step = responses[i].mutable_step();
    step->set_agent("host1");
    step->set_key(settings[i].key);
    step->set_after(settings[i].after);
    step->set_outcome(v1::TUNE_OUTCOME_CHANGED);
    step->set_place(v1::TUNE_PLACE_CONTAINER);
  }
  // What a container has already, and what is the host's, is not for Compose.
  responses[2] = responses[0];
  responses[2].mutable_step()->set_key("net.core.somaxconn");
  responses[2].mutable_step()->set_outcome(v1::TUNE_OUTCOME_FULFILLED);
  responses[3] = Tuning(true)[2];
  responses[3].mutable_verdict()->mutable_hosts(0)->set_message("2 settings to be changed");
  coordinator_.SetTuning(responses);
  const Ended plan = Run({"tune", "plan", "--for", "smoke.yaml", "--containers"});
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("in a container:\n"));
  EXPECT_THAT(plan.out, HasSubstr("    sysctls:\n"
                                  "      net.ipv4.tcp_rmem: \"4096 131072 268435456\"\n"
                                  "    ulimits:\n"
                                  "      nofile: {soft: 1000, hard: -1}\n"));
  EXPECT_TRUE(coordinator_.tunings()[0].containers());
  EXPECT_EQ(Run({"tune", "apply", "--for", "smoke.yaml", "--containers"}).code, 2);
  EXPECT_EQ(Run({"tune", "apply", "--for", "smoke.yaml", "--load-modules", "--all-or-nothing"}).code, 2);
}

TEST_F(AgainstCoordinator, ListsAreTables) {
  EXPECT_THAT(Run({"agents"}).out,
              HasSubstr("host1  connected  alpha      2     20.0 GiB      250,000  descriptors      20,000"));
  EXPECT_THAT(Run({"deployments"}).out, HasSubstr("Nothing is deployed"));
  const std::string runs = Run({"runs"}).out;
  EXPECT_THAT(runs, HasSubstr(std::string(kRunId) + "  finished  passed"));
  EXPECT_THAT(runs, HasSubstr("older-20261124-100000"));
  EXPECT_THAT(Run({"runs", "--limit", "1"}).out, Not(HasSubstr("older-")));
}

TEST_F(AgainstCoordinator, AFullDiskUnderStdoutIsNotPassed) {
  ProgramProcess::Options options =
      Options({"-c", "exec \"$0\" agents > /dev/full", std::string(LOADSTAR_BIN_DIR) + "/loadstar"});
  options.program = "/bin/sh";
  ProgramProcess process(options);
  EXPECT_EQ(process.Wait(), 4);
  EXPECT_THAT(process.err(), HasSubstr("standard output could not be written"));
}

}  // namespace
}  // namespace loadstar::client
