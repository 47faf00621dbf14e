#include <array>
#include <string>

#include "lib/spec/kinds.h"
#include "lib/spec/reader.h"
#include "lib/spec/sysctl_key.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr std::array kProfileKeys = {
    KeyInfo{"apiVersion", "loadstar/v1", "", "the version of the document format"},
    KeyInfo{"kind", "TuningProfile", "", "what the document describes"},
    KeyInfo{"name", "a name such as my-profile", "", "the profile's name"},
    KeyInfo{"sysctls", "a list such as [{key: net.core.somaxconn, value: 4096}]", "", "the kernel's settings"},
    KeyInfo{"descriptors", "a mapping such as {soft: 262144, hard: 262144}", "",
            "how many files, sockets among them, one process may have open"},
    KeyInfo{"virtualMachine", "a mapping such as {cpus: 12, memory: 16GiB, disk: 100GiB}", "",
            "the Colima virtual machine that the settings are made in"},
    KeyInfo{"when", "a mapping such as {kernelFrom: 5.7, cgroup: 2}", "every host",
            "the hosts that the profile is meant for"},
};
constexpr std::array kConditionKeys = {
    KeyInfo{"kernelFrom", "a kernel's version such as 5.7", "any", "its kernel is this one or newer"},
    KeyInfo{"kernelBefore", "a kernel's version such as 6.10", "any", "its kernel is older than this one"},
    KeyInfo{"cgroup", "1 or 2", "any", "the version of its control groups"},
};
constexpr std::array kDescriptorsKeys = {
    KeyInfo{"soft", "a number such as 262144", "", "what a process begins with"},
    KeyInfo{"hard", "a number such as 262144", "the same as soft", "what a process may raise that to"},
};
constexpr std::array kVirtualMachineKeys = {
    KeyInfo{"cpus", "a number such as 12", "", "virtual CPUs that it is to have at least"},
    KeyInfo{"memory", "a size such as 16GiB", "", "memory that it is to have at least"},
    KeyInfo{"disk", "a size such as 100GiB", "", "disk that it is to have at least"},
};
constexpr std::array kSysctlKeys = {
    KeyInfo{"key", "a sysctl's name such as net.core.somaxconn", "", "which setting it is"},
    KeyInfo{"value",
            "a number, numbers with blanks between them, a range such as 1024-65535 or ports such as 8080,9100-9103",
            "", "what it is to hold"},
    KeyInfo{"policy", "at-least, exactly, covers or includes",
            "what suits the key: at-least, covers for a range, includes for ports, exactly for a choice",
            "what the value means beside the one that is there"},
    KeyInfo{"scope", "host, network-namespace, virtual-machine or container", "",
            "what a change of it reaches; the last two: where alone it is made"},
    KeyInfo{"module", "a module's name such as nf_conntrack", "the kernel itself", "what brings the setting"},
    KeyInfo{"when", "a mapping such as {kernelFrom: 5.7, cgroup: 2}", "every host",
            "the hosts that the setting is meant for"},
    KeyInfo{"effect", "a sentence", "", "what the setting does"},
    KeyInfo{"source", "a place such as Documentation/networking/ip-sysctl.rst", "",
            "where the kernel's documentation says so"},
};

constexpr std::array kPolicies = {
    Choice{"at-least", v1::SYSCTL_POLICY_AT_LEAST},
    Choice{"exactly", v1::SYSCTL_POLICY_EXACTLY},
    Choice{"covers", v1::SYSCTL_POLICY_COVERS},
    Choice{"includes", v1::SYSCTL_POLICY_INCLUDES},
};
constexpr std::array kScopes = {
    Choice{"host", v1::SYSCTL_SCOPE_HOST},
    Choice{"network-namespace", v1::SYSCTL_SCOPE_NETWORK_NAMESPACE},
    Choice{"virtual-machine", v1::SYSCTL_SCOPE_VIRTUAL_MACHINE},
    Choice{"container", v1::SYSCTL_SCOPE_CONTAINER},
};

// As people write counts and sizes.
MaybeFlaw ReadOne(std::string_view word, uint64_t* number) {
  if (!ReadSize(word, number)) return std::nullopt;
  return ReadCount(word, number);
}

// The words between the separators, each handed to `read`.
template <typename Read>
MaybeFlaw ReadEach(std::string_view text, char separator, Read read) {
  while (true) {
    const size_t end = text.find(separator);
    if (MaybeFlaw flaw = read(Trim(text.substr(0, end)))) return flaw;
    if (end == std::string_view::npos) return std::nullopt;
    text = Trim(text.substr(end + 1));
  }
}

// "1024-65535", or "1024 65535" as the kernel shows it.
MaybeFlaw ReadRange(std::string_view text, google::protobuf::RepeatedField<uint64_t>* values) {
  const size_t dash = text.find('-');
  const size_t between = dash == std::string_view::npos ? text.find(' ') : dash;
  if (between == std::string_view::npos) return Flaw{Cat(Quoted(text), " is no range"), "Write it such as 1024-65535"};
  for (const std::string_view end : {text.substr(0, between), text.substr(between + 1)}) {
    if (MaybeFlaw flaw = ReadOne(Trim(end), values->Add())) return flaw;
  }
  return std::nullopt;
}

// By the kind of key: "4096", "4096 131072 256MiB"; "1024-65535"; "8080,9100-9103".
MaybeFlaw ReadValues(SysctlKind kind, std::string_view text, google::protobuf::RepeatedField<uint64_t>* values) {
  switch (kind) {
    case SysctlKind::kRange:
      return ReadRange(text, values);
    case SysctlKind::kPorts:
      return ReadEach(text, ',', [values](std::string_view word) -> MaybeFlaw {
        if (word.find('-') != std::string_view::npos) return ReadRange(word, values);
        uint64_t port = 0;
        if (MaybeFlaw flaw = ReadOne(word, &port)) return flaw;
        values->Add(port);
        values->Add(port);
        return std::nullopt;
      });
    default:
      return ReadEach(text, ' ', [values](std::string_view word) { return ReadOne(word, values->Add()); });
  }
}

void ReadCondition(const Node& node, const std::string& path, Report* report, v1::TuneCondition* condition) {
  const Reader reader(node, path, "a mapping such as {kernelFrom: 5.7, cgroup: 2}", kConditionKeys, report);
  reader.Text("kernelFrom", condition->mutable_kernel_from());
  reader.Text("kernelBefore", condition->mutable_kernel_before());
  uint32_t cgroup = 0;
  if (!reader.Count("cgroup", &cgroup)) return;
  // 0 would be taken for any.
  if (cgroup == 0)
    reader.Wrong("cgroup", *reader.Find("cgroup"), {"there is no version 0 of control groups", "Write cgroup: 2"});
  condition->set_cgroup(cgroup);
}

void ReadSysctl(const Node& node, const std::string& path, Report* report, v1::SysctlSetting* setting) {
  const Reader reader(node, path, "a setting such as {key: net.core.somaxconn, value: 4096}", kSysctlKeys, report);
  reader.Text("key", setting->mutable_key());
  std::string value;
  if (reader.Text("value", &value)) {
    if (MaybeFlaw flaw = ReadValues(SysctlKindOf(setting->key()), Trim(value), setting->mutable_values())) {
      reader.Wrong("value", *reader.Find("value"), *std::move(flaw));
    }
  }
  int choice = 0;
  if (reader.Choose("policy", kPolicies, &choice)) {
    setting->set_policy(static_cast<v1::SysctlPolicy>(choice));
  }
  if (reader.Choose("scope", kScopes, &choice)) setting->set_scope(static_cast<v1::SysctlScope>(choice));
  reader.Text("module", setting->mutable_module());
  reader.Text("effect", setting->mutable_effect());
  reader.Text("source", setting->mutable_source());
  if (const Node* when = reader.Find("when"); when != nullptr) {
    ReadCondition(*when, reader.PathOf("when"), report, setting->mutable_when());
  }
}

void ReadDescriptors(const Node& node, Report* report, v1::DescriptorLimits* limits) {
  const Reader reader(node, "descriptors", "a mapping such as {soft: 262144, hard: 262144}", kDescriptorsKeys, report);
  uint64_t number = 0;
  if (reader.Count("soft", &number)) limits->set_soft(number);
  // Left out it is that of soft; 0 would be taken for left out.
  if (reader.Count("hard", &number)) {
    if (number == 0) {
      reader.Wrong("hard", *reader.Find("hard"),
                   {"a process has to be allowed at least one file", "Write hard: 262144"});
    }
    limits->set_hard(number);
  }
}

void ReadVirtualMachine(const Node& node, Report* report, v1::VirtualMachine* machine) {
  const Reader reader(node, "virtualMachine", "a mapping such as {cpus: 12, memory: 16GiB, disk: 100GiB}",
                      kVirtualMachineKeys, report);
  uint32_t cpus = 0;
  uint64_t bytes = 0;
  if (reader.Count("cpus", &cpus)) machine->set_cpus(cpus);
  if (reader.Size("memory", &bytes)) machine->set_memory_bytes(bytes);
  if (reader.Size("disk", &bytes)) machine->set_disk_bytes(bytes);
}

}  // namespace

std::string_view WordOf(v1::SysctlPolicy policy) {
  for (const Choice& known : kPolicies) {
    if (known.value == policy) return known.word;
  }
  return "";
}

void ReadTuningProfile(const Node& root, Report* report, v1::TuningProfile* profile) {
  const Reader reader(root, "", "a mapping of a document", kProfileKeys, report);
  reader.Text("name", profile->mutable_name());
  if (const Node* descriptors = reader.Find("descriptors"); descriptors != nullptr) {
    ReadDescriptors(*descriptors, report, profile->mutable_descriptors());
  }
  if (const Node* machine = reader.Find("virtualMachine"); machine != nullptr) {
    ReadVirtualMachine(*machine, report, profile->mutable_virtual_machine());
  }
  if (const Node* when = reader.Find("when"); when != nullptr) {
    ReadCondition(*when, "when", report, profile->mutable_when());
  }
  const Node* sysctls = reader.Find("sysctls");
  if (sysctls == nullptr) return;
  if (sysctls->kind != Node::Kind::kSequence) return reader.Expected("sysctls", *sysctls);
  for (size_t i = 0; i < sysctls->items.size(); ++i) {
    ReadSysctl(sysctls->items[i], Index("sysctls", i), report, profile->add_sysctls());
  }
}

}  // namespace loadstar::spec
