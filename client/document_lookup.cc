#include "client/document_lookup.h"

#include <cstdlib>
#include <filesystem>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lib/spec/spec.h"

namespace loadstar::client {
namespace {

namespace fs = std::filesystem;

std::string FolderOf(const std::string& root, DocumentKind kind) {
  const char* name = kind == DocumentKind::kTest ? "scenarios" : kind == DocumentKind::kStack ? "stacks" : "tuning";
  return (fs::path(root) / "deploy" / name).lexically_normal().string();
}

bool IsPath(const std::string& argument) {
  return absl::StrContains(argument, '/') || absl::EndsWith(argument, ".yaml") || absl::EndsWith(argument, ".yml");
}

}  // namespace

DocumentLookup DocumentLookup::Standard() {
  std::vector<std::string> roots = {"."};
  // Read before any thread is started.
  const char* home = std::getenv("LOADSTAR_HOME");  // NOLINT(concurrency-mt-unsafe)
  if (home != nullptr && *home != '\0') {
    roots.emplace_back(home);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    roots.push_back((program.parent_path() / "../../..").lexically_normal().string());
  }
  return DocumentLookup(std::move(roots));
}

absl::StatusOr<v1::Document> DocumentLookup::Read(const std::string& argument,
                                                  const std::vector<DocumentKind>& kinds) const {
  if (IsPath(argument)) {
    return spec::ReadDocument(argument);
  }
  std::vector<std::string> searched;
  std::error_code ignored;
  for (const std::string& root : roots_) {
    for (const DocumentKind kind : kinds) {
      const std::string folder = FolderOf(root, kind);
      const std::string path = absl::StrCat(folder, "/", argument, ".yaml");
      if (!argument.empty() && fs::exists(path, ignored)) {
        return spec::ReadDocument(path);
      }
      searched.push_back(folder);
    }
  }
  if (!argument.empty() && fs::exists(argument, ignored)) {
    return spec::ReadDocument(argument);
  }
  std::vector<std::string> names;
  for (const DocumentKind kind : kinds) {
    for (std::string& name : Names(kind)) {
      names.push_back(std::move(name));
    }
  }
  const std::string nearest = spec::Nearest(argument, names);
  return absl::NotFoundError(absl::StrCat(
      "no document named \"", argument, "\" in ", absl::StrJoin(searched, ", "),
      nearest.empty() ? (names.empty() ? "; set LOADSTAR_HOME to the folder that holds deploy/, or give a path"
                                       : absl::StrCat("; there are ", absl::StrJoin(names, ", ")))
                      : absl::StrCat("; did you mean \"", nearest, "\"?")));
}

std::vector<std::string> DocumentLookup::Names(DocumentKind kind) const {
  std::set<std::string> names;
  for (const std::string& root : roots_) {
    std::error_code error;
    for (fs::directory_iterator entry(FolderOf(root, kind), error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->path().extension() == ".yaml") {
        names.insert(entry->path().stem().string());
      }
    }
  }
  return {names.begin(), names.end()};
}

}  // namespace loadstar::client
