// The verbs, one file each.
#pragma once

#include <functional>
#include <memory>

#include "client/command_line.h"

namespace loadstar::client {

std::unique_ptr<Verb> MakeAgents();
std::unique_ptr<Verb> MakeValidate();
std::unique_ptr<Verb> MakeDeploy();
std::unique_ptr<Verb> MakeDeployments();
std::unique_ptr<Verb> MakeTeardown();
std::unique_ptr<Verb> MakeTune();
std::unique_ptr<Verb> MakeRun();
std::unique_ptr<Verb> MakeWatch();
std::unique_ptr<Verb> MakeUpdate();
std::unique_ptr<Verb> MakeStop();
std::unique_ptr<Verb> MakeRuns();
std::unique_ptr<Verb> MakeShow();
std::unique_ptr<Verb> MakeExport();
std::unique_ptr<Verb> MakeCompletion(std::function<CommandTree()> tree);

}  // namespace loadstar::client
