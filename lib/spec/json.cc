#include "lib/spec/json.h"

#include <nlohmann/json.hpp>

namespace loadstar::spec {
namespace {

nlohmann::ordered_json Convert(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return nullptr;
    case Node::Kind::kScalar: {
      if (!node.quoted) {
        auto value = nlohmann::ordered_json::parse(node.text, nullptr, false);
        if (value.is_number() || value.is_boolean()) return value;
      }
      return node.text;
    }
    case Node::Kind::kSequence: {
      auto list = nlohmann::ordered_json::array();
      for (const Node& item : node.items) list.push_back(Convert(item));
      return list;
    }
    case Node::Kind::kMapping: {
      auto object = nlohmann::ordered_json::object();
      for (size_t i = 0; i < node.items.size(); ++i) object[node.keys[i].text] = Convert(node.items[i]);
      return object;
    }
  }
  return nullptr;
}

}  // namespace

std::string ToJson(const Node& node) { return Convert(node).dump(); }

}  // namespace loadstar::spec
