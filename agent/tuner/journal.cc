#include "agent/tuner/journal.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace loadstar::agent {
namespace {

using Kind = JournalRecord::Kind;

struct Word {
  Kind kind;
  std::string_view word;
};
constexpr std::array kWords = {
    Word{Kind::kApplying, "applying"}, Word{Kind::kApplied, "applied"}, Word{Kind::kFound, "found"},
    Word{Kind::kDropped, "dropped"},   Word{Kind::kJoined, "joined"},   Word{Kind::kReleasing, "releasing"},
    Word{Kind::kReleased, "released"}, Word{Kind::kDoubted, "doubted"},
};
constexpr size_t kChecksumDigits = 8;

std::string Checksum(std::string_view text) {
  const uLong sum = crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
  return absl::StrFormat("%08x", sum);
}

struct Line {
  JournalRecord record;
  uint64_t sequence = 0;
};

std::optional<Line> ParseLine(std::string_view text) {
  if (text.size() <= kChecksumDigits || text[kChecksumDigits] != ' ') return std::nullopt;
  const std::string_view body = text.substr(kChecksumDigits + 1);
  if (Checksum(body) != text.substr(0, kChecksumDigits)) return std::nullopt;
  // The library reports by exceptions; they end here.
  try {
    const nlohmann::json json = nlohmann::json::parse(body);
    const auto word = json.at("kind").get<std::string>();
    const auto* const known = std::find_if(kWords.begin(), kWords.end(), [&](const Word& w) { return w.word == word; });
    if (known == kWords.end()) return std::nullopt;
    Line line{.record = {.kind = known->kind}, .sequence = json.at("sequence")};
    JournalRecord& record = line.record;
    record.profile = json.at("profile");
    record.key = json.at("key");
    record.era = json.at("era");
    record.base = json.value("base", "");
    record.from = json.value("from", "");
    record.to = json.value("to", "");
    if (json.contains("wish")) {
      if (!v1::SysctlPolicy_Parse(json["wish"].at("policy").get<std::string>(), &record.wish.policy)) {
        return std::nullopt;
      }
      record.wish.values = json["wish"].at("values").get<std::vector<uint64_t>>();
    }
    return line;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

void Remove(const std::string& profile, std::vector<Layer>* layers) {
  std::erase_if(*layers, [&profile](const Layer& layer) { return layer.profile == profile; });
}

void Put(const Layer& layer, std::vector<Layer>* layers) {
  const auto same = std::find_if(layers->begin(), layers->end(),
                                 [&layer](const Layer& other) { return other.profile == layer.profile; });
  if (same == layers->end()) {
    layers->push_back(layer);
  } else {
    *same = layer;
  }
}

}  // namespace

bool TunedKey::IsClaimedBy(const std::string& profile) const {
  return std::any_of(layers.begin(), layers.end(), [&profile](const Layer& layer) { return layer.profile == profile; });
}

std::vector<std::string> InOrder(const TunedKeys& keys) {
  std::vector<std::string> names;
  names.reserve(keys.size());
  for (const auto& [name, key] : keys) names.push_back(name);
  std::sort(names.begin(), names.end(), [&keys](const std::string& one, const std::string& other) {
    return keys.at(one).order < keys.at(other).order;
  });
  return names;
}

bool Follow(const JournalRecord& record, uint64_t order, TunedKeys* keys) {
  auto found = keys->find(record.key);
  if (found != keys->end() && found->second.era != record.era) {
    keys->erase(found);
    found = keys->end();
  }
  if (record.kind == Kind::kApplying || record.kind == Kind::kJoined) {
    if (found != keys->end() && found->second.pending.has_value()) return false;
    TunedKey& key = (*keys)[record.key];
    if (found == keys->end()) {
      key.era = record.era;
      key.order = order;
    }
    if (record.kind == Kind::kJoined) {
      Put({record.profile, record.wish}, &key.layers);
      key.base = record.base;
      key.set = record.to;
    } else {
      key.pending = Pending{.releasing = false,
                            .layer = {record.profile, record.wish},
                            .base = record.base,
                            .from = record.from,
                            .to = record.to,
                            .found = std::nullopt};
    }
    return true;
  }
  if (found == keys->end()) return false;
  TunedKey& key = found->second;
  const bool pending = key.pending.has_value() && key.pending->layer.profile == record.profile;
  switch (record.kind) {
    case Kind::kApplying:
    case Kind::kJoined:
      return false;
    case Kind::kApplied:
      if (!pending || key.pending->releasing) return false;
      Put(key.pending->layer, &key.layers);
      key.base = key.pending->base;
      key.set = record.to;
      key.pending.reset();
      return true;
    case Kind::kFound:
      if (!pending) return false;
      key.pending->found = record.to;
      return true;
    case Kind::kDropped:
      if (!pending) return false;
      key.pending.reset();
      if (key.layers.empty()) keys->erase(found);
      return true;
    case Kind::kReleasing:
      if (key.pending.has_value() || !key.IsClaimedBy(record.profile)) return false;
      key.pending = Pending{.releasing = true,
                            .layer = {record.profile, {}},
                            .base = key.base,
                            .from = record.from,
                            .to = record.to,
                            .found = std::nullopt};
      return true;
    case Kind::kReleased:
      if (!pending || !key.pending->releasing) return false;
      if (key.base == key.set) key.base = record.to;  // it was never ours
      key.set = record.to;
      key.pending.reset();
      key.doubted = false;
      Remove(record.profile, &key.layers);
      if (key.layers.empty()) keys->erase(found);
      return true;
    case Kind::kDoubted:
      key.doubted = true;
      return true;
  }
  return false;
}

std::string ToLine(const JournalRecord& record, uint64_t sequence) {
  nlohmann::json json = {
      {"sequence", sequence}, {"era", record.era}, {"kind", ""}, {"profile", record.profile}, {"key", record.key}};
  for (const Word& word : kWords) {
    if (word.kind == record.kind) json["kind"] = word.word;
  }
  const bool wishes = record.kind == Kind::kApplying || record.kind == Kind::kJoined;
  if (wishes) {
    json["wish"] = {{"policy", v1::SysctlPolicy_Name(record.wish.policy)}, {"values", record.wish.values}};
    json["base"] = record.base;
  }
  if (record.kind == Kind::kApplying || record.kind == Kind::kReleasing) json["from"] = record.from;
  if (record.kind != Kind::kDropped && record.kind != Kind::kDoubted) json["to"] = record.to;
  const std::string body = json.dump(-1, ' ', true);
  return absl::StrCat(Checksum(body), " ", body, "\n");
}

Replayed Replay(std::string_view text, const Era& era) {
  Replayed replayed;
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      replayed.torn_end = true;
      break;
    }
    const std::optional<Line> line = ParseLine(text.substr(0, end));
    text.remove_prefix(end + 1);
    if (!line.has_value()) {
      replayed.problems.push_back(absl::StrCat("line ", number, " is damaged"));
      continue;
    }
    if (replayed.last_sequence > 0 && line->sequence != replayed.last_sequence + 1) {
      replayed.problems.push_back(absl::StrCat("steps ", replayed.last_sequence + 1, " to ", line->sequence - 1,
                                               " are missing before line ", number));
    }
    replayed.last_sequence = line->sequence;
    if (Follow(line->record, line->sequence, &replayed.keys)) continue;
    replayed.problems.push_back(
        absl::StrCat("line ", number, " (", line->record.key, ") does not fit what is before it"));
    if (const auto key = replayed.keys.find(line->record.key); key != replayed.keys.end()) key->second.doubted = true;
  }
  std::erase_if(replayed.keys, [&era](const auto& entry) {
    return entry.second.era != era.of_host && entry.second.era != era.of_network_namespace;
  });
  return replayed;
}

std::string Compacted(const TunedKeys& keys, uint64_t* sequence) {
  std::string text;
  for (const std::string& name : InOrder(keys)) {
    const TunedKey& key = keys.at(name);
    const auto add = [&](JournalRecord record) {
      record.key = name;
      record.era = key.era;
      text += ToLine(record, ++*sequence);
    };
    for (const auto& [profile, wish] : key.layers) {
      add({.kind = Kind::kJoined, .profile = profile, .wish = wish, .base = key.base, .to = key.set});
    }
    if (key.pending.has_value()) {
      const Pending& pending = *key.pending;
      add({.kind = pending.releasing ? Kind::kReleasing : Kind::kApplying,
           .profile = pending.layer.profile,
           .wish = pending.layer.wish,
           .base = pending.base,
           .from = pending.from,
           .to = pending.to});
      if (pending.found.has_value()) {
        add({.kind = Kind::kFound, .profile = pending.layer.profile, .to = *pending.found});
      }
    }
    if (key.doubted) add({.kind = Kind::kDoubted});
  }
  return text;
}

}  // namespace loadstar::agent
