// A YAML text as a tree with places. Built from yaml-cpp's events rather than its nodes, so that bounds are enforced
// and anchors, aliases and tags refused before anything is expanded.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "lib/spec/report.h"

namespace loadstar::spec {

inline constexpr size_t kMaxDocumentBytes = size_t{1} << 20;
inline constexpr size_t kMaxDepth = 32;
inline constexpr size_t kMaxNodes = 10'000;

struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMapping };
  struct Key {
    std::string text;
    Place place;
  };

  Kind kind = Kind::kNull;
  Place place;
  std::string text;         // of a scalar
  bool quoted = false;      // of a scalar: written in quotes or as a block, so never a number or a boolean
  std::vector<Key> keys;    // of a mapping, one for each item
  std::vector<Node> items;  // of a sequence or a mapping

  // Value of a key, or nullptr.
  const Node* Find(std::string_view key) const;
  Node* Find(std::string_view key);
};

// "a list", "a mapping", "a value", "nothing".
std::string_view KindName(Node::Kind kind);

// Reads a text as a tree. False, with one problem at `field` reported, when it is empty, binary, not YAML, more than
// one document, or beyond the bounds. Keys that occur twice are reported and the first one stands; the tree is returned
// nevertheless. Places get `override_index`.
bool BuildTree(std::string_view text, std::string_view field, int override_index, Report* report, Node* root);

// Whether the bytes are text at all: valid UTF-8 without control characters.
bool IsText(std::string_view bytes);

// Place of the value at a path such as "load.connections[1].to", or that of the key of the innermost part that exists.
Place Locate(const Node& root, std::string_view path);

}  // namespace loadstar::spec
