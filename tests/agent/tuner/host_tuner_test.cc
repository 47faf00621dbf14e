// Orders of the coordinator, against a host without a kernel and a folder in place of /.
#include "agent/tuner/host_tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>

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
    descriptors_ = std::make_unique<Descriptors>(
        files_.get(), Descriptors::Options{.record = "/record", .proc = os::Proc(root_ + "/proc"), .run = NoPrograms});
    modules_ = std::make_unique<Modules>(
        Modules::Options{.record = root_ + "/modules", .era = era.of_host, .run = [this](const auto& command) {
                           return Modprobe(command);
                         }});
    HostTuner::Options options;
    options.root = root_;
    options.persistable = persistable_;
    options.allowed = allowed_;
    options.kernel = {.release = "6.1.0-18-amd64", .cgroup = 2};
    options.listening = [] { return std::vector<uint16_t>{9100}; };
    options.try_out = [this](auto, auto) { return probe_; };
    options.claim = [this](v1::SysctlScope scope) { return Claim(scope); };
    options.may_claim = [this](v1::SysctlScope scope) { return MayClaim(scope); };
    options.keep_claims = [this](const auto& scopes) { Keep(scopes); };
    options.other_tuners = [this] { return others_; };
    options.new_namespaces = [this](const auto&) { return NewNamespaces(); };
    tuner_ = std::make_unique<HostTuner>(&host_, &host_, descriptors_.get(), modules_.get(), era, options);
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
  absl::Status MayClaim(v1::SysctlScope scope) const {
    return scope == taken_ ? absl::FailedPreconditionError("another agent (process 7) has it") : absl::OkStatus();
  }
  absl::Status Claim(v1::SysctlScope scope) {
    if (MayClaim(scope).ok()) claimed_.insert(scope);
    return MayClaim(scope);
  }
  void Keep(const std::set<v1::SysctlScope>& scopes) {
    for (auto claim = claimed_.begin(); claim != claimed_.end();) {
      claim = scopes.count(*claim) > 0 ? std::next(claim) : claimed_.erase(claim);
    }
  }
  absl::StatusOr<std::unique_ptr<SysctlTree>> NewNamespaces() const {
    if (!fresh_.has_value()) return absl::PermissionDeniedError("cannot make namespaces as a container has them");
    auto tree = std::make_unique<FakeHost>();
    tree->values = *fresh_;
    return tree;
  }
  absl::StatusOr<CommandResult> Modprobe(const std::vector<std::string>& command) {
    EXPECT_EQ(command.front(), "modprobe");
    EXPECT_EQ(command.back(), "nf_conntrack");
    ++modprobes_;
    if (modprobe_fails_) return CommandResult{.code = 1, .output = "modprobe: FATAL: Module nf_conntrack not found\n"};
    if (command[1] == "-r") {
      host_.values.erase(kTracked);
    } else {
      host_.values[kTracked] = "65536";
    }
    return CommandResult{};
  }
  std::string File(const std::string& profile) const { return root_ + PersistentFile(profile); }
  static std::string PersistentFile(const std::string& profile) {
    return "/etc/sysctl.d/90-loadstar-" + profile + ".conf";
  }

  std::string root_;
  bool persistable_ = true;
  std::set<std::string> allowed_ = {kBacklog, kFinTimeout, kTracked, kRange, kReserved};
  Probe probe_{Probe::Outcome::kWorks, "tried"};
  std::optional<v1::SysctlScope> taken_;  // by another agent
  std::set<v1::SysctlScope> claimed_;
  std::vector<OtherTuner> others_;
  std::optional<std::map<std::string, std::string>> fresh_;  // what a new namespace has
  int modprobes_ = 0;
  bool modprobe_fails_ = false;
  FakeHost host_;
  std::unique_ptr<HostFiles> files_;
  std::unique_ptr<Descriptors> descriptors_;
  std::unique_ptr<Modules> modules_;
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
  EXPECT_THAT(Do(order, absl::StatusCode::kInvalidArgument), IsEmpty());
  EXPECT_EQ(host_.values[kBacklog], "128");
}

TEST_F(HostTunerTest, ALimitOfAModuleThatIsNotLoadedIsNoObstacle) {
  v1::SysctlSetting tracked = Setting(kTracked, {1000});
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_PLAN, {tracked})), ElementsAre("!net.netfilter.nf_conntrack_max MISSING"));
  tracked.set_module("nf_conntrack");
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_PLAN, {tracked})), ElementsAre("net.netfilter.nf_conntrack_max MISSING"));
  EXPECT_THAT(
      steps_[0].message(),
      HasSubstr("it comes with the module nf_conntrack, and limits nothing where that is not loaded; --load-modules"));
}

TEST_F(HostTunerTest, LoadsAModuleWhenItIsAskedToAndAllowed) {
  v1::SysctlSetting tracked = Setting(kTracked, {100'000});
  tracked.set_module("nf_conntrack");
  v1::TuneHost order = Order(v1::TUNE_ACTION_PLAN, {tracked});
  order.set_load_modules(true);
  EXPECT_THAT(Do(order), ElementsAre("!module nf_conntrack FORBIDDEN", "net.netfilter.nf_conntrack_max MISSING"));
  EXPECT_THAT(steps_[0].message(), HasSubstr("--allow-tuning modules"));
  allowed_.insert("modules");
  Restart();
  EXPECT_THAT(Do(order), ElementsAre("module nf_conntrack CHANGED", "net.netfilter.nf_conntrack_max MISSING"));
  EXPECT_EQ(modprobes_, 0) << "a plan changes nothing";

  order.set_action(v1::TUNE_ACTION_APPLY);
  modprobe_fails_ = true;
  EXPECT_THAT(Do(order), ElementsAre("!module nf_conntrack REFUSED", "net.netfilter.nf_conntrack_max MISSING"));
  EXPECT_THAT(steps_[0].message(), HasSubstr("Module nf_conntrack not found"));
  modprobe_fails_ = false;
  EXPECT_THAT(Do(order), ElementsAre("module nf_conntrack CHANGED", "net.netfilter.nf_conntrack_max CHANGED"));
  EXPECT_EQ(host_.values[kTracked], "100000");
  EXPECT_THAT(Do(order), ElementsAre("net.netfilter.nf_conntrack_max FULFILLED"));
  EXPECT_EQ(modprobes_, 2);
  Restart();
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)),
              ElementsAre("net.netfilter.nf_conntrack_max APPLIED", "module nf_conntrack APPLIED"));
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)),
              ElementsAre("net.netfilter.nf_conntrack_max RESTORED", "module nf_conntrack RESTORED"));
  EXPECT_EQ(host_.values.count(kTracked), 0U) << "unloaded again";
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)), IsEmpty());
}

TEST_F(HostTunerTest, AModuleInUseOrOfAnotherBootStays) {
  allowed_.insert("modules");
  Restart();
  v1::SysctlSetting tracked = Setting(kTracked, {100'000});
  tracked.set_module("nf_conntrack");
  v1::TuneHost order = Apply({tracked});
  order.set_load_modules(true);
  (void)Do(order);
  modprobe_fails_ = true;
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)),
              ElementsAre("net.netfilter.nf_conntrack_max RESTORED", "module nf_conntrack KEPT"));
  EXPECT_THAT(steps_[1].message(), HasSubstr("it stays until the next boot: modprobe: FATAL"));
  EXPECT_EQ(host_.values[kTracked], "65536");
  // What another profile has of it keeps it loaded, until that goes as well.
  modprobe_fails_ = false;
  host_.values.erase(kTracked);
  (void)Do(order);
  v1::TuneHost other = order;
  other.mutable_profile()->set_name("other");
  other.mutable_profile()->mutable_sysctls(0)->set_values(0, 200'000);
  EXPECT_THAT(Do(other), ElementsAre("net.netfilter.nf_conntrack_max CHANGED"));
  v1::TuneHost back = Order(v1::TUNE_ACTION_ROLLBACK);
  back.set_profile_name("big");
  EXPECT_THAT(Do(back), ElementsAre("net.netfilter.nf_conntrack_max KEPT", "module nf_conntrack KEPT"));
  EXPECT_EQ(host_.values[kTracked], "200000");
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)),
              ElementsAre("net.netfilter.nf_conntrack_max RESTORED", "module nf_conntrack RESTORED"));

  // After a boot it is not ours to unload.
  modprobe_fails_ = false;
  host_.values.erase(kTracked);
  (void)Do(order);
  Restart({.of_host = "boot-2", .of_network_namespace = "boot-2/namespace-1"});
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)), IsEmpty());
}

TEST_F(HostTunerTest, LoadsNoModuleThatBringsNothingOfTheProfile) {
  allowed_.insert("modules");
  allowed_.insert("net.ipv4.no_such_key");
  Restart();
  v1::SysctlSetting other = Setting("net.ipv4.no_such_key", {1});
  other.set_module("evil");
  v1::TuneHost order = Apply({other});
  order.set_load_modules(true);
  EXPECT_THAT(Do(order), ElementsAre("!module evil FORBIDDEN", "net.ipv4.no_such_key MISSING"));
  EXPECT_EQ(modprobes_, 0);
}

TEST_F(HostTunerTest, MakesOnlyWhatIsMeantForThisHost) {
  v1::SysctlSetting old = Setting(kBacklog, {4096});
  old.mutable_when()->set_kernel_before("5.4");
  v1::SysctlSetting recent = Setting(kFinTimeout, {30}, v1::SYSCTL_POLICY_EXACTLY);
  recent.mutable_when()->set_kernel_from("6.1");
  v1::SysctlSetting inside = Setting("net.ipv4.tcp_tw_reuse", {1}, v1::SYSCTL_POLICY_EXACTLY);
  inside.set_scope(v1::SYSCTL_SCOPE_CONTAINER);
  v1::SysctlSetting machine = Setting("vm.swappiness", {1});
  machine.set_scope(v1::SYSCTL_SCOPE_VIRTUAL_MACHINE);
  EXPECT_THAT(Do(Apply({old, recent, inside, machine})),
              ElementsAre("net.core.somaxconn NOT_MEANT", "net.ipv4.tcp_tw_reuse NOT_MEANT", "vm.swappiness NOT_MEANT",
                          "net.ipv4.tcp_fin_timeout CHANGED"));
  EXPECT_THAT(steps_[0].message(), HasSubstr("kernels before 5.4; this host has kernel 6.1.0-18-amd64"));
  EXPECT_THAT(steps_[1].message(), HasSubstr("--containers"));
  EXPECT_EQ(host_.values[kBacklog], "128");
}

TEST_F(HostTunerTest, AProfileForAnotherKernelIsRefusedAsAWhole) {
  v1::TuneHost order = Apply({Setting(kBacklog, {4096})});
  order.mutable_profile()->mutable_when()->set_kernel_from("6.5");
  EXPECT_THAT(Do(order, absl::StatusCode::kFailedPrecondition), IsEmpty());
  EXPECT_EQ(status_.message(), "profile big is meant for kernels from 6.5 on; this host has kernel 6.1.0-18-amd64");
  EXPECT_TRUE(host_.journal.empty());
}

TEST_F(HostTunerTest, LeavesToAnotherAgentWhatIsUnderItsCare) {
  v1::SysctlSetting shared = Setting(kTracked, {100'000});
  shared.set_scope(v1::SYSCTL_SCOPE_HOST);
  v1::SysctlSetting own = Setting(kBacklog, {4096});
  own.set_scope(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE);
  host_.values[kTracked] = "65536";
  taken_ = v1::SYSCTL_SCOPE_HOST;
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_PLAN, {shared, own})),
              ElementsAre("net.core.somaxconn CHANGED", "!net.netfilter.nf_conntrack_max NOT_TRIED"));
  EXPECT_TRUE(claimed_.empty()) << "a plan keeps nothing";
  EXPECT_THAT(Do(Apply({shared, own})),
              ElementsAre("net.core.somaxconn CHANGED", "!net.netfilter.nf_conntrack_max NOT_TRIED"));
  EXPECT_THAT(steps_[1].message(), HasSubstr("another agent (process 7)"));
  EXPECT_EQ(host_.values[kTracked], "65536");
  EXPECT_THAT(claimed_, ElementsAre(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE));
  claimed_.clear();
  Restart();
  EXPECT_THAT(claimed_, ElementsAre(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE)) << "its next life has it again";
  (void)Do(Order(v1::TUNE_ACTION_ROLLBACK));
  EXPECT_TRUE(claimed_.empty());
}

TEST_F(HostTunerTest, ClaimsOnlyWhatItChanged) {
  v1::SysctlSetting own = Setting(kBacklog, {4096});
  own.set_scope(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE);
  host_.refused.insert(kBacklog);
  EXPECT_THAT(Do(Apply({own})), ElementsAre("!net.core.somaxconn REFUSED"));
  EXPECT_TRUE(claimed_.empty());
  host_.refused.clear();
  host_.values[kBacklog] = "4096";
  EXPECT_THAT(Do(Apply({own})), ElementsAre("net.core.somaxconn FULFILLED"));
  EXPECT_TRUE(claimed_.empty());
  Restart();
  EXPECT_TRUE(claimed_.empty());
}

TEST_F(HostTunerTest, PutsNothingBackUnderAnotherAgentUnlessForced) {
  v1::SysctlSetting own = Setting(kBacklog, {4096});
  own.set_scope(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE);
  (void)Do(Apply({own}));
  taken_ = v1::SYSCTL_SCOPE_NETWORK_NAMESPACE;
  claimed_.clear();
  Restart();
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_ROLLBACK)), ElementsAre("!net.core.somaxconn NOT_TRIED"));
  EXPECT_THAT(steps_[0].message(), HasSubstr("--force"));
  EXPECT_EQ(host_.values[kBacklog], "4096");
  v1::TuneHost forced = Order(v1::TUNE_ACTION_ROLLBACK);
  forced.set_force(true);
  EXPECT_THAT(Do(forced), ElementsAre("net.core.somaxconn RESTORED"));
  EXPECT_EQ(host_.values[kBacklog], "128");
}

TEST_F(HostTunerTest, DoesNotWidenTheRangeWhenItsReservationIsAnotherAgents) {
  v1::SysctlSetting range = Setting(kRange, {1024, 65'535}, v1::SYSCTL_POLICY_COVERS);
  range.set_scope(v1::SYSCTL_SCOPE_HOST);
  taken_ = v1::SYSCTL_SCOPE_NETWORK_NAMESPACE;
  EXPECT_THAT(Do(Apply({range})),
              ElementsAre("!net.ipv4.ip_local_reserved_ports NOT_TRIED", "!net.ipv4.ip_local_port_range NOT_TRIED"));
  EXPECT_EQ(host_.values[kRange], "32768\t60999");
}

TEST_F(HostTunerTest, NamesWhoElseSetsWhatItSets) {
  others_ = {{.name = "tuned (process 812, profile mine)", .off = "Turn it off.", .keys = {kBacklog, "vm.swappiness"}}};
  EXPECT_THAT(Do(Apply({Setting(kBacklog, {4096})})),
              ElementsAre("net.core.somaxconn CHANGED", "other tuner CONTESTED"));
  EXPECT_THAT(steps_[1].message(), HasSubstr("tuned (process 812, profile mine) sets net.core.somaxconn too"));
  EXPECT_THAT(steps_[1].message(), HasSubstr("Turn it off."));
  EXPECT_THAT(Do(Order(v1::TUNE_ACTION_STATUS)), ElementsAre("net.core.somaxconn APPLIED", "other tuner CONTESTED"));
  EXPECT_THAT(Do(Apply({Setting(kFinTimeout, {30}, v1::SYSCTL_POLICY_EXACTLY)})),
              ElementsAre("net.ipv4.tcp_fin_timeout CHANGED"))
      << "what it does not set is no conflict";
}

TEST_F(HostTunerTest, PlansForContainersAndWhatTheyNeedOfTheHost) {
  v1::SysctlSetting shared = Setting(kTracked, {100'000});
  shared.set_scope(v1::SYSCTL_SCOPE_HOST);
  host_.values[kTracked] = "65536";
  host_.values["fs.nr_open"] = "1048576";
  v1::SysctlSetting own = Setting(kBacklog, {8192});
  own.set_scope(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE);
  v1::TuneHost order = Order(v1::TUNE_ACTION_PLAN, {shared, own});
  order.mutable_profile()->mutable_descriptors()->set_soft(262'144);
  order.mutable_profile()->mutable_descriptors()->set_hard(262'144);
  order.set_containers(true);
  EXPECT_THAT(Do(order),
              ElementsAre("net.netfilter.nf_conntrack_max CHANGED", "!namespaces UNSUITABLE", "ulimit nofile CHANGED"));
  EXPECT_THAT(steps_[1].message(), HasSubstr("CAP_SYS_ADMIN"));
  fresh_.emplace()[kBacklog] = "4096";
  EXPECT_THAT(Do(order), ElementsAre("net.netfilter.nf_conntrack_max CHANGED", "net.core.somaxconn CHANGED",
                                     "ulimit nofile CHANGED"));
  EXPECT_EQ(steps_[0].place(), v1::TUNE_PLACE_UNSPECIFIED);
  EXPECT_EQ(steps_[1].place(), v1::TUNE_PLACE_CONTAINER);
  EXPECT_EQ(steps_[1].before(), "4096") << "not the host's 128";
  EXPECT_EQ(steps_[2].after(), "262144:262144");
  order.set_action(v1::TUNE_ACTION_APPLY);
  EXPECT_THAT(Do(order, absl::StatusCode::kInvalidArgument), IsEmpty());
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
