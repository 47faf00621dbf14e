#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/tuner/colima/program_runner.h"

namespace loadstar::agent {

inline ProgramResult Says(std::string out, int code = 0, std::string err = "") {
  return {.exit = {.kind = os::Exit::Kind::kCode, .number = code}, .out = std::move(out), .err = std::move(err)};
}

// Programs in /bin that answer as a test says: each call, "NAME ARG ARG", is recorded and answered by `answer`.
class FakeRunner : public ProgramRunner {
 public:
  absl::StatusOr<std::string> Find(const std::string& name) override {
    if (missing.contains(name)) return absl::NotFoundError(absl::StrCat(name, " is not in PATH"));
    return absl::StrCat("/bin/", name);
  }
  absl::StatusOr<ProgramResult> Run(const ProgramCall& call) override {
    std::vector<std::string> words = {call.program.substr(5)};
    words.insert(words.end(), call.arguments.begin(), call.arguments.end());
    calls.push_back(absl::StrJoin(words, " "));
    const auto version = versions.find(calls.back());
    return version != versions.end() ? Says(version->second) : answer(calls.back());
  }

  std::set<std::string> missing;
  std::map<std::string, std::string> versions = {{"colima version", "colima version 0.10.1\ngit commit: 0123\n"},
                                                 {"limactl --version", "limactl version 1.2.1\n"},
                                                 {"docker --version", "Docker version 27.5.1, build 9f9e405\n"}};
  std::function<absl::StatusOr<ProgramResult>(const std::string& call)> answer = [](const std::string& /*call*/) {
    return Says("");
  };
  std::vector<std::string> calls;
};

}  // namespace loadstar::agent
