#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/spec/complete.h"
#include "lib/spec/kernel_version.h"
#include "lib/spec/kinds.h"
#include "lib/spec/name.h"
#include "lib/spec/spec.h"
#include "lib/spec/sysctl_key.h"
#include "lib/spec/text.h"

namespace loadstar::spec {
namespace {

constexpr int kMaxSysctls = 256;
constexpr int kMaxNumbers = 3;
constexpr int kMaxRanges = 256;
constexpr uint64_t kMaxPort = 65'535;
constexpr uint64_t kMaxNumber = std::numeric_limits<int64_t>::max();
constexpr size_t kMaxModule = 63;
constexpr size_t kMaxSentence = 300;
// What systemd raises fs.nr_open to where it can; no limit of a process may be above that.
constexpr uint64_t kMaxDescriptors = 1'073'741'816;
constexpr uint32_t kMaxCpus = 1024;
constexpr uint64_t kMinMemory = 512ULL << 20;
constexpr uint64_t kMinDisk = 10ULL << 30;
constexpr uint64_t kMaxMachineBytes = 1ULL << 50;

// What may be asked of a kind of key; the first is the default.
std::vector<v1::SysctlPolicy> PoliciesOf(SysctlKind kind) {
  switch (kind) {
    case SysctlKind::kChoice:
      return {v1::SYSCTL_POLICY_EXACTLY};
    case SysctlKind::kRange:
      return {v1::SYSCTL_POLICY_COVERS, v1::SYSCTL_POLICY_EXACTLY};
    case SysctlKind::kPorts:
      return {v1::SYSCTL_POLICY_INCLUDES};
    case SysctlKind::kSize:
      break;
  }
  return {v1::SYSCTL_POLICY_AT_LEAST, v1::SYSCTL_POLICY_EXACTLY};
}

std::string_view MeaningOf(SysctlKind kind) {
  switch (kind) {
    case SysctlKind::kChoice:
      return "choices, of which none is more than another";
    case SysctlKind::kRange:
      return "the ends of a range";
    case SysctlKind::kPorts:
      return "a list of ports";
    case SysctlKind::kSize:
      break;
  }
  return "sizes";
}

bool IsModuleName(std::string_view text) {
  return text.size() <= kMaxModule && !text.starts_with('-') && std::all_of(text.begin(), text.end(), [](char c) {
           return IsNameCharacter(c) || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
         });
}

void CheckPolicy(v1::SysctlSetting* setting, const std::string& field, Report* report) {
  const SysctlKind kind = SysctlKindOf(setting->key());
  const std::vector<v1::SysctlPolicy> possible = PoliciesOf(kind);
  if (setting->policy() == v1::SYSCTL_POLICY_UNSPECIFIED) setting->set_policy(possible.front());
  if (std::find(possible.begin(), possible.end(), setting->policy()) != possible.end()) return;
  std::vector<std::string> words;
  words.reserve(possible.size());
  for (const v1::SysctlPolicy policy : possible) words.emplace_back(WordOf(policy));
  report->Add(field,
              Cat("the numbers of ", setting->key(), " are ", MeaningOf(kind), ", for which ",
                  WordOf(setting->policy()), " means nothing"),
              Cat("Write policy: ", JoinWords(words, " or ")));
}

void CheckRanges(const v1::SysctlSetting& setting, const std::string& field, Report* report) {
  for (int i = 0; i + 1 < setting.values_size(); i += 2) {
    if (setting.values(i) > setting.values(i + 1)) {
      return report->Add(field,
                         Cat("the range ", setting.values(i), "-", setting.values(i + 1), " ends before it begins"));
    }
    if (setting.values(i + 1) > kMaxPort) {
      return report->Add(field, Cat("there is no port ", setting.values(i + 1)), Cat("The last one is ", kMaxPort));
    }
  }
}

void CheckValues(const v1::SysctlSetting& setting, const std::string& field, Report* report) {
  if (report->Spoilt(field)) return;
  const int count = setting.values_size();
  if (count == 0) return report->Add(field, "the setting has no value", "Write value: 4096");
  const SysctlKind kind = SysctlKindOf(setting.key());
  if (kind == SysctlKind::kRange && count != 2) {
    return report->Add(field, Cat("a range has two ends; here are ", count), "Write it such as 1024-65535");
  }
  if (kind == SysctlKind::kPorts && (count % 2 != 0 || count > 2 * kMaxRanges)) {
    return report->Add(field, Cat("here are ", count, " ends of ranges of ports"),
                       Cat("Give the first and the last of at most ", kMaxRanges, " ranges"));
  }
  if (kind == SysctlKind::kRange || kind == SysctlKind::kPorts) {
    return CheckRanges(setting, field, report);
  }
  if (count > kMaxNumbers) {
    return report->Add(field, Cat("there are ", count, " numbers; at most ", kMaxNumbers, " are possible"));
  }
  for (const uint64_t value : setting.values()) {
    if (value > kMaxNumber) return report->Add(field, Cat(value, " is more than the kernel can hold"));
  }
  if (setting.policy() == v1::SYSCTL_POLICY_AT_LEAST &&
      std::all_of(setting.values().begin(), setting.values().end(), [](uint64_t value) { return value == 0; })) {
    report->Add(field, "every value is at least 0, so this asks for nothing", "Write policy: exactly, or a number");
  }
}

void CheckCondition(const v1::TuneCondition& condition, const std::string& field, Report* report) {
  constexpr char kHow[] = "Write it such as 5.7 or 6.1.10";
  const auto read = [&](const char* name, const std::string& text) -> std::optional<KernelVersion> {
    if (text.empty()) return std::nullopt;
    const std::optional<KernelVersion> version = ReadKernelVersion(text);
    if (!version.has_value()) report->Add(Join(field, name), Cat(Quoted(text), " is no kernel's version"), kHow);
    return version;
  };
  const std::optional<KernelVersion> from = read("kernelFrom", condition.kernel_from());
  const std::optional<KernelVersion> before = read("kernelBefore", condition.kernel_before());
  if (from.has_value() && before.has_value() && *from >= *before) {
    report->Add(Join(field, "kernelBefore"),
                Cat("no kernel is ", condition.kernel_from(), " or newer and older than ", condition.kernel_before()),
                "Raise kernelBefore or leave one of them out");
  }
  if (condition.cgroup() > 2) {
    report->Add(Join(field, "cgroup"), Cat("there is no version ", condition.cgroup(), " of control groups"),
                "Write cgroup: 1 or cgroup: 2");
  }
  const bool says_nothing =
      condition.kernel_from().empty() && condition.kernel_before().empty() && condition.cgroup() == 0;
  if (says_nothing && !report->Spoilt(field)) {
    report->Add(field, "the condition says nothing", "Leave when out, or write it such as when: {kernelFrom: 5.7}");
  }
}

void CompleteSysctl(v1::SysctlSetting* setting, const std::string& field, std::map<std::string, std::string>* seen,
                    Report* report) {
  const std::string key = Join(field, "key");
  if (setting->key().empty()) {
    report->Add(key, "the setting has no key", "Write key: net.core.somaxconn");
  } else if (!IsSysctlKey(setting->key())) {
    report->Add(key, Cat(Quoted(setting->key()), " is no sysctl's name"),
                "Write it with dots, such as net.core.somaxconn");
  } else if (const auto [other, first] = seen->emplace(setting->key(), key); !first) {
    report->Add(key, Cat(setting->key(), " is there twice (", other->second, ")"), "Keep one of them");
  }
  CheckPolicy(setting, Join(field, "policy"), report);
  CheckValues(*setting, Join(field, "value"), report);
  const std::string scope = Join(field, "scope");
  if (setting->scope() == v1::SYSCTL_SCOPE_UNSPECIFIED && !report->Spoilt(scope)) {
    report->Add(scope, "it is not said what a change reaches", "Write scope: host or scope: network-namespace");
  } else if (!v1::SysctlScope_IsValid(setting->scope())) {
    report->Add(scope, "unknown scope", "Use host, network-namespace, virtual-machine or container");
  }
  if (setting->has_when()) CheckCondition(setting->when(), Join(field, "when"), report);
  if (!setting->module().empty() && !IsModuleName(setting->module())) {
    report->Add(Join(field, "module"), Cat(Quoted(setting->module()), " is no module's name"),
                "Write it as lsmod shows it, such as nf_conntrack");
  }
  for (const auto& [name, text] : {std::pair("effect", setting->effect()), std::pair("source", setting->source())}) {
    const std::string sentence = Join(field, name);
    if (text.empty() && !report->Spoilt(sentence)) {
      report->Add(sentence, Cat("the setting has no ", name), "Who applies the profile will want to know");
    }
    CheckText(sentence, text, kMaxSentence, report);
  }
}

void CompleteDescriptors(v1::DescriptorLimits* limits, Report* report) {
  const std::string soft = "descriptors.soft";
  const std::string hard = "descriptors.hard";
  if (limits->soft() == 0) {
    return report->Add(soft, "a process has to be allowed at least one file", "Write soft: 262144");
  }
  if (limits->hard() == 0) limits->set_hard(limits->soft());
  for (const auto& [field, number] : {std::pair(soft, limits->soft()), std::pair(hard, limits->hard())}) {
    if (number > kMaxDescriptors) {
      report->Add(field, Cat(number, " is more than the kernel lets a process have"),
                  Cat("At most ", kMaxDescriptors, " is possible"));
    }
  }
  if (limits->soft() > limits->hard() && !report->Spoilt(soft) && !report->Spoilt(hard)) {
    report->Add(
        soft,
        Cat("a process would begin with ", limits->soft(), ", which is more than it may have (", limits->hard(), ")"),
        "Raise hard or lower soft");
  }
}

void CompleteVirtualMachine(const v1::VirtualMachine& machine, Report* report) {
  const auto check = [report](const char* name, uint64_t value, uint64_t least, uint64_t most, const char* unit,
                              const char* remedy) {
    const std::string field = Join("virtualMachine", name);
    if (value == 0) {
      report->Add(field, Cat("the virtual machine has no ", name), remedy);
    } else if (value < least || value > most) {
      report->Add(field,
                  Cat(value, unit, " is ", value < least ? "less than " : "more than ", value < least ? least : most,
                      unit, ", the ", value < least ? "least" : "most", " that is allowed"),
                  remedy);
    }
  };
  check("cpus", machine.cpus(), 1, kMaxCpus, "", "Write it such as cpus: 12");
  check("memory", machine.memory_bytes(), kMinMemory, kMaxMachineBytes, " bytes", "Write it such as memory: 16GiB");
  check("disk", machine.disk_bytes(), kMinDisk, kMaxMachineBytes, " bytes", "Write it such as disk: 100GiB");
}

}  // namespace

void CompleteTuningProfile(v1::TuningProfile* profile, Report* report) {
  CheckName("name", profile->name(), "my-profile", report);
  if (profile->has_descriptors()) CompleteDescriptors(profile->mutable_descriptors(), report);
  if (profile->has_when()) CheckCondition(profile->when(), "when", report);
  const auto& settings = profile->sysctls();
  const bool conditional = profile->has_when() || std::any_of(settings.begin(), settings.end(),
                                                              [](const auto& setting) { return setting.has_when(); });
  if (conditional && profile->has_virtual_machine()) {
    report->Add("virtualMachine",
                "a profile for a virtual machine can have no conditions (when): the kernel that it "
                "will have is known only when it runs",
                "Leave them out");
  }
  if (profile->has_virtual_machine()) CompleteVirtualMachine(profile->virtual_machine(), report);
  if (profile->sysctls().empty() && !report->Spoilt("sysctls")) {
    return report->Add("sysctls", "the profile has no settings",
                       "Write a list, such as [{key: net.core.somaxconn, value: 4096}]");
  }
  if (profile->sysctls_size() > kMaxSysctls) {
    return report->Add("sysctls",
                       Cat("there are ", profile->sysctls_size(), " settings; at most ", kMaxSysctls, " are allowed"));
  }
  std::map<std::string, std::string> seen;
  for (int i = 0; i < profile->sysctls_size(); ++i) {
    CompleteSysctl(profile->mutable_sysctls(i), Index("sysctls", static_cast<size_t>(i)), &seen, report);
  }
}

}  // namespace loadstar::spec
