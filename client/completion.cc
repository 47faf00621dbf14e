#include "client/completion.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace loadstar::client {
namespace {

// Both shells: prints candidates for an argument of a type, one a line. Placeholders in braces are file names, left to
// the shell.
constexpr char kCandidates[] = R"sh(
_loadstar_documents() {
  local root
  for root in . ${LOADSTAR_HOME:+"$LOADSTAR_HOME"} @HERE@; do
    [ -d "$root/deploy/$1" ] && find "$root/deploy/$1" -maxdepth 1 -name '*.yaml' -exec basename {} .yaml ';' 2>/dev/null
  done | sort -u
}
_loadstar_field() {
  timeout 2 loadstar "$1" --json 2>/dev/null | grep -o "\"$2\":\"[^\"]*\"" | cut -d '"' -f 4
}
_loadstar_candidates() {
  case $1 in
    TEST) _loadstar_documents scenarios ;;
    STACK) _loadstar_documents stacks ;;
    PROFILE) _loadstar_documents tuning ;;
    DOCUMENT) _loadstar_documents scenarios; _loadstar_documents stacks; _loadstar_documents tuning ;;
    AGENT) timeout 2 loadstar agents --json 2>/dev/null | grep -o '{"name":"[^"]*","connected"' | cut -d '"' -f 4 ;;
    RUN) _loadstar_field runs run_id ;;
    DEPLOYMENT) timeout 2 loadstar deployments --json 2>/dev/null | grep -o '"stack":{"name":"[^"]*"' | cut -d '"' -f 6 ;;
    *"|"*) printf '%s\n' "$1" | tr '|' '\n' ;;
  esac
}
)sh";

// The folder from which the program's own documents are found, as document_lookup.h says.
constexpr char kHere[] = R"sh("$(dirname "$(readlink -f "$(command -v loadstar)")" 2>/dev/null)/../../..")sh";

std::string Names(const std::vector<CommandTree::Option>& options) {
  return absl::StrJoin(options, " ", [](std::string* out, const auto& option) { out->append(option.name); });
}

// One "pattern) statement ;;" for each option with a value, over all commands.
std::string ValueTypes(const CommandTree& tree) {
  std::vector<std::string> seen;
  std::string text;
  const auto add = [&](const CommandTree::Option& option) {
    if (!option.type.empty() && std::find(seen.begin(), seen.end(), option.name) == seen.end()) {
      seen.push_back(option.name);
      absl::StrAppend(&text, "    ", option.name, ") type='", option.type, "' ;;\n");
    }
  };
  for (const auto& option : tree.options) {
    add(option);
  }
  for (const auto& command : tree.commands) {
    for (const auto& option : command.options) {
      add(option);
    }
  }
  return text;
}

// Sets `options` and `types` by verb.
std::string VerbCases(const CommandTree& tree) {
  std::string text;
  for (const auto& command : tree.commands) {
    absl::StrAppend(&text, "    ", command.name, ") options='", Names(command.options), "' types='",
                    absl::StrJoin(command.positionals, " "), "' ;;\n");
  }
  return text;
}

std::string Verbs(const CommandTree& tree) {
  return absl::StrJoin(tree.commands, " ", [](std::string* out, const auto& command) { out->append(command.name); });
}

// The part that both shells share: from the words before the current one to what may stand there. Reads `previous` and
// the positional parameters (the words after "loadstar"), sets verb, options, types, type. Arrays differ between the
// shells and are not used.
std::string Analysis(const CommandTree& tree) {
  std::vector<std::string> with_value;
  const auto collect = [&](const std::vector<CommandTree::Option>& options) {
    for (const auto& option : options) {
      if (!option.type.empty() && std::find(with_value.begin(), with_value.end(), option.name) == with_value.end()) {
        with_value.push_back(option.name);
      }
    }
  };
  collect(tree.options);
  for (const auto& command : tree.commands) {
    collect(command.options);
  }
  return absl::StrCat(
      "_loadstar_analyse() {\n"
      "  verb='' options='' types='' type='' position=0\n"
      "  while [ $# -gt 0 ]; do\n"
      "    case $1 in\n"
      "      ",
      absl::StrJoin(with_value, "|"),
      ") [ $# -gt 1 ] && shift ;;\n"
      "      -*) ;;\n"
      "      *) if [ -z \"$verb\" ]; then verb=$1; else position=$((position + 1)); fi ;;\n"
      "    esac\n"
      "    shift\n"
      "  done\n"
      "  case $verb in\n",
      VerbCases(tree),
      "  esac\n"
      "  case $previous in\n",
      ValueTypes(tree),
      "    *)\n"
      "      type=$(printf '%s\\n' \"$types\" | tr ' ' '\\n' | sed -n \"$((position + 1))p\")\n"
      "      [ -z \"$type\" ] && type=$(printf '%s\\n' \"$types\" | tr ' ' '\\n' | grep -x DOCUMENT) ;;\n"
      "  esac\n"
      "}\n");
}

std::string Candidates() { return absl::StrReplaceAll(kCandidates, {{"@HERE@", kHere}}); }

}  // namespace

std::string BashCompletion(const CommandTree& tree) {
  return absl::StrCat(
      "# bash completion of loadstar; use: source <(loadstar completion bash)\n", Candidates(), Analysis(tree),
      "_loadstar() {\n",
      "  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
      "  local verb options types type position candidates\n"
      "  _loadstar_analyse \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"\n"
      "  if [[ $word == -* ]]; then\n"
      "    candidates=\"$options ",
      Names(tree.options),
      "\"\n"
      "  elif [[ -z $verb && -z $type ]]; then\n"
      "    candidates='",
      Verbs(tree),
      "'\n"
      "  else\n"
      "    candidates=$(_loadstar_candidates \"$type\")\n"
      "  fi\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$candidates\" -- \"$word\")\n"
      "  case $type in\n"
      "    TEST|STACK|PROFILE|DOCUMENT) [[ $word == -* ]] || mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY "
      "< <(compgen -f -- \"$word\") ;;\n"
      "    DIR) mapfile -t COMPREPLY < <(compgen -d -- \"$word\") ;;\n"
      "  esac\n"
      "}\n"
      "complete -F _loadstar loadstar\n");
}

std::string ZshCompletion(const CommandTree& tree) {
  return absl::StrCat("#compdef loadstar\n# zsh completion of loadstar; use: source <(loadstar completion zsh)\n",
                      Candidates(), Analysis(tree), "_loadstar() {\n",
                      "  local word=${words[CURRENT]} previous=${words[CURRENT-1]}\n"
                      "  local verb options types type position\n"
                      "  _loadstar_analyse \"${(@)words[2,CURRENT-1]}\"\n"
                      "  if [[ $word == -* ]]; then\n"
                      "    compadd -- ${=options} ",
                      Names(tree.options),
                      "\n"
                      "  elif [[ -z $verb && -z $type ]]; then\n"
                      "    compadd -- ",
                      Verbs(tree),
                      "\n"
                      "  else\n"
                      "    compadd -- ${(f)\"$(_loadstar_candidates \"$type\")\"}\n"
                      "    case $type in\n"
                      "      TEST|STACK|PROFILE|DOCUMENT) _files ;;\n"
                      "      DIR) _files -/ ;;\n"
                      "    esac\n"
                      "  fi\n"
                      "}\n"
                      "compdef _loadstar loadstar\n");
}

}  // namespace loadstar::client
