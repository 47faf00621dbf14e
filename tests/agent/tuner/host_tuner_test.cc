// Orders of the coordinator, against a host without a kernel and a folder in place of /.
#include "agent/tuner/host_tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "lib/os/files.h"
#include "tests/agent/tuner/fake_host.h"

namespace loadstar::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kBacklog[] = "net.core.somaxconn";
constexpr char kFinTimeout[] = "net.ipv4.tcp_fin_timeout";
constexpr char kTracked[] = "net.netfilter.nf_conntrack_max";
constexpr char kRange[] = "net.ipv4.ip_local_port_range";
constexpr char kReserved[] = "net.ipv4.ip_local_reserved_ports";

absl::StatusOr<CommandResult> NoPrograms(const std::vector<std::string>& command) {
  return absl::NotFoundError(absl::StrCat("there is no ", command[0]));
}

class HostTunerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "host-tuner-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    files_ = MakeHostFiles(root_);
    host_.values = {{kBacklog, "128"}, {kFinTimeout, "60"}, {kRange, "32768\t60999"}, {kReserved, ""}};
    Restart();
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Restart(const Era& era = kEra) {
    descriptors_ =
        std::make_unique<Descriptors>(files_.get(), Descriptors::Options{.record = "/record", .run = NoPrograms});
    tuner_ = std::make_unique<HostTuner>(&host_, &host_, descriptors_.get(), era,
                                         HostTuner::Options{.root = root_,
                                                            .persistable = persistable_,
                                                            .allowed = allowed_,
                                                            .listening = [] { return std::vector<uint16_t>{9100}; },
                                                            .try_out = [this](auto, auto) { return probe_; }});
    tuner_->Load();
  }

  // "key outcome", with "!" in front of an obstacle.
  std::vector<std::string> Do(const v1::TuneHost& order, absl::StatusCode expected = absl::StatusCode::kOk) {
    steps_.clear();
    status_ = tuner_->CarryOut(order, [this](v1::TuneStep step) { steps_.push_back(std::move(step)); });
    EXPECT_EQ(status_.code(), expected) << status_;
    std::vector<std::string> words;
    for (const v1::TuneStep& step : steps_) {
      words.push_back(absl::StrCat(step.obstacle() ? "!" : "", step.key(), " ",
                                   v1::TuneOutcome_Name(step.outcome()).substr(std::strlen("TUNE_OUTCOME_"))));
    }
    return words;
  }
  static v1::TuneHost Order(v1::TuneAction action, const std::vector<v1::SysctlSetting>& settings = {}) {
    v1::TuneHost order;
    order.set_action(action);
    if (!settings.empty()) *order.mutable_profile() = Profile("big", settings);
    return order;
  }
  static v1::TuneHost Apply(const std::vector<v1::SysctlSetting>& settings) {
    return Order(v1::TUNE_ACTION_APPLY, settings);
  }
  std::string File(const std::string& profile) const { return root_ + PersistentFile(profile); }
  static std::string PersistentFile(const std::string& profile) {
    return "/etc/sysctl.d/90-loadstar-" + profile + ".conf";
  }

  std::string root_;
  bool persistable_ = true;
  std::set<std::string> allowed_ = {kBacklog, kFinTimeout, kTracked, kRange, kReserved};
  Probe probe_{Probe::Outcome::kWorks, "tried"};
  FakeHost host_;
  std::unique_ptr<HostFiles> files_;
  std::unique_ptr<Descriptors> descriptors_;
  std::unique_ptr<HostTuner> tuner_;
  std::vector<v1::TuneStep> steps_;
  absl::Status status_;
};

TEST_F(HostTunerTest, PlansWithoutChangingAnything) {
  v1::SysctlSetting setting = Setting(kBacklog, {4096});
  setting.set_effect("The longest queue.");
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_PLAN, {setting})), ElementsAre("net.core.somaxconn CHANGED"));
  EXPECT_EQ(steps_[0].before(), "128");
  EXPECT_EQ(steps_[0].after(), "4096");
  EXPECT_EQ(steps_[0].effect(), "The longest queue.");
  EXPECT_EQ(host_.values[kBacklog], "128");
  EXPECT_TRUE(host_.journal.empty());
}

TEST_F(HostTunerTest, AppliesTriesOutAndPutsBack) {
  EXPECT_THAT(Do(Apply({Setting(kBacklog, {4096})})), ElementsAre("net.core.somaxconn CHANGED"));
  EXPECT_EQ(host_.values[kBacklog], "4096");
  EXPECT_FALSE(steps_[0].applied_before());
  EXPECT_THAT(Do(Apply({Setting(kBacklog, {4096})})), ElementsAre("net.core.somaxconn FULFILLED"));
  EXPECT_TRUE(steps_[0].applied_before());
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_VERIFY)), ElementsAre("net.core.somaxconn WORKS"));
  EXPECT_EQ(steps_[0].message(), "tried");
  probe_ = {Probe::Outcome::kFails, "no"};
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_VERIFY)), ElementsAre("!net.core.somaxconn FAILS"));
  probe_ = {Probe::Outcome::kNotTried, "only under load"};
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_VERIFY)), ElementsAre("net.core.somaxconn APPLIED"));
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)), ElementsAre("net.core.somaxconn RESTORED"));
  EXPECT_EQ(host_.values[kBacklog], "128");
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)), IsEmpty());
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)), IsEmpty());
}

TEST_F(HostTunerTest, SetsNothingThatItsOwnConfigurationDoesNotAllow) {
  allowed_ = {kBacklog};
  Restart();
  EXPECT_THAT(Do(Apply({Setting(kFinTimeout, {30}, v1::SYSCTL_POLICY_EXACTLY), Setting(kBacklog, {4096})})),
              ElementsAre("net.core.somaxconn CHANGED", "!net.ipv4.tcp_fin_timeout FORBIDDEN"));
  EXPECT_THAT(steps_[1].message(), HasSubstr("--allow-tuning net.ipv4.tcp_fin_timeout"));
  EXPECT_EQ(host_.values[kFinTimeout], "60");
}

TEST_F(HostTunerTest, RefusesNamesThatAreNone) {
  for (const char* key : {"net/core/somaxconn", "net..core", "../etc/passwd", "net.core.", "x"}) {
    EXPECT_THAT(Do(Apply({Setting(key, {1})}), absl::StatusCode::kInvalidArgument), IsEmpty()) << key;
  }
  v1::TuneHost order = Apply({Setting(kBacklog, {4096})});
  order.mutable_profile()->set_name("../x");
  EXPECT_THAT(Do(order, absl::StatusCode::kInvalidArgument), IsEmpty());
  order = Order(v1::TUNE_ACTION_ROLLBACK);
  order.set_profile_name("a/b");
  EXPECT_THAT(Do(order, absl::StatusCode::kInvalidArgument), IsEmpty());
  EXPECT_THAT(Do(v1::TuneHost(), absl::StatusCode::kInvalidArgument), IsEmpty());
  EXPECT_TRUE(host_.journal.empty());
}

TEST_F(HostTunerTest, DoesNotTakeItselfForAVirtualMachine) {
  v1::TuneHost order = Apply({Setting(kBacklog, {4096})});
  order.mutable_profile()->mutable_virtual_machine()->set_cpus(12);
  EXPECT_THAT(Do(order, absl::StatusCode::kFailedPrecondition), IsEmpty());
  EXPECT_THAT(std::string(status_.message()), HasSubstr("colima-setup.sh"));
  EXPECT_EQ(host_.values[kBacklog], "128");
}

TEST_F(HostTunerTest, ALimitOfAModuleThatIsNotLoadedIsNoObstacle) {
  v1::SysctlSetting tracked = Setting(kTracked, {1000});
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_PLAN, {tracked})), ElementsAre("!net.netfilter.nf_conntrack_max MISSING"));
  tracked.set_module("nf_conntrack");
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_PLAN, {tracked})), ElementsAre("net.netfilter.nf_conntrack_max MISSING"));
  EXPECT_THAT(steps_[0].message(), HasSubstr("modprobe nf_conntrack"));
}

TEST_F(HostTunerTest, ReservesThePortsOfListenersBeforeItWidensTheRange) {
  const v1::SysctlSetting range = Setting(kRange, {1024, 65'535}, v1::SYSCTL_POLICY_COVERS);
  EXPECT_THAT(Do(Apply({range})),
              ElementsAre("net.ipv4.ip_local_reserved_ports CHANGED", "net.ipv4.ip_local_port_range CHANGED"));
  EXPECT_EQ(host_.values[kReserved], "9100");
  (void)Do(Order(v1::TUNE_ACTION_ROLLBACK));
  EXPECT_EQ(host_.values[kReserved], "");
  EXPECT_EQ(host_.values[kRange], "32768\t60999");
}

TEST_F(HostTunerTest, LastsBeyondABootOnlyWhenAsked) {
  v1::TuneHost order = Apply({Setting(kBacklog, {4096})});
  (void)Do(order);
  EXPECT_FALSE(std::filesystem::exists(File("big")));
  order.set_persist(true);
  EXPECT_THAT(Do(order), ElementsAre("net.core.somaxconn FULFILLED", "persistence CHANGED"));
  EXPECT_EQ(steps_[1].after(), PersistentFile("big"));
  EXPECT_THAT(*os::ReadFile(File("big")), HasSubstr("net.core.somaxconn = 4096\n"));

  // The host boots: the values are gone, the file is not.
  host_.values[kBacklog] = "4096";
  Restart({.of_host = "boot-2", .of_network_namespace = "boot-2/namespace-1"});
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)), ElementsAre("persistence APPLIED"));
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)), ElementsAre("persistence RESTORED"));
  EXPECT_FALSE(std::filesystem::exists(File("big")));
  EXPECT_EQ(host_.values[kBacklog], "4096");
}

TEST_F(HostTunerTest, FilesOfAllProfilesHoldWhatTheKeysHold) {
  v1::TuneHost small = Apply({Setting(kBacklog, {4096})});
  small.set_persist(true);
  (void)Do(small);
  EXPECT_THAT(Do(small), ElementsAre("net.core.somaxconn FULFILLED", "persistence FULFILLED")) << "twice is once";
  v1::TuneHost large = small;
  large.mutable_profile()->set_name("a-larger");
  large.mutable_profile()->mutable_sysctls(0)->set_values(0, 65'535);
  EXPECT_THAT(Do(large), ElementsAre("net.core.somaxconn CHANGED", "persistence CHANGED"));
  for (const char* profile : {"big", "a-larger"}) {
    EXPECT_THAT(*os::ReadFile(File(profile)), HasSubstr("net.core.somaxconn = 65535\n"));
  }
  v1::TuneHost back = Order(v1::TUNE_ACTION_ROLLBACK);
  back.set_profile_name("a-larger");
  (void)Do(back);
  EXPECT_THAT(*os::ReadFile(File("big")), HasSubstr("net.core.somaxconn = 4096\n"));
}

TEST_F(HostTunerTest, SaysThatThereIsNothingToVerify) {
  v1::TuneHost verify = Order(v1::TUNE_ACTION_VERIFY);
  EXPECT_THAT(Do(verify), ElementsAre("!profile MISSING"));
  for (const v1::TuneAction action : {v1::TUNE_ACTION_VERIFY, v1::TUNE_ACTION_STATUS}) {
    v1::TuneHost named = Order(action);
    named.set_profile_name("big");
    EXPECT_THAT(Do(named), ElementsAre("!profile MISSING"));
  }
}

TEST_F(HostTunerTest, DoesNotWidenTheRangeWithoutTheReservation) {
  const v1::SysctlSetting range = Setting(kRange, {1024, 65'535}, v1::SYSCTL_POLICY_COVERS);
  host_.read_only.insert(kReserved);
  EXPECT_THAT(Do(Apply({range})),
              ElementsAre("!net.ipv4.ip_local_reserved_ports READ_ONLY", "!net.ipv4.ip_local_port_range NOT_TRIED"));
  host_.read_only.clear();
  allowed_.erase(kReserved);
  Restart();
  EXPECT_THAT(Do(Apply({range})),
              ElementsAre("!net.ipv4.ip_local_reserved_ports FORBIDDEN", "!net.ipv4.ip_local_port_range NOT_TRIED"));
  EXPECT_EQ(host_.values[kRange], "32768\t60999");
}

TEST_F(HostTunerTest, LeavesFilesOfTheHostToItsOwnAgent) {
  v1::TuneHost order = Apply({Setting(kBacklog, {4096})});
  order.set_persist(true);
  (void)Do(order);
  persistable_ = false;
  host_.journal.clear();
  Restart();
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)), IsEmpty());
  (void)Do(Order(v1::TUNE_ACTION_ROLLBACK));
  EXPECT_TRUE(std::filesystem::exists(File("big")));
}

TEST_F(HostTunerTest, NamesAFileThatWinsAtBoot) {
  std::filesystem::create_directories(root_ + "/etc/sysctl.d");
  std::ofstream(root_ + "/etc/sysctl.d/99-site.conf") << "net.core.somaxconn=128\n";
  v1::TuneHost order = Apply({Setting(kBacklog, {4096})});
  order.set_persist(true);
  EXPECT_THAT(Do(order),
              ElementsAre("net.core.somaxconn CHANGED", "persistence CHANGED", "!net.core.somaxconn FOREIGN"));
  EXPECT_THAT(steps_[2].message(), HasSubstr("/etc/sysctl.d/99-site.conf:1"));
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)),
              ElementsAre("net.core.somaxconn APPLIED", "persistence APPLIED", "!net.core.somaxconn FOREIGN"));
}

TEST_F(HostTunerTest, InANamespaceOfItsOwnNothingLasts) {
  persistable_ = false;
  Restart();
  v1::TuneHost order = Apply({Setting(kBacklog, {4096})});
  order.set_persist(true);
  EXPECT_THAT(Do(order), ElementsAre("net.core.somaxconn CHANGED", "!persistence UNSUITABLE"));
  EXPECT_FALSE(std::filesystem::exists(File("big")));
}

TEST_F(HostTunerTest, UndoesOneApplyAlone) {
  (void)Do(Apply({Setting(kBacklog, {4096})}));
  (void)Do(Apply({Setting(kBacklog, {4096}), Setting(kFinTimeout, {30}, v1::SYSCTL_POLICY_EXACTLY)}));
  v1::TuneHost undo = Order(v1::TUNE_ACTION_ROLLBACK);
  undo.set_profile_name("big");
  undo.add_keys(kFinTimeout);
  EXPECT_THAT(Do(undo), ElementsAre("net.ipv4.tcp_fin_timeout RESTORED"));
  EXPECT_EQ(host_.values[kBacklog], "4096");
  EXPECT_EQ(host_.values[kFinTimeout], "60");
}

TEST_F(HostTunerTest, LeavesWhatOthersChangedUnlessForced) {
  (void)Do(Apply({Setting(kBacklog, {4096})}));
  host_.values[kBacklog] = "1000";
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)), ElementsAre("!net.core.somaxconn FOREIGN"));
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)), ElementsAre("!net.core.somaxconn FOREIGN"));
  EXPECT_EQ(host_.values[kBacklog], "1000");
  v1::TuneHost forced = Order(v1::TUNE_ACTION_ROLLBACK);
  forced.set_force(true);
  EXPECT_THAT(Do(forced), ElementsAre("net.core.somaxconn RESTORED"));
  EXPECT_EQ(host_.values[kBacklog], "128");
}

TEST_F(HostTunerTest, SetsDescriptorsWhereItMay) {
  std::filesystem::create_directories(root_ + "/etc/docker");
  std::ofstream(root_ + "/etc/docker/daemon.json") << "{}\n";
  host_.values["fs.nr_open"] = "1048576";
  v1::TuneHost order = Apply({Setting(kBacklog, {4096})});
  order.mutable_profile()->mutable_descriptors()->set_soft(262'144);
  order.mutable_profile()->mutable_descriptors()->set_hard(262'144);
  EXPECT_THAT(Do(order), ElementsAre("net.core.somaxconn CHANGED", "!descriptors FORBIDDEN"));
  EXPECT_THAT(steps_[1].message(), HasSubstr("--allow-tuning descriptors"));
  allowed_.insert("descriptors");
  Restart();
  EXPECT_THAT(Do(order), Contains("docker default-ulimits nofile CHANGED"));
  EXPECT_THAT(*os::ReadFile(root_ + "/etc/docker/daemon.json"), HasSubstr("262144"));
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)), Contains("docker default-ulimits nofile APPLIED"));
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)), Contains("docker default-ulimits nofile RESTORED"));
  EXPECT_EQ(*os::ReadFile(root_ + "/etc/docker/daemon.json"), "{}\n");
}

TEST_F(HostTunerTest, SaysThatTheJournalIsDamaged) {
  (void)Do(Apply({Setting(kBacklog, {4096})}));
  host_.journal[host_.journal.size() / 2] ^= 1;
  Restart();
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)), Contains("!journal UNCERTAIN"));
}

}  // namespace
}  // namespace loadstar::agent
