#include "agent/tuner/descriptors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/tuner/daemon_json.h"
#include "agent/tuner/descriptor_limit.h"

namespace loadstar::agent {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kRecord[] = "/var/lib/loadstar/descriptors";
constexpr char kJson[] = "/etc/docker/daemon.json";
constexpr char kDockerDropIn[] = "/etc/systemd/system/docker.service.d/50-loadstar.conf";
constexpr char kContainerdDropIn[] = "/etc/systemd/system/containerd.service.d/50-loadstar.conf";
constexpr uint64_t kNrOpen = 1'048'576;

v1::DescriptorLimits Limits(uint64_t soft, uint64_t hard) {
  v1::DescriptorLimits limits;
  limits.set_soft(soft);
  limits.set_hard(hard);
  return limits;
}

// A host below a folder of the test's: files that are real, and a systemd and a Docker that are not. Everything that
// changes it is an operation, and there is a power switch as in FakeHost: the operation with the number `dies_at` is
// the last one.
class FakeServices {
 public:
  enum class Death { kBefore, kInTheMiddle, kAfter };

  FakeServices() {
    // In memory where that can be had: the tests make hundreds of thousands of files durable.
    std::string pattern =
        (fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path()) / "descriptors-XXXXXX";
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    root = pattern;
    for (const char* folder :
         {"/var/lib/loadstar", "/etc/systemd/system", "/proc", "/usr/bin", "/run/systemd/system"}) {
      fs::create_directories(root + folder);
    }
    real = MakeHostFiles(root);
  }
  ~FakeServices() { fs::remove_all(root); }
  FakeServices(const FakeServices&) = delete;
  FakeServices& operator=(const FakeServices&) = delete;

  void InstallDocker(const std::string& text) {
    fs::create_directories(root + "/etc/docker");
    WriteFile(kJson, text);
    WriteFile("/usr/bin/dockerd", "");
  }
  // As a process of the number 77.
  void RunDocker(const std::string& arguments = "") {
    fs::create_directories(root + "/proc/77");
    WriteFile("/proc/77/stat",
              absl::StrCat("77 (dockerd) S 1 77 77 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 ", ++starts_, " 0 0\n"));
    WriteFile("/proc/77/cmdline", std::string("/usr/bin/dockerd\0-H\0fd://\0", 26) + arguments);
  }
  void WriteFile(const std::string& path, const std::string& text) const { std::ofstream(root + path) << text; }
  std::string TextOf(const std::string& path) const {
    const absl::StatusOr<HostFile> file = real->Read(path);
    return file.ok() ? file->text : absl::StrCat("no file: ", std::string(file.status().message()));
  }
  // Every file and folder below etc and var, files with mode and text.
  std::map<std::string, std::string> Everything() const {
    std::map<std::string, std::string> all;
    for (const char* part : {"/etc", "/var"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root + part)) {
        struct stat info {};
        lstat(entry.path().c_str(), &info);
        const std::string path = entry.path().string().substr(root.size());
        all[path] = entry.is_regular_file() ? absl::StrCat(info.st_mode, " ", TextOf(path)) : "";
      }
    }
    return all;
  }
  os::DescriptorLimit InEffect(const std::string& unit) const {
    const auto set = loaded.find(unit);
    return set == loaded.end() ? units.at(unit) : set->second;
  }

  absl::StatusOr<CommandResult> Run(const std::vector<std::string>& command) {
    const std::string line = absl::StrJoin(command, " ");
    if (dead) return absl::UnavailableError("dead");
    if (command[0] == root + "/usr/bin/dockerd") {
      commands.push_back("dockerd --validate");
      EXPECT_EQ(line, absl::StrCat(root, "/usr/bin/dockerd --validate --config-file ", root, kJson));
      return validation;
    }
    EXPECT_EQ(command[0], "systemctl");
    if (command[1] == "show") {
      const std::string& unit = command.back();
      if (command[3] == "ExecStart")
        return CommandResult{.code = 0, .output = absl::StrCat("ExecStart=", exec_start, "\n")};
      if (units.count(unit) == 0) {
        return CommandResult{.code = 0, .output = "LoadState=not-found\nLimitNOFILE=524288\nLimitNOFILESoft=1024\n"};
      }
      const os::DescriptorLimit limit = InEffect(unit);
      const auto number = [](uint64_t value) { return value == kUnlimited ? "infinity" : absl::StrCat(value); };
      return CommandResult{.code = 0,
                           .output = absl::StrCat("LimitNOFILE=", number(limit.hard),
                                                  "\nLimitNOFILESoft=", number(limit.soft), "\nLoadState=loaded\n")};
    }
    commands.push_back(line);
    if (failing.count(line) > 0) return CommandResult{.code = 1, .output = "it does not work\n"};
    absl::Status done = Operate([&](Death death) {
      if (death == Death::kBefore) return absl::OkStatus();
      if (command[1] == "daemon-reload") Reload();
      if (command[1] == "try-restart" && fs::exists(root + "/proc/77")) RunDocker();
      return absl::OkStatus();
    });
    if (!done.ok()) return done;
    return CommandResult{};
  }

  absl::Status Operate(const std::function<absl::Status(Death)>& work) {
    if (dead) return absl::UnavailableError("dead");
    if (operations++ == dies_at) {
      dead = true;
      (void)work(how);
      return absl::UnavailableError("dead");
    }
    return work(Death::kAfter);
  }

  std::string root;
  std::unique_ptr<HostFiles> real;
  std::map<std::string, os::DescriptorLimit> units;   // as their own files have it
  std::map<std::string, os::DescriptorLimit> loaded;  // as systemd last read a drop-in of ours
  std::map<std::string, os::DescriptorLimit> later;   // of a drop-in that is read after ours
  std::vector<std::string> commands;                  // those that do something
  std::set<std::string> failing;
  CommandResult validation = {.code = 0, .output = "configuration OK\n"};
  std::string exec_start = "{ path=/usr/bin/dockerd ; argv[]=/usr/bin/dockerd -H fd:// }";
  bool dead = false;
  int operations = 0;
  int dies_at = -1;
  Death how = Death::kAfter;

 private:
  void Reload() {
    loaded = later;
    for (const auto& [unit, own] : units) {
      const absl::StatusOr<HostFile> file =
          real->Read(absl::StrCat("/etc/systemd/system/", unit, ".d/50-loadstar.conf"));
      if (!file.ok() || later.count(unit) > 0) continue;
      const size_t at = file->text.find("[Service]\nLimitNOFILE=");
      ASSERT_NE(at, std::string::npos) << file->text;
      const std::string value = file->text.substr(at + 22, file->text.find('\n', at + 22) - at - 22);
      const size_t colon = value.find(':');
      ASSERT_NE(colon, std::string::npos) << value;
      const auto number = [](const std::string& text) { return text == "infinity" ? kUnlimited : std::stoull(text); };
      loaded[unit] = {.soft = number(value.substr(0, colon)), .hard = number(value.substr(colon + 1))};
    }
  }

  int starts_ = 1000;
};

// The host's files behind the power switch.
class SwitchedFiles final : public HostFiles {
 public:
  using Death = FakeServices::Death;
  explicit SwitchedFiles(FakeServices* host) : host_(*host) {}

  bool Exists(const std::string& path) override { return host_.real->Exists(path); }
  absl::StatusOr<HostFile> Read(const std::string& path) override {
    if (host_.dead) return absl::UnavailableError("dead");
    return host_.real->Read(path);
  }
  absl::Status Write(const std::string& path, const HostFile& file) override {
    return host_.Operate([&](Death death) {
      if (death == Death::kInTheMiddle) host_.WriteFile(path + ".tmp", file.text.substr(0, file.text.size() / 2));
      return death == Death::kAfter ? host_.real->Write(path, file) : absl::OkStatus();
    });
  }
  absl::Status Remove(const std::string& path) override {
    return host_.Operate([&](Death death) {
      if (death == Death::kInTheMiddle) host_.real->Tidy(path);
      return death == Death::kAfter ? host_.real->Remove(path) : absl::OkStatus();
    });
  }
  void Tidy(const std::string& path) override {
    if (!host_.dead) host_.real->Tidy(path);
  }
  absl::Status MakeFolder(const std::string& path) override {
    return host_.Operate(
        [&](Death death) { return death == Death::kAfter ? host_.real->MakeFolder(path) : absl::OkStatus(); });
  }
  absl::Status RemoveFolder(const std::string& path) override {
    return host_.Operate(
        [&](Death death) { return death == Death::kAfter ? host_.real->RemoveFolder(path) : absl::OkStatus(); });
  }
  std::string OnDisk(const std::string& path) const override { return host_.real->OnDisk(path); }

 private:
  FakeServices& host_;
};

Descriptors Make(FakeServices* host, HostFiles* files, os::DescriptorLimit own = {.soft = kNrOpen, .hard = kNrOpen}) {
  return {files,
          {.record = kRecord,
           .proc = os::Proc(host->root + "/proc"),
           .run = [host](const std::vector<std::string>& command) { return host->Run(command); },
           .own_limit = [own] { return own; }}};
}

std::vector<std::string> Words(const std::vector<v1::TuneStep>& steps) {
  std::vector<std::string> words;
  for (const v1::TuneStep& step : steps) {
    if (step.key() == Descriptors::kAgentKey) continue;
    words.push_back(absl::StrCat(step.key(), ": ", v1::TuneOutcome_Name(step.outcome()).substr(13), " ", step.before(),
                                 " ", step.after()));
  }
  return words;
}

const v1::TuneStep* Find(const std::vector<v1::TuneStep>& steps, const std::string& key) {
  const auto found = std::find_if(steps.begin(), steps.end(), [&](const auto& step) { return step.key() == key; });
  return found == steps.end() ? nullptr : &*found;
}

std::string MessageOf(const std::vector<v1::TuneStep>& steps, const std::string& key) {
  const v1::TuneStep* step = Find(steps, key);
  return step == nullptr ? "no such step" : step->message();
}

class DescriptorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    host_.InstallDocker(kText);
    host_.units = {{"docker.service", {.soft = 1024, .hard = 524288}},
                   {"containerd.service", {.soft = 16, .hard = 32}}};
    ASSERT_TRUE(descriptors_.Load().ok());
    before_ = host_.Everything();
  }

  std::vector<v1::TuneStep> Apply(const std::string& profile, uint64_t soft, uint64_t hard, bool restart = false) {
    return descriptors_.Apply(profile, Limits(soft, hard), kNrOpen, restart);
  }

  const std::string kText = "{\n\t\"live-restore\": true\n}";
  FakeServices host_;
  Descriptors descriptors_ = Make(&host_, host_.real.get());
  std::map<std::string, std::string> before_;
};

TEST_F(DescriptorsTest, AppliedInPlacesThatNeedItAndTakenBackExactly) {
  ASSERT_EQ(chmod((host_.root + kJson).c_str(), 0600), 0);
  before_ = host_.Everything();
  const std::vector<std::string> steps = {"docker default-ulimits nofile: CHANGED 16:32 262144:262144",
                                          "systemd containerd.service LimitNOFILE: CHANGED 16:32 262144:262144",
                                          "systemd docker.service LimitNOFILE: CHANGED 1024:524288 262144:524288"};
  EXPECT_EQ(Words(descriptors_.Plan("p", Limits(262144, 262144), kNrOpen)), steps);
  EXPECT_EQ(host_.Everything(), before_);
  EXPECT_THAT(host_.commands, IsEmpty());
  EXPECT_EQ(Words(Apply("p", 262144, 262144)), steps);
  EXPECT_EQ(host_.TextOf(kJson),
            "{\n\t\"live-restore\": true,\n\t\"default-ulimits\": {\n\t\t\"nofile\": {\n\t\t\t\"Name\": \"nofile\",\n"
            "\t\t\t\"Soft\": 262144,\n\t\t\t\"Hard\": 262144\n\t\t}\n\t}\n}");
  EXPECT_EQ(host_.TextOf("/etc/docker/daemon.json.loadstar-p"), kText);
  EXPECT_EQ(host_.real->Read(kJson)->access.mode, 0600u);
  EXPECT_EQ(host_.real->Read("/etc/docker/daemon.json.loadstar-p")->access.mode, 0600u);
  EXPECT_EQ(host_.real->Read(kRecord)->access.mode, 0600u);
  EXPECT_THAT(host_.TextOf(kDockerDropIn), HasSubstr("\n[Service]\nLimitNOFILE=262144:524288\n"));
  EXPECT_EQ(ToText(host_.InEffect("docker.service")), "262144:524288");
  EXPECT_THAT(host_.TextOf(kContainerdDropIn), HasSubstr("\n[Service]\nLimitNOFILE=262144:262144\n"));
  EXPECT_THAT(host_.commands, ElementsAre("dockerd --validate", "systemctl daemon-reload", "systemctl daemon-reload"));
  EXPECT_THAT(descriptors_.Applied(), ElementsAre("p"));
  EXPECT_TRUE(descriptors_.IsApplied("p", Descriptors::kDockerKey));
  EXPECT_FALSE(descriptors_.IsApplied("q", Descriptors::kDockerKey));

  // Once more: nothing to do. And what the next life of the agent knows is the same.
  host_.commands.clear();
  const auto applied = host_.Everything();
  for (const std::string& word : Words(Apply("p", 262144, 262144))) EXPECT_THAT(word, HasSubstr("FULFILLED"));
  Descriptors next = Make(&host_, host_.real.get());
  ASSERT_TRUE(next.Load().ok());
  EXPECT_THAT(Words(next.Status()),
              ElementsAre("docker default-ulimits nofile: APPLIED 16:32 262144:262144",
                          "systemd containerd.service LimitNOFILE: APPLIED 16:32 262144:262144",
                          "systemd docker.service LimitNOFILE: APPLIED 1024:524288 262144:524288"));
  EXPECT_EQ(host_.Everything(), applied);
  EXPECT_THAT(host_.commands, IsEmpty());
  EXPECT_THAT(Words(next.Rollback("p", false)),
              ElementsAre("systemd docker.service LimitNOFILE: RESTORED 262144:524288 1024:524288",
                          "systemd containerd.service LimitNOFILE: RESTORED 262144:262144 16:32",
                          "docker default-ulimits nofile: RESTORED 262144:262144 16:32"));
  EXPECT_EQ(host_.Everything(), before_);
  EXPECT_EQ(ToText(host_.InEffect("docker.service")), "1024:524288");
  EXPECT_THAT(next.Status(), IsEmpty());
  EXPECT_THAT(next.Rollback("p", false), IsEmpty());
}

TEST_F(DescriptorsTest, ARollbackOfSomeKeysLeavesTheOthers) {
  Apply("p", 262144, 262144);
  EXPECT_THAT(Words(descriptors_.Rollback("p", false, {Descriptors::kDockerKey})),
              ElementsAre("docker default-ulimits nofile: RESTORED 262144:262144 16:32"));
  EXPECT_EQ(host_.TextOf(kJson), kText);
  EXPECT_TRUE(host_.real->Exists(kDockerDropIn));
}

TEST_F(DescriptorsTest, AFileThatWasNotThereIsRemovedWithItsFolder) {
  fs::remove_all(host_.root + "/etc/docker");
  before_ = host_.Everything();
  EXPECT_THAT(Words(Apply("p", 1000, 2000)), Contains("docker default-ulimits nofile: CHANGED 16:32 1000:2000"));
  EXPECT_FALSE(host_.real->Exists("/etc/docker/daemon.json.loadstar-p"));
  descriptors_.Rollback("p", false);
  EXPECT_EQ(host_.Everything(), before_);
}

TEST_F(DescriptorsTest, ProfilesAreLayeredAndGoInAnyOrder) {
  for (const bool first_goes_first : {true, false}) {
    Apply("first", 100'000, 600'000);
    Apply("second", 200'000, 200'000);
    EXPECT_EQ(ToText(*ReadDaemonJson("f", host_.TextOf(kJson))->limit), "200000:600000");
    EXPECT_EQ(ToText(host_.InEffect("docker.service")), "200000:600000");
    if (first_goes_first) {
      EXPECT_THAT(Words(descriptors_.Rollback("first", false)),
                  ElementsAre("systemd docker.service LimitNOFILE: KEPT 200000:600000 200000:524288",
                              "systemd containerd.service LimitNOFILE: KEPT 200000:600000 200000:200000",
                              "docker default-ulimits nofile: KEPT 200000:600000 200000:200000"));
      EXPECT_EQ(ToText(host_.InEffect("docker.service")), "200000:524288");
    } else {
      descriptors_.Rollback("second", false);
      EXPECT_EQ(ToText(host_.InEffect("docker.service")), "100000:600000");
      EXPECT_EQ(host_.TextOf(kJson), MergeDaemonJson("f", kText, {.soft = 100'000, .hard = 600'000})->text);
    }
    descriptors_.Rollback(first_goes_first ? "second" : "first", false);
    EXPECT_EQ(host_.Everything(), before_);
    EXPECT_EQ(ToText(host_.InEffect("docker.service")), "1024:524288");
  }
}

TEST_F(DescriptorsTest, WhatSomebodyElseChangedSinceIsLeftUnlessForced) {
  Apply("p", 1000, 2000);
  const std::string theirs = "{\"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", \"Soft\": 5, \"Hard\": 6}}}";
  host_.WriteFile(kJson, theirs);
  EXPECT_THAT(Words(descriptors_.Status()), Contains("docker default-ulimits nofile: FOREIGN 16:32 5:6"));
  const auto steps = descriptors_.Rollback("p", false);
  EXPECT_THAT(Words(steps), Contains("docker default-ulimits nofile: FOREIGN 5:6 5:6"));
  EXPECT_THAT(MessageOf(steps, Descriptors::kDockerKey), HasSubstr("--force"));
  EXPECT_TRUE(Find(steps, Descriptors::kDockerKey)->obstacle());
  EXPECT_EQ(host_.TextOf(kJson), theirs);
  EXPECT_EQ(host_.TextOf("/etc/docker/daemon.json.loadstar-p"), kText);
  EXPECT_THAT(Words(descriptors_.Rollback("p", true)),
              ElementsAre("docker default-ulimits nofile: RESTORED 5:6 16:32"));
  EXPECT_EQ(host_.Everything(), before_);
}

TEST_F(DescriptorsTest, WhatSomebodyElseWroteSinceIsTheBaseOfTheNextApply) {
  Apply("p", 1000, 2000);
  const std::string theirs = "{\"icc\": false}";
  host_.WriteFile(kJson, theirs);
  EXPECT_THAT(Words(Apply("p", 1000, 2000)), Contains("docker default-ulimits nofile: CHANGED 16:32 1000:2000"));
  descriptors_.Rollback("p", false);
  EXPECT_EQ(host_.TextOf(kJson), theirs);
  EXPECT_FALSE(host_.real->Exists("/etc/docker/daemon.json.loadstar-p"));
  EXPECT_FALSE(host_.real->Exists(kRecord));
}

TEST_F(DescriptorsTest, OurOwnLimitInSomebodyElsesTextIsNoBase) {
  Apply("p", 1000, 2000);
  // An editor that keeps what it finds.
  std::string theirs = host_.TextOf(kJson);
  theirs.insert(theirs.rfind('}'), ", \"icc\": false");
  host_.WriteFile(kJson, theirs);
  for (const uint64_t soft : {1000, 1500}) {
    const auto steps = Apply("p", soft, 2000);
    EXPECT_THAT(Words(steps), Contains("docker default-ulimits nofile: FOREIGN 1000:2000 1000:2000"));
    EXPECT_TRUE(Find(steps, Descriptors::kDockerKey)->obstacle());
    EXPECT_EQ(host_.TextOf(kJson), theirs);
  }
  EXPECT_THAT(Words(descriptors_.Rollback("p", true)),
              Contains("docker default-ulimits nofile: RESTORED 1000:2000 16:32"));
  EXPECT_EQ(host_.Everything(), before_);
}

TEST_F(DescriptorsTest, AFileThatWasNeverWrittenIsNotRestored) {
  host_.WriteFile(kJson, R"({"default-ulimits":{"nofile":{"Name":"nofile","Soft":5000,"Hard":-1}}})");
  EXPECT_THAT(Words(Apply("p", 1000, 2000)),
              Contains("docker default-ulimits nofile: FULFILLED 5000:infinity 5000:infinity"));
  EXPECT_FALSE(host_.real->Exists("/etc/docker/daemon.json.loadstar-p"));
  host_.WriteFile(kJson, R"({"default-ulimits":{"nofile":{"Name":"nofile","Soft":5,"Hard":-1}}})");
  const auto changed = host_.TextOf(kJson);
  EXPECT_THAT(Words(descriptors_.Status()),
              Contains("docker default-ulimits nofile: FOREIGN 5000:infinity 5:infinity"));
  EXPECT_THAT(Words(descriptors_.Rollback("p", false)),
              Contains("docker default-ulimits nofile: RESTORED 5:infinity 5:infinity"));
  EXPECT_EQ(host_.TextOf(kJson), changed);
}

TEST_F(DescriptorsTest, WhatContainersInheritIsNotLowered) {
  host_.units["containerd.service"] = {.soft = 1024, .hard = kUnlimited};
  EXPECT_THAT(Words(Apply("p", 262144, 262144)),
              ElementsAre("docker default-ulimits nofile: CHANGED 1024:1048576 262144:1048576",
                          "systemd containerd.service LimitNOFILE: CHANGED 1024:infinity 262144:infinity",
                          "systemd docker.service LimitNOFILE: CHANGED 1024:524288 262144:524288"));
  EXPECT_EQ(ToText(*ReadDaemonJson("f", host_.TextOf(kJson))->limit), "262144:1048576");
  descriptors_.Rollback("p", false);
  EXPECT_EQ(host_.Everything(), before_);
  host_.units["containerd.service"] = {.soft = kUnlimited, .hard = kUnlimited};
  EXPECT_THAT(Words(Apply("p", 262144, 262144)),
              ElementsAre("docker default-ulimits nofile: FULFILLED 1048576:1048576 1048576:1048576",
                          "systemd containerd.service LimitNOFILE: FULFILLED infinity:infinity infinity:infinity",
                          "systemd docker.service LimitNOFILE: CHANGED 1024:524288 262144:524288"));
  EXPECT_EQ(host_.TextOf(kJson), kText);
  EXPECT_THAT(Words(descriptors_.Status()), Contains(HasSubstr("docker default-ulimits nofile: APPLIED")));
  descriptors_.Rollback("p", false);
  EXPECT_EQ(host_.Everything(), before_);
}

TEST_F(DescriptorsTest, WithoutSystemdTheEnginesProcessTellsWhatContainersInherit) {
  fs::remove_all(host_.root + "/run/systemd");
  host_.RunDocker();
  const char* head = "Limit                     Soft Limit           Hard Limit           Units     \n";
  host_.WriteFile(
      "/proc/77/limits",
      absl::StrCat(head, "Max open files            4096                 300000               files     \n"));
  EXPECT_THAT(Words(descriptors_.Plan("p", Limits(1000, 2000), kNrOpen)),
              ElementsAre("docker default-ulimits nofile: FULFILLED 4096:300000 4096:300000"));
  host_.WriteFile(
      "/proc/77/limits",
      absl::StrCat(head, "Max open files            300000               300000               files     \n"));
  const auto plan = descriptors_.Plan("p", Limits(1000, 2000), kNrOpen);
  EXPECT_THAT(Words(plan), ElementsAre("docker default-ulimits nofile: CHANGED unknown:300000 300000:300000"));
  EXPECT_THAT(MessageOf(plan, Descriptors::kDockerKey), HasSubstr("the hard one is not less"));
}

TEST_F(DescriptorsTest, ACopyOfThatNameThatIsThereIsNotTouched) {
  host_.WriteFile("/etc/docker/daemon.json.loadstar-p", "mine");
  before_ = host_.Everything();
  Apply("p", 1000, 2000);
  EXPECT_EQ(host_.TextOf("/etc/docker/daemon.json.loadstar-p"), "mine");
  descriptors_.Rollback("p", false);
  EXPECT_EQ(host_.Everything(), before_);
}

TEST_F(DescriptorsTest, ALinkIsRefused) {
  fs::rename(host_.root + kJson, host_.root + "/etc/docker/real.json");
  fs::create_symlink("real.json", host_.root + kJson);
  before_ = host_.Everything();
  const auto steps = Apply("p", 1000, 2000);
  EXPECT_EQ(Find(steps, Descriptors::kDockerKey)->outcome(), v1::TUNE_OUTCOME_UNSUITABLE);
  EXPECT_TRUE(Find(steps, Descriptors::kDockerKey)->obstacle());
  EXPECT_THAT(MessageOf(steps, Descriptors::kDockerKey), HasSubstr("/etc/docker/daemon.json is a symbolic link"));
  descriptors_.Rollback("p", false);
  EXPECT_EQ(host_.Everything(), before_);
}

TEST_F(DescriptorsTest, AFileThatIsNoJsonIsRefusedWithItsPlace) {
  host_.WriteFile(kJson, "{\n  debug\n}");
  const auto steps = Apply("p", 1000, 2000);
  EXPECT_EQ(Find(steps, Descriptors::kDockerKey)->outcome(), v1::TUNE_OUTCOME_UNSUITABLE);
  EXPECT_THAT(MessageOf(steps, Descriptors::kDockerKey), HasSubstr("/etc/docker/daemon.json:2:3: no JSON"));
  EXPECT_EQ(host_.TextOf(kJson), "{\n  debug\n}");
}

TEST_F(DescriptorsTest, WhatDockerdDoesNotTakeIsPutBack) {
  host_.validation = {.code = 1, .output = "unable to configure: \xFFunknown\nflagged\n"};
  const auto steps = Apply("p", 1000, 2000);
  EXPECT_EQ(Find(steps, Descriptors::kDockerKey)->outcome(), v1::TUNE_OUTCOME_REFUSED);
  EXPECT_THAT(MessageOf(steps, Descriptors::kDockerKey), HasSubstr("unable to configure: ?unknown flagged"));
  EXPECT_FALSE(descriptors_.IsApplied("p", Descriptors::kDockerKey));
  descriptors_.Rollback("p", false);
  EXPECT_EQ(host_.Everything(), before_);
  host_.validation = {.code = 125, .output = "unknown flag: --validate\nSee 'dockerd --help'.\n"};
  const auto old = Apply("p", 1000, 2000);
  EXPECT_EQ(Find(old, Descriptors::kDockerKey)->outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_THAT(MessageOf(old, Descriptors::kDockerKey), HasSubstr("older than version 23"));
}

TEST_F(DescriptorsTest, ALimitOnDockersCommandLineIsInTheWay) {
  const auto refusal = [&] {
    const auto steps = descriptors_.Plan("p", Limits(1000, 2000), kNrOpen);
    EXPECT_EQ(Find(steps, Descriptors::kDockerKey)->outcome(), v1::TUNE_OUTCOME_UNSUITABLE);
    return MessageOf(steps, Descriptors::kDockerKey);
  };
  host_.RunDocker(std::string("--default-ulimit\0nofile=1:2\0", 28));
  EXPECT_THAT(refusal(), HasSubstr("the command line of process 77 (dockerd) has --default-ulimit"));
  host_.RunDocker(std::string("--config-file=/etc/other.json\0", 30));
  EXPECT_THAT(refusal(), HasSubstr("Docker reads /etc/other.json in place of"));
  host_.RunDocker();
  fs::create_directories(host_.root + "/etc/sysconfig");
  host_.WriteFile("/etc/sysconfig/docker", "# nothing\nOPTIONS=\"--default-ulimit nofile=32768:65536\"\n");
  EXPECT_THAT(refusal(), HasSubstr("/etc/sysconfig/docker has --default-ulimit"));
  host_.WriteFile("/etc/sysconfig/docker", "# --default-ulimit nofile=32768:65536\n");
  host_.exec_start = "{ argv[]=/usr/bin/dockerd --default-ulimit=nofile=1:2 }";
  EXPECT_THAT(refusal(), HasSubstr("docker.service has --default-ulimit"));
}

TEST_F(DescriptorsTest, ADropInThatIsReadLaterIsReportedAndOursTakenBack) {
  host_.later["docker.service"] = {.soft = 10, .hard = 20};
  const auto steps = Apply("p", 2000, 2000);
  EXPECT_EQ(Find(steps, Descriptors::kDockerUnitKey)->outcome(), v1::TUNE_OUTCOME_REFUSED);
  EXPECT_THAT(MessageOf(steps, Descriptors::kDockerUnitKey), HasSubstr("systemctl cat docker.service"));
  EXPECT_FALSE(host_.real->Exists(kDockerDropIn));
  EXPECT_FALSE(descriptors_.IsApplied("p", Descriptors::kDockerUnitKey));
}

TEST_F(DescriptorsTest, WhenSystemdFailsTheFileIsAsItWas) {
  host_.failing = {"systemctl daemon-reload"};
  const auto steps = Apply("p", 262144, 262144);
  EXPECT_EQ(Find(steps, Descriptors::kDockerUnitKey)->outcome(), v1::TUNE_OUTCOME_UNCERTAIN);
  EXPECT_THAT(MessageOf(steps, Descriptors::kDockerUnitKey), HasSubstr("it does not work"));
  EXPECT_FALSE(host_.real->Exists(kDockerDropIn));
  host_.failing.clear();
  for (const v1::TuneStep& step : descriptors_.Rollback("p", false)) {
    EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_RESTORED) << step.message();
  }
  EXPECT_EQ(host_.Everything(), before_);
}

TEST_F(DescriptorsTest, ServicesThatAreNotHereHaveNoStep) {
  host_.units.erase("docker.service");
  EXPECT_EQ(Find(Apply("p", 262144, 262144), Descriptors::kDockerUnitKey), nullptr);
  fs::remove_all(host_.root + "/run/systemd");
  EXPECT_EQ(Find(Apply("q", 262144, 262144), Descriptors::kContainerdUnitKey), nullptr);
}

TEST_F(DescriptorsTest, AHostWithoutDockerLacksNothing) {
  fs::remove_all(host_.root + "/etc/docker");
  fs::remove(host_.root + "/usr/bin/dockerd");
  host_.units.clear();
  before_ = host_.Everything();
  const auto steps = Apply("p", 262144, 262144);
  EXPECT_THAT(Words(steps), ElementsAre("docker default-ulimits nofile: MISSING  "));
  EXPECT_FALSE(Find(steps, Descriptors::kDockerKey)->obstacle());
  EXPECT_EQ(host_.Everything(), before_);
}

TEST_F(DescriptorsTest, MoreThanTheKernelGivesIsAnObstacle) {
  const auto steps = descriptors_.Apply("p", Limits(1000, 2'000'000), kNrOpen, false);
  for (const char* key : {Descriptors::kDockerKey, Descriptors::kDockerUnitKey}) {
    EXPECT_EQ(Find(steps, key)->outcome(), v1::TUNE_OUTCOME_REFUSED);
    EXPECT_TRUE(Find(steps, key)->obstacle());
    EXPECT_THAT(MessageOf(steps, key), HasSubstr("raise fs.nr_open to 2000000"));
  }
  EXPECT_EQ(host_.TextOf(kJson), kText);
}

TEST_F(DescriptorsTest, WhatRunsIsRestartedOnlyWhereThatIsAllowed) {
  host_.RunDocker();
  const auto steps = Apply("p", 262144, 262144);
  for (const auto& all : {steps, Apply("p", 262144, 262144), descriptors_.Status()}) {
    for (const char* key : {Descriptors::kDockerKey, Descriptors::kDockerUnitKey}) {
      EXPECT_EQ(
          MessageOf(all, key),
          "takes effect when Docker is restarted; its containers stop unless live-restore is on: systemctl restart "
          "docker.service");
      EXPECT_FALSE(Find(all, key)->obstacle());
    }
    EXPECT_EQ(MessageOf(all, Descriptors::kContainerdUnitKey), "");
  }
  EXPECT_THAT(host_.commands, Not(Contains(HasSubstr("restart"))));
  EXPECT_EQ(MessageOf(Apply("p", 262144, 262144, true), Descriptors::kDockerKey), "Docker was restarted");
  EXPECT_EQ(std::count(host_.commands.begin(), host_.commands.end(), "systemctl try-restart docker.service"), 1);
  // It has read the file by now.
  EXPECT_EQ(MessageOf(Apply("p", 262144, 262144, true), Descriptors::kDockerKey), "");
  EXPECT_EQ(std::count(host_.commands.begin(), host_.commands.end(), "systemctl try-restart docker.service"), 1);
  EXPECT_THAT(MessageOf(descriptors_.Rollback("p", false), Descriptors::kDockerKey),
              HasSubstr("when Docker is restarted"));
}

TEST_F(DescriptorsTest, ARestartThatFailsIsAnObstacle) {
  host_.RunDocker();
  host_.failing = {"systemctl try-restart docker.service"};
  const auto steps = Apply("p", 262144, 262144, true);
  EXPECT_TRUE(Find(steps, Descriptors::kDockerKey)->obstacle());
  EXPECT_THAT(MessageOf(steps, Descriptors::kDockerKey), AllOf(HasSubstr("it does not work"), HasSubstr("rollback")));
}

TEST_F(DescriptorsTest, WithoutSystemdTheUserRestarts) {
  fs::remove_all(host_.root + "/run/systemd");
  host_.RunDocker();
  const auto steps = Apply("p", 262144, 262144, true);
  EXPECT_THAT(MessageOf(steps, Descriptors::kDockerKey), HasSubstr("systemd does not run here"));
  EXPECT_THAT(host_.commands, ElementsAre("dockerd --validate"));
}

TEST_F(DescriptorsTest, TheAgentsOwnLimitIsToldAndNoObstacle) {
  Descriptors small = Make(&host_, host_.real.get(), {.soft = 20'000, .hard = 20'000});
  ASSERT_TRUE(small.Load().ok());
  const auto steps = small.Plan("p", Limits(262144, 262144), kNrOpen);
  const v1::TuneStep* step = Find(steps, Descriptors::kAgentKey);
  ASSERT_NE(step, nullptr);
  EXPECT_EQ(step->before(), "20000:20000");
  EXPECT_FALSE(step->obstacle());
  EXPECT_THAT(step->message(), AllOf(HasSubstr("more workers"), HasSubstr("CAP_SYS_RESOURCE")));
  EXPECT_THAT(MessageOf(small.Plan("p", Limits(1, 262144), 100'000), Descriptors::kAgentKey), HasSubstr("fs.nr_open"));
  EXPECT_EQ(Find(descriptors_.Plan("p", Limits(1, 262144), kNrOpen), Descriptors::kAgentKey)->outcome(),
            v1::TUNE_OUTCOME_FULFILLED);
}

TEST_F(DescriptorsTest, ADamagedRecordStopsEverything) {
  Apply("p", 1000, 2000);
  std::string record = host_.TextOf(kRecord);
  char& somewhere = record[record.size() / 2];
  somewhere = somewhere == 'x' ? 'y' : 'x';
  host_.WriteFile(kRecord, record);
  const auto all = host_.Everything();
  Descriptors next = Make(&host_, host_.real.get());
  EXPECT_TRUE(absl::IsDataLoss(next.Load()));
  for (const auto& steps :
       {next.Apply("p", Limits(3000, 3000), kNrOpen, true), next.Rollback("p", true), next.Status()}) {
    ASSERT_EQ(steps.size(), 1u);
    EXPECT_EQ(steps[0].key(), Descriptors::kRecordKey);
    EXPECT_TRUE(steps[0].obstacle());
    EXPECT_THAT(steps[0].message(), HasSubstr("is damaged"));
  }
  EXPECT_EQ(host_.Everything(), all);
}

TEST_F(DescriptorsTest, ALimitThatIsNoneIsRefused) {
  for (const auto& steps : {Apply("p", 2, 1), Apply("p", 0, 0), Apply("p", 1, kUnlimited)}) {
    ASSERT_EQ(steps.size(), 1u);
    EXPECT_EQ(steps[0].outcome(), v1::TUNE_OUTCOME_UNSUITABLE);
  }
}

// ---- Power cuts

void Work(Descriptors* descriptors) {
  descriptors->Apply("first", Limits(100'000, 600'000), kNrOpen, false);
  descriptors->Apply("second", Limits(200'000, 700'000), kNrOpen, false);
  descriptors->Rollback("first", false);
  descriptors->Rollback("second", false);
}

std::unique_ptr<FakeServices> HostForCrashes(bool with_file) {
  auto host = std::make_unique<FakeServices>();
  host->InstallDocker("{\r\n  \"debug\" : true\r\n}");
  if (!with_file) fs::remove_all(host->root + "/etc/docker");
  host->units = {{"docker.service", {.soft = 1024, .hard = 524288}},
                 {"containerd.service", {.soft = 1024, .hard = 4096}}};
  return host;
}

struct Cut {
  int operation = 0;
  FakeServices::Death death = FakeServices::Death::kBefore;
  bool with_file = true;
};

std::vector<Cut> AllCuts() {
  std::vector<Cut> cuts;
  for (const bool with_file : {true, false}) {
    const auto host = HostForCrashes(with_file);
    SwitchedFiles files(host.get());
    Descriptors descriptors = Make(host.get(), &files);
    EXPECT_TRUE(descriptors.Load().ok());
    const auto before = host->Everything();
    Work(&descriptors);
    EXPECT_EQ(host->Everything(), before);
    EXPECT_GT(host->operations, 40);
    for (int operation = 0; operation < host->operations; ++operation) {
      for (const auto death :
           {FakeServices::Death::kBefore, FakeServices::Death::kInTheMiddle, FakeServices::Death::kAfter}) {
        cuts.push_back({operation, death, with_file});
      }
    }
  }
  return cuts;
}

std::string ToString(const Cut& cut) {
  return absl::StrCat("operation ", cut.operation, ", death ", static_cast<int>(cut.death), ", file ", cut.with_file);
}

void WorkUntil(const Cut& cut, FakeServices* host) {
  SwitchedFiles files(host);
  Descriptors descriptors = Make(host, &files);
  ASSERT_TRUE(descriptors.Load().ok());
  host->dies_at = cut.operation;
  host->how = cut.death;
  Work(&descriptors);
  ASSERT_TRUE(host->dead);
  host->dead = false;
  host->dies_at = -1;
}

void ExpectUntouched(const FakeServices& host, const std::map<std::string, std::string>& before) {
  EXPECT_EQ(host.Everything(), before);
  EXPECT_EQ(ToText(host.InEffect("docker.service")), "1024:524288");
  EXPECT_EQ(ToText(host.InEffect("containerd.service")), "1024:4096");
}

TEST(DescriptorsCrashTest, AtEveryBoundaryStatusIsExactAndRollbackRestoresAll) {
  for (const Cut& cut : AllCuts()) {
    SCOPED_TRACE(ToString(cut));
    const auto host = HostForCrashes(cut.with_file);
    const auto before = host->Everything();
    WorkUntil(cut, host.get());
    Descriptors next = Make(host.get(), host->real.get());
    ASSERT_TRUE(next.Load().ok());

    // Whatever is not as it was has a step that says what it holds, and no step says more than that.
    std::set<std::string> applied;
    for (const v1::TuneStep& step : next.Status()) {
      EXPECT_NE(step.outcome(), v1::TUNE_OUTCOME_FOREIGN) << step.key() << ": " << step.message();
      if (step.outcome() == v1::TUNE_OUTCOME_APPLIED || step.outcome() == v1::TUNE_OUTCOME_UNCERTAIN)
        applied.insert(step.key());
      if (step.outcome() != v1::TUNE_OUTCOME_APPLIED) continue;
      const os::DescriptorLimit wanted = step.profile() == "first"
                                             ? os::DescriptorLimit{.soft = 100'000, .hard = 600'000}
                                             : os::DescriptorLimit{.soft = 200'000, .hard = 700'000};
      if (step.key() == Descriptors::kDockerKey) {
        EXPECT_TRUE(Covers(ReadDaemonJson("f", host->TextOf(kJson))->limit.value_or(os::DescriptorLimit{}), wanted));
      } else {
        EXPECT_TRUE(
            Covers(host->InEffect(step.key() == Descriptors::kDockerUnitKey ? "docker.service" : "containerd.service"),
                   wanted));
      }
    }
    const auto now = host->Everything();
    const auto same = [&](const char* path) {
      const auto was = before.find(path);
      const auto is = now.find(path);
      return was == before.end() ? is == now.end() : is != now.end() && was->second == is->second;
    };
    EXPECT_EQ(applied.count(Descriptors::kDockerKey) > 0, !same(kJson));
    EXPECT_EQ(applied.count(Descriptors::kDockerUnitKey) > 0, !same(kDockerDropIn));
    EXPECT_EQ(applied.count(Descriptors::kContainerdUnitKey) > 0, !same(kContainerdDropIn));

    for (const std::string& profile : next.Applied()) {
      for (const v1::TuneStep& step : next.Rollback(profile, false)) {
        EXPECT_TRUE(step.outcome() == v1::TUNE_OUTCOME_RESTORED || step.outcome() == v1::TUNE_OUTCOME_KEPT)
            << step.key() << ": " << step.message();
      }
    }
    ExpectUntouched(*host, before);
  }
}

TEST(DescriptorsCrashTest, AtEveryBoundaryTheWorkCanBeDoneOnceMore) {
  for (const Cut& cut : AllCuts()) {
    SCOPED_TRACE(ToString(cut));
    const auto host = HostForCrashes(cut.with_file);
    const auto before = host->Everything();
    WorkUntil(cut, host.get());
    Descriptors next = Make(host.get(), host->real.get());
    ASSERT_TRUE(next.Load().ok());
    for (const v1::TuneStep& step : next.Apply("second", Limits(200'000, 700'000), kNrOpen, false)) {
      EXPECT_TRUE(step.outcome() == v1::TUNE_OUTCOME_CHANGED || step.outcome() == v1::TUNE_OUTCOME_FULFILLED)
          << step.key() << ": " << step.message();
    }
    EXPECT_EQ(ToText(*ReadDaemonJson("f", host->TextOf(kJson))->limit), "200000:700000");
    EXPECT_EQ(ToText(host->InEffect("docker.service")), "200000:700000");
    EXPECT_EQ(ToText(host->InEffect("containerd.service")), "200000:700000");
    for (const std::string& profile : next.Applied()) next.Rollback(profile, false);
    ExpectUntouched(*host, before);
  }
}

TEST(DescriptorsCrashTest, ASecondCrashWhileTheFirstIsUndoneIsUndoneToo) {
  for (const Cut& cut : AllCuts()) {
    if (cut.operation % 3 != 0) continue;
    for (int second = 0; second < 12; ++second) {
      SCOPED_TRACE(absl::StrCat(ToString(cut), ", then ", second));
      const auto host = HostForCrashes(cut.with_file);
      const auto before = host->Everything();
      WorkUntil(cut, host.get());
      {
        SwitchedFiles files(host.get());
        Descriptors next = Make(host.get(), &files);
        ASSERT_TRUE(next.Load().ok());
        host->operations = 0;
        host->dies_at = second;
        for (const std::string& profile : next.Applied()) next.Rollback(profile, false);
        host->dead = false;
        host->dies_at = -1;
      }
      Descriptors last = Make(host.get(), host->real.get());
      ASSERT_TRUE(last.Load().ok());
      for (const std::string& profile : last.Applied()) last.Rollback(profile, false);
      ExpectUntouched(*host, before);
    }
  }
}

TEST(DescriptorsProperty, WhateverTheFileHoldsIsThereAgainAfterARollback) {
  const std::vector<std::string> pieces = {"{",
                                           "}",
                                           "\"a\": 1",
                                           ",",
                                           "\n",
                                           "\t",
                                           " ",
                                           "\xFF",
                                           "\r\n",
                                           "\"nofile\": {\"Soft\": 7}",
                                           "\"default-ulimits\": {",
                                           "\"debug\": true"};
  EXPECT_TRUE(rc::check("rollback is exact", [&pieces] {
    FakeServices host;
    std::string text = "{";
    for (int i = *rc::gen::inRange(0, 8); i > 0; --i) text += *rc::gen::elementOf(pieces);
    if (*rc::gen::inRange(0, 4) > 0) text = "{\"x\": " + text + "}";
    host.InstallDocker(text);
    const auto before = host.Everything();
    Descriptors descriptors = Make(&host, host.real.get());
    RC_ASSERT(descriptors.Load().ok());
    const std::vector<std::string> profiles = {"a", "b", "c"};
    for (const std::string& profile : profiles) {
      const auto soft = *rc::gen::inRange<uint64_t>(1, 100);
      descriptors.Apply(profile, Limits(soft, soft + *rc::gen::inRange<uint64_t>(0, 50)), kNrOpen, false);
    }
    RC_ASSERT(ReadDaemonJson("f", host.TextOf(kJson)).ok() == ReadDaemonJson("f", text).ok());
    std::vector<std::string> order = profiles;
    std::swap(order[0], order[*rc::gen::inRange<size_t>(0, 3)]);
    std::swap(order[1], order[*rc::gen::inRange<size_t>(1, 3)]);
    for (const std::string& profile : order) descriptors.Rollback(profile, false);
    RC_ASSERT(host.Everything() == before);
  }));
}

}  // namespace
}  // namespace loadstar::agent
