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
    Word{Kind::kReleased, "released"},
};
constexpr size_t kChecksumDigits = 8;

std::string Checksum(std::string_view text) {
  const uLong sum = crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
  return absl::StrFormat("%08x", sum);
}

struct Line {
  JournalRecord record;
  uint64_t sequence = 0;
  std::string boot_id;
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
    Line line{.record = {.kind = known->kind}, .sequence = json.at("sequence"), .boot_id = json.at("boot")};
    JournalRecord& record = line.record;
    record.profile = json.at("profile");
    record.key = json.at("key");
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

bool Has(const std::string& profile, const std::vector<Layer>& layers) {
  return std::any_of(layers.begin(), layers.end(), [&profile](const Layer& layer) { return layer.profile == profile; });
}

}  // namespace

std::vector<Wish> TunedKey::Wishes() const {
  std::vector<Wish> wishes;
  wishes.reserve(layers.size());
  for (const Layer& layer : layers) wishes.push_back(layer.wish);
  return wishes;
}

bool Follow(const JournalRecord& record, uint64_t order, TunedKeys* keys) {
  const auto found = keys->find(record.key);
  if (record.kind == Kind::kApplying) {
    if (found != keys->end() && found->second.pending.has_value()) return false;
    TunedKey& key = (*keys)[record.key];
    if (found == keys->end()) key.order = order;
    key.pending = Pending{.releasing = false,
                          .layer = {record.profile, record.wish},
                          .base = record.base,
                          .from = record.from,
                          .to = record.to,
                          .found = std::nullopt};
    return true;
  }
  if (found == keys->end()) return false;
  TunedKey& key = found->second;
  const bool pending = key.pending.has_value() && key.pending->layer.profile == record.profile;
  switch (record.kind) {
    case Kind::kApplying:
      return false;
    case Kind::kApplied:
      if (!pending || key.pending->releasing) return false;
      Put(key.pending->layer, &key.layers);
      key.base = key.pending->base;
      key.set = record.to;
      key.pending.reset();
      return true;
    case Kind::kFound:
      if (!pending || key.pending->releasing) return false;
      key.pending->found = record.to;
      return true;
    case Kind::kDropped:
      if (!pending) return false;
      key.pending.reset();
      if (key.layers.empty()) keys->erase(found);
      return true;
    case Kind::kJoined:
      if (key.pending.has_value() || key.layers.empty()) return false;
      Put({record.profile, record.wish}, &key.layers);
      return true;
    case Kind::kReleasing:
      if (key.pending.has_value() || !Has(record.profile, key.layers)) return false;
      key.pending = Pending{.releasing = true,
                            .layer = {record.profile, {}},
                            .base = key.base,
                            .from = record.from,
                            .to = record.to,
                            .found = std::nullopt};
      return true;
    case Kind::kReleased:
      if (!pending || !key.pending->releasing) return false;
      key.set = record.to;
      key.pending.reset();
      Remove(record.profile, &key.layers);
      if (key.layers.empty()) keys->erase(found);
      return true;
  }
  return false;
}

std::string ToLine(const JournalRecord& record, uint64_t sequence, std::string_view boot_id) {
  nlohmann::json json = {
      {"sequence", sequence}, {"boot", boot_id}, {"kind", ""}, {"profile", record.profile}, {"key", record.key}};
  for (const Word& word : kWords) {
    if (word.kind == record.kind) json["kind"] = word.word;
  }
  const bool begins = record.kind == Kind::kApplying || record.kind == Kind::kReleasing;
  if (record.kind == Kind::kApplying || record.kind == Kind::kJoined) {
    json["wish"] = {{"policy", v1::SysctlPolicy_Name(record.wish.policy)}, {"values", record.wish.values}};
  }
  if (record.kind == Kind::kApplying) json["base"] = record.base;
  if (begins) json["from"] = record.from;
  if (record.kind != Kind::kDropped && record.kind != Kind::kJoined) json["to"] = record.to;
  // A value that is no UTF-8 could not be put back exactly: the tuner takes none (see Tuner::Apply).
  const std::string body = json.dump(-1, ' ', true);
  return absl::StrCat(Checksum(body), " ", body, "\n");
}

Replayed Replay(std::string_view text, std::string_view boot_id) {
  Replayed replayed;
  size_t number = 0;
  std::string boot(boot_id);
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    const std::string_view raw = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (raw.empty()) continue;  // see Tuner::Load
    const std::optional<Line> line = end == std::string_view::npos ? std::nullopt : ParseLine(raw);
    if (!line.has_value() && text.empty()) {
      replayed.torn_end = true;
      break;
    }
    if (!line.has_value()) {
      replayed.problems.push_back(absl::StrCat("line ", number, " is damaged"));
      continue;
    }
    if (line->boot_id != boot) {
      replayed.keys.clear();
      boot = line->boot_id;
    }
    if (!Follow(line->record, line->sequence, &replayed.keys)) {
      replayed.problems.push_back(
          absl::StrCat("line ", number, " (", line->record.key, ") does not fit what is before it"));
    }
    if (replayed.last_sequence > 0 && line->sequence != replayed.last_sequence + 1) {
      replayed.problems.push_back(absl::StrCat("steps ", replayed.last_sequence + 1, " to ", line->sequence - 1,
                                               " are missing before line ", number));
    }
    replayed.last_sequence = line->sequence;
  }
  if (boot != boot_id) {
    replayed.of_earlier_boot = true;
    replayed.keys.clear();
  }
  return replayed;
}

std::string Compacted(const TunedKeys& keys, std::string_view boot_id, uint64_t* last_sequence) {
  std::vector<const TunedKeys::value_type*> in_order;
  in_order.reserve(keys.size());
  for (const auto& entry : keys) in_order.push_back(&entry);
  std::sort(in_order.begin(), in_order.end(),
            [](const auto* one, const auto* other) { return one->second.order < other->second.order; });
  std::string text;
  const auto add = [&](const JournalRecord& record) { text += ToLine(record, ++*last_sequence, boot_id); };
  for (const auto* entry : in_order) {
    const auto& [name, key] = *entry;
    for (size_t i = 0; i < key.layers.size(); ++i) {
      const auto& [profile, wish] = key.layers[i];
      if (i == 0) {
        add({.kind = Kind::kApplying,
             .profile = profile,
             .key = name,
             .wish = wish,
             .base = key.base,
             .from = key.base,
             .to = key.set});
        add({.kind = Kind::kApplied, .profile = profile, .key = name, .to = key.set});
      } else {
        add({.kind = Kind::kJoined, .profile = profile, .key = name, .wish = wish});
      }
    }
    if (!key.pending.has_value()) continue;
    const Pending& pending = *key.pending;
    add({.kind = pending.releasing ? Kind::kReleasing : Kind::kApplying,
         .profile = pending.layer.profile,
         .key = name,
         .wish = pending.layer.wish,
         .base = pending.base,
         .from = pending.from,
         .to = pending.to});
    if (pending.found.has_value()) {
      add({.kind = Kind::kFound, .profile = pending.layer.profile, .key = name, .to = *pending.found});
    }
  }
  return text;
}

}  // namespace loadstar::agent
