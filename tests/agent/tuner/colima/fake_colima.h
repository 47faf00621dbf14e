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

// A running machine of the name x: a kernel and an engine that do what a test says.
class FakeMachine {
 public:
  static constexpr char kRunning[] =
      R"({"name":"x","status":"Running","arch":"x86_64","cpus":2,"memory":2147483648,"disk":64424509440,)"
      R"("runtime":"docker"})";
  static constexpr char kStopped[] =
      R"({"name":"x","status":"Stopped","arch":"x86_64","cpus":2,"memory":2147483648,"disk":64424509440})";

  absl::StatusOr<ProgramResult> Answer(const std::string& call) {
    const std::string inside = "colima ssh --profile x -- sudo ";
    if (call == "colima list --json") return Says(list);
    if (call.starts_with("colima status")) {
      return Says(R"({"driver":"QEMU","mount_type":"9p","docker_socket":"s"})");
    }
    if (call.starts_with("colima start")) {
      Boot();
      return Says("");
    }
    if (call.starts_with("colima stop")) {
      list = kStopped;
      return Says("");
    }
    if (call == inside + "cat /proc/sys/kernel/random/boot_id") return Says(absl::StrCat("boot-", boots, "\n"));
    if (call == inside + "cat /etc/docker/daemon.json") return Says(daemon);
    if (call.starts_with(inside + "docker ps")) return Says("a\nb\n");
    if (call.starts_with(inside + "modprobe")) {
      for (const auto& [key, value] : of_module) kernel[key] = value;
      return Says("");
    }
    if (call.starts_with(inside + "sysctl -w ")) {
      const std::string setting = call.substr(inside.size() + 10);
      const size_t is = setting.find('=');
      kernel[setting.substr(0, is)] = made_of(setting.substr(is + 1));
      return Says("", 0, complaint);
    }
    if (call.starts_with(inside + "sysctl -e ")) {
      std::string text;
      for (const auto& [key, value] : kernel) {
        if ((call + " ").find(" " + key + " ") != std::string::npos) text += key + " = " + value + "\n";
      }
      return Says(text);
    }
    return Says("", 64, "unexpected");
  }
  // It starts, or starts again: its kernel begins anew, and its configuration makes what it makes.
  void Boot() {
    ++boots;
    kernel = by_itself;
    for (const auto& [key, value] : by_configuration) kernel[key] = value;
    list = kRunning;
  }

  std::string list = kRunning;
  std::map<std::string, std::string> by_itself = {{"net.core.somaxconn", "128"}};
  std::map<std::string, std::string> by_configuration;
  std::map<std::string, std::string> kernel = by_itself;
  std::map<std::string, std::string> of_module;
  std::function<std::string(const std::string&)> made_of = [](const std::string& value) { return value; };
  std::string complaint;
  std::string daemon = "{}";
  int boots = 1;
};

}  // namespace loadstar::agent
