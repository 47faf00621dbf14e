#include "agent/tuner/tuned_file.h"

#include <zlib.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/tuner/descriptor_limit.h"

namespace loadstar::agent {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

std::optional<std::string> TextOf(const std::optional<HostFile>& file) {
  return file.has_value() ? std::optional(file->text) : std::nullopt;
}

std::string Checksum(std::string_view text) {
  const uLong sum = crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
  return absl::StrFormat("%08x", sum);
}

// Files need not be UTF-8, which JSON is.
json Encoded(const std::optional<std::string>& text) {
  return text.has_value() ? json(absl::Base64Escape(*text)) : json();
}

std::optional<std::string> Decoded(const json& value) {
  if (value.is_null()) return std::nullopt;
  std::string text;
  if (!absl::Base64Unescape(value.get<std::string>(), &text)) throw json::other_error::create(501, "base64", &value);
  return text;
}

json ToJson(const os::DescriptorLimit& limit) { return {limit.soft, limit.hard}; }

os::DescriptorLimit ReadLimit(const json& value) { return {.soft = value.at(0), .hard = value.at(1)}; }

json ToJson(const LimitLayer& layer) { return {{"profile", layer.profile}, {"limit", ToJson(layer.limit)}}; }

LimitLayer ReadLayer(const json& value) { return {value.at("profile"), ReadLimit(value.at("limit"))}; }

json ToJson(const TunedFile& file) {
  json value = {{"base", Encoded(TextOf(file.base))},
                {"set", Encoded(file.set)},
                {"floor", ToJson(file.floor)},
                {"layers", json::array()},
                {"backup", file.backup},
                {"made_folder", file.made_folder},
                {"daemon", file.daemon}};
  if (file.base.has_value()) {
    value["access"] = {file.base->access.mode, file.base->access.user, file.base->access.group};
  }
  for (const LimitLayer& layer : file.layers) value["layers"].push_back(ToJson(layer));
  if (file.pending.has_value()) {
    value["pending"] = {{"layer", ToJson(file.pending->layer)},
                        {"releasing", file.pending->releasing},
                        {"from", Encoded(file.pending->from)}};
  }
  return value;
}

TunedFile ReadFile(const json& value) {
  TunedFile file;
  if (std::optional<std::string> base = Decoded(value.at("base")); base.has_value()) {
    const json& access = value.at("access");
    file.base = HostFile{.text = *std::move(base),
                         .access = {.mode = access.at(0), .user = access.at(1), .group = access.at(2)}};
  }
  file.set = Decoded(value.at("set"));
  file.floor = ReadLimit(value.at("floor"));
  for (const json& layer : value.at("layers")) file.layers.push_back(ReadLayer(layer));
  file.backup = value.at("backup");
  file.made_folder = value.at("made_folder");
  file.daemon = value.at("daemon");
  if (value.contains("pending")) {
    const json& pending = value["pending"];
    file.pending = PendingWrite{.layer = ReadLayer(pending.at("layer")),
                                .releasing = pending.at("releasing"),
                                .from = Decoded(pending.at("from"))};
  }
  return file;
}

}  // namespace

const LimitLayer* TunedFile::LayerOf(const std::string& profile) const {
  const auto found =
      std::find_if(layers.begin(), layers.end(), [&profile](const LimitLayer& l) { return l.profile == profile; });
  return found == layers.end() ? nullptr : &*found;
}

bool TunedFile::IsClaimedBy(const std::string& profile) const {
  return LayerOf(profile) != nullptr || (pending.has_value() && pending->layer.profile == profile);
}

void TunedFile::Put(const LimitLayer& layer) {
  const auto found = std::find_if(layers.begin(), layers.end(),
                                  [&layer](const LimitLayer& other) { return other.profile == layer.profile; });
  if (found == layers.end()) {
    layers.push_back(layer);
  } else {
    *found = layer;
  }
}

void TunedFile::Drop(const std::string& profile) {
  std::erase_if(layers, [&profile](const LimitLayer& layer) { return layer.profile == profile; });
}

os::DescriptorLimit TunedFile::Wanted() const {
  os::DescriptorLimit wanted;
  for (const LimitLayer& layer : layers) wanted = Most(wanted, layer.limit);
  return wanted;
}

bool TunedFile::Untouched() const { return !pending.has_value() && TextOf(base) == set; }

bool TunedFile::Resolve(const std::optional<std::string>& text) {
  if (!pending.has_value()) return false;
  if (text == set) {
    if (pending->releasing) {
      Drop(pending->layer.profile);
    } else {
      Put(pending->layer);
    }
    pending.reset();
  } else if (text == pending->from) {
    set = text;
    pending.reset();
  }
  return true;
}

std::string ToText(const TunedFiles& files) {
  json document = {{"version", kVersion}, {"files", json::object()}};
  for (const auto& [path, file] : files) document["files"][path] = ToJson(file);
  const std::string body = document.dump(1);
  return absl::StrCat(Checksum(body), "\n", body);
}

absl::StatusOr<TunedFiles> ReadTunedFiles(std::string_view text) {
  TunedFiles files;
  if (text.empty()) return files;
  const size_t newline = text.find('\n');
  const std::string_view body = newline == std::string_view::npos ? "" : text.substr(newline + 1);
  if (body.empty() || Checksum(body) != text.substr(0, newline)) return absl::DataLossError("its checksum is wrong");
  // The library reports by exceptions; they end here.
  try {
    const json document = json::parse(body);
    if (document.at("version") != kVersion) return absl::DataLossError("it is of another version of the agent");
    for (const auto& [path, file] : document.at("files").items()) files[path] = ReadFile(file);
    return files;
  } catch (const json::exception& error) {
    return absl::DataLossError(error.what());
  }
}

}  // namespace loadstar::agent
