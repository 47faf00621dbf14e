#include "agent/tuner/colima/machine_record.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/tuner/colima/colima_config.h"
#include "agent/tuner/wish.h"
#include "lib/os/files.h"
#include "lib/os/flock.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

using nlohmann::json;
using spec::Cat;

constexpr size_t kMostRecord = 8U << 20;
constexpr size_t kMostProfiles = 64;

json ToJson(const v1::TuningProfile& profile) {
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(profile, &text).ok()) return json::object();
  return json::parse(text, nullptr, /*allow_exceptions=*/false);
}

bool ReadText(const json& object, const char* key, std::string* text) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return false;
  *text = found->get<std::string>();
  return true;
}

bool ReadFlag(const json& object, const char* key, bool* flag) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_boolean()) return false;
  *flag = found->get<bool>();
  return true;
}

// Whether it is a profile that may be carried out; what it leaves to defaults is filled in.
bool IsSound(v1::TuningProfile* profile) {
  spec::Problems problems = spec::Complete(profile);
  // Of a profile whose settings were all left out something else can be applied.
  const bool bare = profile->sysctls().empty();
  std::erase_if(problems, [bare](const v1::DocumentProblem& each) { return bare && each.field() == "sysctls"; });
  return problems.empty();
}

// Absent in what was recorded before there was the key: nothing.
bool ReadWords(const json& object, const char* key, std::set<std::string>* words) {
  const auto found = object.find(key);
  if (found == object.end()) return true;
  if (!found->is_array()) return false;
  for (const json& word : *found) {
    if (!word.is_string()) return false;
    words->insert(word.get<std::string>());
  }
  return true;
}

bool ReadEntry(const json& object, MachineRecord::Entry* entry) {
  if (!object.is_object() || !ReadText(object, "applied_in", &entry->applied_in) ||
      !ReadFlag(object, "configured", &entry->configured) || !ReadWords(object, "modules", &entry->modules)) {
    return false;
  }
  const auto profile = object.find("profile");
  if (profile == object.end() || !profile->is_object()) return false;
  const auto parsed = google::protobuf::util::JsonStringToMessage(profile->dump(), &entry->profile);
  return parsed.ok() && IsSound(&entry->profile);
}

}  // namespace

std::string RecordOf(const std::string& folder) { return folder + "/loadstar.record"; }
std::string JournalOf(const std::string& folder) { return folder + "/loadstar.journal"; }
std::string OriginalOf(const std::string& config_path) { return config_path + ".before-loadstar"; }

bool MachineRecord::Entry::operator==(const Entry& other) const {
  return applied_in == other.applied_in && configured == other.configured && modules == other.modules &&
         google::protobuf::util::MessageDifferencer::Equals(profile, other.profile);
}

const MachineRecord::Entry* MachineRecord::Find(const std::string& profile) const {
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.profile.name() == profile; });
  return found == entries.end() ? nullptr : &*found;
}

std::string MachineRecord::Names() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries) {
    if (entry.configured) names.push_back(entry.profile.name());
  }
  return spec::JoinWords(names, ", ");
}

const std::string& MachineRecord::LeftAs(const std::string& config) const {
  return !SameConfig(config, left) && SameConfig(config, earlier) ? earlier : left;
}

v1::TuningProfile MachineRecord::Together() const {
  v1::TuningProfile all;
  all.set_name(Names());
  std::set<std::string> modules;
  for (const Entry& entry : entries) {
    if (entry.configured) modules.insert(entry.modules.begin(), entry.modules.end());
  }
  std::map<std::string, std::vector<Wish>> wishes;
  for (const Entry& entry : entries) {
    if (!entry.configured) continue;
    const v1::TuningProfile& one = entry.profile;
    for (const v1::SysctlSetting& setting : one.sysctls()) {
      const Wish wish = WishOf(setting);
      std::vector<Wish>& before = wishes[setting.key()];
      if (std::any_of(before.begin(), before.end(), [&](const Wish& each) { return Contradict(each, wish); })) continue;
      before.push_back(wish);
      v1::SysctlSetting* added = all.add_sysctls();
      *added = setting;
      if (!modules.contains(setting.module())) added->clear_module();
    }
    if (one.has_descriptors()) {
      v1::DescriptorLimits* limits = all.mutable_descriptors();
      limits->set_soft(std::max(limits->soft(), one.descriptors().soft()));
      limits->set_hard(std::max(limits->hard(), one.descriptors().hard()));
    }
    if (one.has_virtual_machine()) {
      v1::VirtualMachine* machine = all.mutable_virtual_machine();
      machine->set_cpus(std::max(machine->cpus(), one.virtual_machine().cpus()));
      machine->set_memory_bytes(std::max(machine->memory_bytes(), one.virtual_machine().memory_bytes()));
      machine->set_disk_bytes(std::max(machine->disk_bytes(), one.virtual_machine().disk_bytes()));
    }
  }
  return all;
}

absl::StatusOr<MachineRecord> ParseRecord(std::string_view text) {
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  MachineRecord record;
  bool good = root.is_object() && ReadFlag(root, "created", &record.created) &&
              ReadFlag(root, "had_config", &record.had_config) && ReadText(root, "left", &record.left) &&
              (!root.contains("earlier") || ReadText(root, "earlier", &record.earlier));
  const auto profiles = good ? root.find("profiles") : root.end();
  good = good && profiles != root.end() && profiles->is_array() && profiles->size() <= kMostProfiles;
  if (good) {
    for (const json& object : *profiles) {
      MachineRecord::Entry& entry = record.entries.emplace_back();
      good = good && ReadEntry(object, &entry);
    }
  }
  if (!good)
    return absl::FailedPreconditionError("it is no record of Loadstar's, or has a profile in it that is not sound");
  return record;
}

std::string ToText(const MachineRecord& record) {
  json profiles = json::array();
  for (const MachineRecord::Entry& entry : record.entries) {
    profiles.push_back({{"profile", ToJson(entry.profile)},
                        {"applied_in", entry.applied_in},
                        {"configured", entry.configured},
                        {"modules", entry.modules}});
  }
  const json root = {{"created", record.created},
                     {"had_config", record.had_config},
                     {"left", record.left},
                     {"earlier", record.earlier},
                     {"profiles", std::move(profiles)}};
  return root.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::StatusOr<MachineRecord> ReadRecord(const std::string& folder) {
  const std::string path = RecordOf(folder);
  const absl::StatusOr<std::string> text = os::ReadFile(path, kMostRecord);
  if (absl::IsNotFound(text.status())) return MachineRecord();
  if (!text.ok()) return text.status();
  absl::StatusOr<MachineRecord> record = ParseRecord(*text);
  if (!record.ok()) {
    return absl::FailedPreconditionError(Cat(
        path,
        ", which says what is applied to the virtual machine, cannot be used: ", std::string(record.status().message()),
        ". Move it away to go on without it; what it told of can then not be put back by itself"));
  }
  return record;
}

absl::Status WriteRecord(const std::string& folder, const MachineRecord& record) {
  const std::string path = RecordOf(folder);
  if (record.entries.empty()) return os::RemoveTree(path);
  if (record.entries.size() > kMostProfiles) {
    return absl::FailedPreconditionError(
        Cat("more than ", kMostProfiles, " profiles would be applied to the virtual machine; roll one back first"));
  }
  return os::WriteFileAtomically(path, ToText(record));
}

absl::StatusOr<os::Fd> LockMachine(const std::string& folder) {
  os::Fd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return absl::ErrnoToStatus(errno, Cat("cannot open ", folder));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return absl::ErrnoToStatus(errno, Cat("cannot lock ", folder));
  const std::string holder = os::FlockHolder(fd);
  return absl::FailedPreconditionError(
      Cat("another loadstar-agent or loadstar-colima", holder.empty() ? std::string() : Cat(" (", holder, ")"),
          " is at work on the virtual machine of ", folder, "; wait until it is done, then try again"));
}

}  // namespace loadstar::agent
