#include "client/program.h"

#include <memory>
#include <utility>
#include <vector>

#include "client/verbs/verbs.h"

namespace loadstar::client {

std::unique_ptr<CommandLine> MakeCommandLine() {
  std::vector<std::unique_ptr<Verb>> verbs;
  verbs.push_back(MakeAgents());
  verbs.push_back(MakeValidate());
  verbs.push_back(MakeDeploy());
  verbs.push_back(MakeDeployments());
  verbs.push_back(MakeTeardown());
  verbs.push_back(MakeTune());
  verbs.push_back(MakeRun());
  verbs.push_back(MakeWatch());
  verbs.push_back(MakeUpdate());
  verbs.push_back(MakeStop());
  verbs.push_back(MakeRuns());
  verbs.push_back(MakeShow());
  verbs.push_back(MakeExport());
  // The tree is read when the verb runs, by when every verb is on it.
  verbs.push_back(MakeCompletion([] { return MakeCommandLine()->Tree(); }));
  return std::make_unique<CommandLine>(std::move(verbs));
}

}  // namespace loadstar::client
