#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <string>

#include "lib/spec/complete.h"
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

// Settings whose numbers are choices, of which none is more than another (Documentation/networking/ip-sysctl.rst,
// Documentation/admin-guide/sysctl/vm.rst).
constexpr std::array<std::string_view, 10> kChoices = {
    "net.ipv4.tcp_tw_reuse",       "net.ipv4.tcp_syncookies",         "net.ipv4.tcp_ecn",
    "net.ipv4.tcp_mtu_probing",    "net.ipv4.tcp_timestamps",         "net.ipv4.tcp_fastopen",
    "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter", "vm.overcommit_memory",
    "net.ipv4.ip_forward"};

bool IsChoice(std::string_view key) { return std::find(kChoices.begin(), kChoices.end(), key) != kChoices.end(); }

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
  switch (setting.policy()) {
    case v1::SYSCTL_POLICY_COVERS:
      if (count != 2) return report->Add(field, "covers needs one range", "Write it such as 1024-65535");
      return CheckRanges(setting, field, report);
    case v1::SYSCTL_POLICY_INCLUDES:
      if (count % 2 != 0) return report->Add(field, "includes needs ports", "Write them such as 8080,9100-9103");
      if (count > 2 * kMaxRanges) return report->Add(field, Cat("there are more than ", kMaxRanges, " ranges"));
      return CheckRanges(setting, field, report);
    default:
      if (count > kMaxNumbers) {
        return report->Add(field, Cat("there are ", count, " numbers; at most ", kMaxNumbers, " are possible"));
      }
      for (const uint64_t value : setting.values()) {
        if (value > kMaxNumber) return report->Add(field, Cat(value, " is more than the kernel can hold"));
      }
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
  if (setting->policy() == v1::SYSCTL_POLICY_UNSPECIFIED) setting->set_policy(v1::SYSCTL_POLICY_AT_LEAST);
  const std::string policy = Join(field, "policy");
  if (!v1::SysctlPolicy_IsValid(setting->policy())) {
    report->Add(policy, "unknown policy", "Use at-least, exactly, covers or includes");
  } else if (IsChoice(setting->key()) && setting->policy() != v1::SYSCTL_POLICY_EXACTLY) {
    report->Add(policy, Cat("the numbers of ", setting->key(), " are choices; none is more than another"),
                "Write policy: exactly");
  } else {
    CheckValues(*setting, Join(field, "value"), report);
  }
  const std::string scope = Join(field, "scope");
  if (setting->scope() == v1::SYSCTL_SCOPE_UNSPECIFIED && !report->Spoilt(scope)) {
    report->Add(scope, "it is not said what a change reaches", "Write scope: host or scope: network-namespace");
  } else if (!v1::SysctlScope_IsValid(setting->scope())) {
    report->Add(scope, "unknown scope", "Use host or network-namespace");
  }
  CheckText(Join(field, "module"), setting->module(), kMaxModule, report);
  for (const auto& [name, text] : {std::pair("effect", setting->effect()), std::pair("source", setting->source())}) {
    const std::string sentence = Join(field, name);
    if (text.empty() && !report->Spoilt(sentence)) {
      report->Add(sentence, Cat("the setting has no ", name), "Who applies the profile will want to know");
    }
    CheckText(sentence, text, kMaxSentence, report);
  }
}

}  // namespace

void CompleteTuningProfile(v1::TuningProfile* profile, Report* report) {
  CheckName("name", profile->name(), "my-profile", report);
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
