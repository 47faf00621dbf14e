#include "agent/tuner/colima/colima_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

using nlohmann::json;
using spec::Cat;

constexpr uint64_t kGib = 1ULL << 30;
constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

// Whole GiB that hold so many bytes.
uint64_t GibFor(uint64_t bytes) { return bytes / kGib + (bytes % kGib > 0 ? 1 : 0); }

std::string LimitText(const EngineLimits& limits) {
  if (limits.soft == 0 && limits.hard == 0) return "the engine's default";
  const auto one = [](uint64_t limit) { return limit == kNoLimit ? std::string("unlimited") : std::to_string(limit); };
  return Cat(one(limits.soft), " ", one(limits.hard));
}

// The value of a key in any case; nullptr.
const json* FindAnyCase(const json* object, const std::string& lower) {
  if (object == nullptr || !object->is_object()) return nullptr;
  for (auto item = object->begin(); item != object->end(); ++item) {
    if (spec::Lower(item.key()) == lower) return &item.value();
  }
  return nullptr;
}

uint64_t LimitOf(const json* value) {
  if (value == nullptr || !value->is_number_integer()) return 0;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  return value->get<int64_t>() == -1 ? kNoLimit : 0;
}

// Lima's name of a type by what Colima calls it; empty when that is not known here.
std::string TypeOf(const std::string& driver) {
  if (driver.find("Virtualization.Framework") != std::string::npos) return "vz";
  return driver == "QEMU" ? "qemu" : "";
}

std::string ContainersText(const std::optional<uint64_t>& containers) {
  if (!containers.has_value()) return "an unknown number of running containers";
  if (*containers == 0) return "no running container";
  return *containers == 1 ? "1 running container" : Cat(*containers, " running containers");
}

class Planner {
 public:
  Planner(const MachineFacts& facts, const v1::TuningProfile& profile, std::string vm_type, Restart restart)
      : facts_(facts), profile_(profile), vm_type_(std::move(vm_type)), restart_(restart) {}

  MachinePlan Plan() {
    Fixed();
    if (blocked_) {
      plan_.action = MachinePlan::Action::kBlocked;
      return std::move(plan_);
    }
    if (profile_.has_virtual_machine()) Sizes();
    if (profile_.has_descriptors()) Descriptors();
    plan_.options.vm_type = vm_type_;
    plan_.action = Action();
    return std::move(plan_);
  }

 private:
  bool there() const { return facts_.machine.has_value(); }
  bool runs() const { return there() && facts_.machine->running(); }

  MachinePlan::Action Action() const {
    if (restart_ == Restart::kNever) return MachinePlan::Action::kNothing;
    if (!there()) return MachinePlan::Action::kCreate;
    if (!runs()) return MachinePlan::Action::kStart;
    const bool due = needs_restart_ && restart_ == Restart::kAllowed;
    return due ? MachinePlan::Action::kRestart : MachinePlan::Action::kNothing;
  }

  v1::TuneStep& Add(std::string key, std::string before, std::string after) {
    v1::TuneStep& step = plan_.steps.emplace_back();
    step.set_profile(profile_.name());
    step.set_key(std::move(key));
    step.set_before(std::move(before));
    step.set_after(std::move(after));
    step.set_outcome(v1::TUNE_OUTCOME_FULFILLED);
    return step;
  }

  // A property that only a start can change.
  v1::TuneStep& AtStart(const std::string& key, std::string before, std::string after, bool fulfilled) {
    v1::TuneStep& step = Add(key, std::move(before), std::move(after));
    if (fulfilled) {
      step.set_after(step.before());  // more than is wanted stays
      return step;
    }
    step.set_outcome(v1::TUNE_OUTCOME_CHANGED);
    if (!runs()) {
      if (restart_ == Restart::kNever) step.set_message("comes with the next start");
      return step;
    }
    needs_restart_ = true;
    const std::string interrupted = ContainersText(facts_.containers);
    if (restart_ == Restart::kAllowed) {
      step.set_message(Cat("the virtual machine is restarted, which interrupts ", interrupted));
      return step;
    }
    step.set_outcome(v1::TUNE_OUTCOME_NOT_TRIED);
    step.set_obstacle(true);
    step.set_message(Cat("needs a restart of the virtual machine, which would interrupt ", interrupted,
                         "; --allow-restart does it"));
    return step;
  }

  // What cannot change any more.
  void FixedOne(const std::string& key, const std::string& has, const std::string& wanted, bool needed) {
    if (has.empty() || wanted.empty() || has == wanted) return;
    v1::TuneStep& step = Add(key, has, wanted);
    step.set_outcome(v1::TUNE_OUTCOME_READ_ONLY);
    step.set_obstacle(true);
    step.set_message(needed ? "cannot change after the virtual machine was created; use another --profile, or clean "
                              "this one first"
                            : "colima.yaml asks for it, but it cannot change after the virtual machine was created; "
                              "take it out of there, or clean first");
    blocked_ = blocked_ || needed;
  }

  void Fixed() {
    if (!there()) return;
    // "docker+k3s" is docker with Kubernetes.
    const std::string& runtime = facts_.machine->runtime.empty() ? facts_.config.runtime : facts_.machine->runtime;
    FixedOne("virtualMachine.runtime", runtime.substr(0, runtime.find('+')), "docker", /*needed=*/true);
    const std::string type = facts_.details.has_value() ? TypeOf(facts_.details->driver) : facts_.config.vm_type;
    FixedOne("virtualMachine.vmType", type, vm_type_, /*needed=*/true);
    if (facts_.config.arch != "host") {
      FixedOne("virtualMachine.arch", facts_.machine->arch, facts_.config.arch, /*needed=*/false);
    }
    if (facts_.details.has_value()) {
      FixedOne("virtualMachine.mountType", facts_.details->mount_type, facts_.config.mount_type, /*needed=*/false);
    }
  }

  void Sizes() {
    const v1::VirtualMachine& wanted = profile_.virtual_machine();
    const Machine has = facts_.machine.value_or(Machine{});
    // Without a machine the configuration is what would be created, and of one that does not run, what it would become.
    const auto now = [&](uint64_t value) { return there() ? std::to_string(value) : std::string(); };

    plan_.options.cpus = std::max({uint64_t{wanted.cpus()}, has.cpus, facts_.config.cpus});
    v1::TuneStep& cpus = AtStart("virtualMachine.cpus", now(has.cpus), std::to_string(plan_.options.cpus),
                                 there() && has.cpus >= wanted.cpus());
    if (facts_.host_cores > 0 && plan_.options.cpus > facts_.host_cores) {
      Remark(&cpus, Cat("this machine has ", facts_.host_cores, " cores, which the virtual ones share"));
    }
    if (!facts_.hardware_virtualization && !runs()) {
      Remark(&cpus,
             "there is no /dev/kvm that this user may use: every instruction is emulated, and no figure that is "
             "measured so is worth anything");
    }

    plan_.options.memory_gib = std::max({GibFor(wanted.memory_bytes()), GibFor(has.memory_bytes),
                                         static_cast<uint64_t>(std::ceil(facts_.config.memory_gib))});
    v1::TuneStep& memory =
        AtStart("virtualMachine.memory", there() ? Cat(GibFor(has.memory_bytes), " GiB") : "",
                Cat(plan_.options.memory_gib, " GiB"), there() && has.memory_bytes >= wanted.memory_bytes());
    if (facts_.host_memory_bytes > 0 && plan_.options.memory_gib > facts_.host_memory_bytes / kGib) {
      Remark(&memory, Cat("this machine has ", facts_.host_memory_bytes / kGib,
                          " GiB: it swaps or ends programs when the virtual one uses all of its own"));
    }

    plan_.options.disk_gib = std::max({GibFor(wanted.disk_bytes()), GibFor(has.disk_bytes), facts_.config.disk_gib});
    AtStart("virtualMachine.disk", there() ? Cat(GibFor(has.disk_bytes), " GiB") : "",
            Cat(plan_.options.disk_gib, " GiB"), there() && has.disk_bytes >= wanted.disk_bytes());
  }

  static void Remark(v1::TuneStep* step, const std::string& text) {
    step->set_message(step->message().empty() ? text : Cat(step->message(), "; ", text));
  }

  void Descriptors() {
    const v1::DescriptorLimits& wanted = profile_.descriptors();
    const EngineLimits has = facts_.limits.value_or(EngineLimits{});
    // What the engine of a machine that does not run will have is what its configuration says, which is written anew.
    const bool fulfilled = runs() && has.soft >= wanted.soft() && has.hard >= wanted.hard();
    const EngineLimits after = {.soft = std::max(has.soft, wanted.soft()), .hard = std::max(has.hard, wanted.hard())};
    AtStart("descriptors", runs() ? LimitText(has) : "", LimitText(after), fulfilled);
  }

  const MachineFacts& facts_;
  const v1::TuningProfile& profile_;
  const std::string vm_type_;
  const Restart restart_;
  MachinePlan plan_;
  bool blocked_ = false;
  bool needs_restart_ = false;
};

}  // namespace

EngineLimits ReadEngineLimits(std::string_view daemon_json) {
  const json root = json::parse(daemon_json, nullptr, /*allow_exceptions=*/false);
  const json* limit = FindAnyCase(FindAnyCase(&root, "default-ulimits"), "nofile");
  return {.soft = LimitOf(FindAnyCase(limit, "soft")), .hard = LimitOf(FindAnyCase(limit, "hard"))};
}

MachinePlan PlanMachine(const MachineFacts& facts, const v1::TuningProfile& profile, const std::string& vm_type,
                        Restart restart) {
  return Planner(facts, profile, vm_type, restart).Plan();
}

}  // namespace loadstar::agent
