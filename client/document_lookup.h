// Finds the documents that a user names: "smoke" is deploy/scenarios/smoke.yaml, "./mine.yaml" is what it says.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::client {

enum class DocumentKind { kTest, kStack, kTuningProfile };

class DocumentLookup {
 public:
  // Roots are folders that hold deploy/, in the order in which they are searched.
  explicit DocumentLookup(std::vector<std::string> roots) : roots_(std::move(roots)) {}
  // The current folder, LOADSTAR_HOME, and the root of the build that holds this program (its folder's ../../..).
  static DocumentLookup Standard();

  // Reads the document that `argument` names. A word without "/" and without ".yaml" or ".yml" is a name, looked up in
  // the folders of `kinds`; anything else, and a word that names no document but a file, is a path. The error says
  // where it was looked for and which name is near.
  absl::StatusOr<v1::Document> Read(const std::string& argument, const std::vector<DocumentKind>& kinds) const;
  // Names of all documents of a kind, sorted.
  std::vector<std::string> Names(DocumentKind kind) const;

 private:
  const std::vector<std::string> roots_;
};

}  // namespace loadstar::client
