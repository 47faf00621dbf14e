#!/usr/bin/env bash
# From a fresh clone to a measured result: builds Loadstar, starts a coordinator and an agent on this machine, brings up
# four nodes, puts 100,000 connections on them and prints what was measured. Run again, it finds what is already up.
set -uo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/quickstart.sh [--no-test] [--scale X] | --status | --clean [--keep-build] | --help

  (nothing)      all five phases, then the test "quickstart": 100,000 connections in a 60 s ramp, held for 60 s, with
                 20,000 requests/s in all; its summary and results folder
  --no-test      all five phases, without the test: leaves everything up for your own
  --scale X      run the test at a share of its size, 0 < X <= 1 (recorded in the result)
  --status       what is up
  --clean        take everything down: nodes, agent, coordinator, state/; also build/release when this script made it.
                 Keeps results/, the Debian packages, and the compiler's cache, which is outside of this folder (ccache's)
  --keep-build   with --clean: keep build/release

Phases: 1 engine (dependencies, build, coordinator and agent), 2 host limits (report only), 3 the nodes' program,
4 deploy, 5 verify. LOADSTAR_COORDINATOR sets the coordinator's address (default 127.0.0.1:7400); while one is up, its
address is the default, and another one is an error. --status and --clean always mean the one that is up.

Exit code: that of the test (0 passed, 1 a threshold failed, 3 not trustworthy, 4 could not be carried out);
2 for wrong arguments; 4 when a phase failed or when --clean could not end a process.
TEXT
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root" || exit 4
readonly stack=four-nodes test_name=quickstart
readonly state=state/quickstart bin=build/release/bin made_marker=build/release/.made-by-quickstart
readonly programs=(loadstar loadstar-coordinator loadstar-agent loadstar-worker loadstar-target)
readonly default_address=127.0.0.1:7400

mode=all scale='' keep_build=false
while [ $# -gt 0 ]; do
  case $1 in
    --no-test) mode=no-test ;;
    --status) mode=status ;;
    --clean) mode=clean ;;
    --keep-build) keep_build=true ;;
    --scale)
      scale=${2:-}
      awk -v x="$scale" 'BEGIN { exit !(x ~ /^([0-9]+\.?[0-9]*|\.[0-9]+)$/ && x > 0 && x <= 1) }' ||
        { echo "quickstart.sh: --scale takes a number above 0 and at most 1, not '$scale'" >&2; exit 2; }
      shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "quickstart.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

# ---- What is up: pid files that also hold the process's start time, so that a reused pid is never taken for ours

# Of a process that lives: one that has ended but was not waited for yet (Z) has none.
start_time_of() { sed -n 's/^.*) \([^ZX] \)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# pid_of NAME: the pid of our coordinator or agent, when it lives.
pid_of() {
  local pid recorded
  read -r pid recorded 2>/dev/null <"$state/$1.pid" || return 1
  [ -n "$recorded" ] && [ "$(start_time_of "$pid")" = "$recorded" ] && echo "$pid"
}

# choose_address: where the coordinator that is up listens; else what the user says; else the default.
choose_address() {
  local asked=${LOADSTAR_COORDINATOR:-} up=''
  pid_of coordinator >/dev/null && read -r up 2>/dev/null <"$state/address"
  if [ -n "$up" ] && [ -n "$asked" ] && [ "$asked" != "$up" ] && [[ $mode != status && $mode != clean ]]; then
    echo "quickstart.sh: LOADSTAR_COORDINATOR is $asked, but this folder's coordinator is up on $up (pid $(pid_of coordinator))." >&2
    echo "Unset LOADSTAR_COORDINATOR to use that one, or take it down first: deploy/quickstart.sh --clean --keep-build" >&2
    exit 4
  fi
  asked=${asked:-$default_address}
  export LOADSTAR_COORDINATOR=${up:-$asked}
}

# The command line as a user has to write it to reach our coordinator.
cli_command() {
  [ "$LOADSTAR_COORDINATOR" = "$default_address" ] || printf 'LOADSTAR_COORDINATOR=%s ' "$LOADSTAR_COORDINATOR"
  printf '%s' "$bin/loadstar"
}

loadstar() { timeout "${cli_limit:-20}" "$bin/loadstar" "$@"; }

# json EXPRESSION: lines of a Python expression over `answer`, the JSON object on stdin.
json() {
  python3 -c 'import json, sys; answer = json.loads(sys.stdin.readline()); print("\n".join(eval(sys.argv[1])))' "$1"
}

# ---- Progress and failure

phase='' phase_started=0 phase_log=''
readonly started=$SECONDS

begin() {
  phase=$1
  phase_started=$SECONDS
  phase_log=''
  printf '\n[%s] %s\n' "$1" "$2"
}
step() { printf '    %s\n' "$*"; }
end() { printf '    done in %d s\n' $((SECONDS - phase_started)); }

# fail WHAT REMEDY: what failed, the last of the log, how to go on.
fail() {
  {
    printf '\nFAILED in phase %s after %d s: %s\n' "$phase" $((SECONDS - phase_started)) "$1"
    if [ -n "$phase_log" ] && [ -s "$phase_log" ]; then
      printf -- '---- last lines of %s\n' "$phase_log"
      tail -n 15 "$phase_log"
      printf -- '----\n'
    fi
    printf 'How to go on: %s\n' "$2"
    printf 'What came up stays up: deploy/quickstart.sh --status shows it, --clean takes it down.\n'
  } >&2
  exit 4
}

child=''
interrupted() {
  trap '' INT TERM
  if [ -n "$child" ]; then
    kill -TERM -- "-$child" 2>/dev/null || kill -TERM "$child" 2>/dev/null
    wait "$child" 2>/dev/null
  fi
  printf '\ninterrupted in phase %s. What came up stays up: deploy/quickstart.sh --status, --clean.\n' "${phase:-0}" >&2
  exit 130
}

# with_progress SECONDS COMMAND...: to the phase's log, with ninja's or apt's last line shown as it goes.
with_progress() {
  local limit=$1 shown='' line began=$SECONDS
  shift
  setsid timeout --kill-after=10 "$limit" "$@" >>"$phase_log" 2>&1 </dev/null &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    line=$(tail -c 400 "$phase_log" | tr '\r' '\n' | grep -v '^$' | tail -n 1 | cut -c1-90)
    if [ -t 1 ]; then
      printf '\r\033[K    %3d s  %s' $((SECONDS - began)) "$line"
    elif [ $(((SECONDS - began) % 15)) -eq 0 ] && [ "$line" != "$shown" ]; then
      step "$((SECONDS - began)) s  $line"
      shown=$line
    fi
  done
  wait "$child"
  local status=$?
  child=''
  [ -t 1 ] && printf '\r\033[K'
  return "$status"
}

# sudo may ask on the terminal, and holds its ticket for it: then no session and no background, hence no progress shown.
install_dependencies() {
  if [ "$(id -u)" -eq 0 ]; then
    with_progress 1800 deploy/install-dependencies.sh
  else
    timeout --foreground --kill-after=10 1800 deploy/install-dependencies.sh >>"$phase_log" 2>&1 </dev/null
  fi
}

# ---- Coordinator and agent

# spawn NAME COMMAND...: in a session of its own, logging to a file, recorded in a pid file.
spawn() {
  local name=$1 pid
  shift
  LOADSTAR_QUICKSTART=$root/$state setsid "$@" >>"$state/$name.log" 2>&1 </dev/null &
  pid=$!
  disown "$pid"
  printf '%s %s\n' "$pid" "$(start_time_of "$pid")" >"$state/$name.pid"
}

# wait_until SECONDS NAME COMMAND...: polls; gives up at once when the named process has ended.
wait_until() {
  local deadline=$((SECONDS + $1)) name=$2
  shift 2
  until "$@"; do
    pid_of "$name" >/dev/null || return 1
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

coordinator_answers() { cli_limit=5 loadstar agents --json >/dev/null 2>&1; }
agent_connected() {
  cli_limit=5 loadstar agents --json 2>/dev/null | json '[a["name"] for a in answer.get("agents", []) if a.get("connected")]' |
    grep -qx local
}

# listener_on ADDRESS: who listens there, as ss tells it; empty when nobody.
listener_on() { ss -Hltnp "sport = :${1##*:}" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (pid \2)/p' | head -n 1; }

start_engine() {
  local pid
  if pid=$(pid_of coordinator); then
    step "coordinator is up on $LOADSTAR_COORDINATOR (pid $pid)"
  else
    local other
    other=$(listener_on "$LOADSTAR_COORDINATOR")
    [ -z "$other" ] || fail "$LOADSTAR_COORDINATOR is already in use by $other, which this script did not start" \
      "stop that process, or choose another address: LOADSTAR_COORDINATOR=127.0.0.1:7401 deploy/quickstart.sh"
    phase_log=$state/coordinator.log
    printf '%s\n' "$LOADSTAR_COORDINATOR" >"$state/address"
    spawn coordinator "$bin/loadstar-coordinator" --listen "$LOADSTAR_COORDINATOR" --state "$state/coordinator"
    wait_until 30 coordinator coordinator_answers ||
      fail "the coordinator did not come up" "read $state/coordinator.log, then run this again"
    step "coordinator listens on $LOADSTAR_COORDINATOR (pid $(pid_of coordinator))"
  fi
  if pid=$(pid_of agent) && agent_connected; then
    step "agent is up (pid $pid)"
  else
    phase_log=$state/agent.log
    [ -n "$pid" ] || spawn agent "$bin/loadstar-agent" --coordinator "$LOADSTAR_COORDINATOR" --name local --state "$state/agent"
    wait_until 30 agent agent_connected ||
      fail "the agent did not connect to the coordinator" "read $state/agent.log, then run this again"
    step "agent 'local' is connected (pid $(pid_of agent))"
  fi
  local name
  for name in coordinator agent; do
    # The file a running program came from is gone once the linker has replaced it.
    [[ $(readlink "/proc/$(pid_of "$name")/exe") != *' (deleted)' ]] ||
      step "note: the running $name is of an older build; deploy/quickstart.sh --clean --keep-build, then run this again"
  done
}

# gone SECONDS COMMAND...: waits until the command prints nothing.
gone() {
  local deadline=$((SECONDS + $1))
  shift
  while [ -n "$("$@")" ]; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

# stop NAME: TERM, then KILL after 20 s.
stop() {
  local pid
  pid=$(pid_of "$1") || { rm -f "$state/$1.pid"; return 0; }
  kill -TERM "$pid" 2>/dev/null
  if ! gone 20 pid_of "$1"; then
    step "$1 did not end within 20 s of SIGTERM: killing it"
    kill -KILL "$pid" 2>/dev/null
    gone 10 pid_of "$1" || return 1
  fi
  rm -f "$state/$1.pid"
  step "$1 stopped"
}

# Whatever was started from here and did not end with its parent (which may have been killed): programs carry the mark
# that spawn put into their environment, nodes the mark that names their agent's folder.
marked_processes() {
  local own=LOADSTAR_QUICKSTART=$root/$state node=LOADSTAR_NODE=$root/$state/ pid variable
  # Fixed strings, since a folder's name may hold anything; grep finds candidates, the comparison tells that it is the mark.
  grep -lszF -e "$own" -e "$node" /proc/[0-9]*/environ | cut -d / -f 3 | while read -r pid; do
    while IFS= read -r -d '' variable; do
      [[ $variable == "$own" || $variable == "$node"* ]] || continue
      echo "$pid"
      break
    done 2>/dev/null <"/proc/$pid/environ"
  done
}

# end_leftovers: TERM, then KILL after 5 s; fails when one remains all the same.
end_leftovers() {
  local pids
  mapfile -t pids < <(marked_processes)
  [ "${#pids[@]}" -gt 0 ] || return 0
  step "ending ${#pids[@]} processes that were left behind: ${pids[*]}"
  kill -TERM "${pids[@]}" 2>/dev/null
  ! gone 5 marked_processes || return 0
  mapfile -t pids < <(marked_processes)
  kill -KILL "${pids[@]}" 2>/dev/null
  gone 10 marked_processes
}

# ---- The phases

phase_engine() {
  begin 1/5 'engine: dependencies, build, coordinator and agent'
  mkdir -p "$state"
  if ! deploy/install-dependencies.sh --check >/dev/null 2>&1; then
    phase_log=$state/install.log
    timeout --foreground --kill-after=10 600 deploy/install-dependencies.sh --authorize ||
      fail 'the rights to install Debian packages are missing' \
        'run this as root or as a user of sudo, or install the packages that are named above'
    step "installing missing Debian packages; output goes to $phase_log"
    install_dependencies ||
      fail 'dependencies could not be installed' 'mend what the log says (network, rights), then run this again'
  fi
  step 'dependencies are there'
  phase_log=$state/build.log
  : >"$phase_log"
  if [ ! -d build/release ]; then
    mkdir -p build/release
    touch "$made_marker"
  fi
  step 'building (the first time takes minutes, later only what changed)'
  { with_progress 300 cmake --preset release && with_progress 3600 ninja -C build/release "${programs[@]}"; } ||
    fail 'the build failed' 'read the log; when it looks interrupted or out of memory, run this again: it goes on where it stopped'
  step "programs are in $bin"
  start_engine
  end
}

phase_limits() {
  begin 2/5 'host limits (report only)'
  local first last
  read -r first last </proc/sys/net/ipv4/ip_local_port_range
  step "descriptors per process: $(ulimit -Hn), on the host: $(cat /proc/sys/fs/file-max)"
  step "ephemeral ports: $first to $last, of which half ($(((last - first + 1) / 2))) connect at full speed per pair of addresses"
  step "listen queue (somaxconn): $(cat /proc/sys/net/core/somaxconn)"
  loadstar agents --json | json '[
    "    agent {}: {:,} connections, limited by {}; {:,} per worker".format(a["name"],
        int(a["capacity"].get("connections", 0)), a["capacity"].get("binding_limit"), int(a["capacity"].get("per_worker", 0)))
    for a in answer.get("agents", []) if a.get("connected")]' ||
    fail 'the agents could not be listed' "$bin/loadstar agents tells why"
  end
}

phase_program() {
  begin 3/5 "the nodes' program"
  [ -x "$bin/loadstar-target" ] || fail "$bin/loadstar-target is missing" 'run this again: it builds what is missing'
  step "loadstar-target is built ($(du -h "$bin/loadstar-target" | cut -f 1))"
  end
}

phase_deploy() {
  begin 4/5 "deploy: stack $stack"
  phase_log=$state/agent.log
  cli_limit=120 loadstar deploy "$stack" | sed 's/^/    /'
  [ "${PIPESTATUS[0]}" -eq 0 ] ||
    fail "the stack $stack did not come up" "mend what the lines above say (a port in use is named with its process), then run this again"
  end
}

phase_verify() {
  begin 5/5 'verify'
  local unhealthy
  unhealthy=$(loadstar deployments --json | json '[
    "{} is {}".format(n["node"], n.get("state")) for d in answer.get("deployments", []) for n in d.get("nodes", [])
    if n.get("state") != "DEPLOYMENT_STATE_HEALTHY"]') ||
    fail 'the deployments could not be listed' "$bin/loadstar deployments tells why"
  [ -z "$unhealthy" ] || fail "not every node is healthy: $unhealthy" "$bin/loadstar logs $stack shows the nodes' logs"
  step 'all nodes are healthy'
  end
}

run_test() {
  printf '\n[test] %s%s\n' "$test_name" "${scale:+ at scale $scale}"
  local status
  "$bin/loadstar" run "$test_name" ${scale:+--scale "$scale"}
  status=$?
  printf '\n%d s in all. Everything stays up for your own tests: %s run smoke; deploy/quickstart.sh --clean takes it down.\n' \
    $((SECONDS - started)) "$(cli_command)"
  return "$status"
}

status_report() {
  local name pid up=0
  for name in coordinator agent; do
    if pid=$(pid_of "$name"); then
      echo "$name: up (pid $pid)"
      [ "$name" = agent ] || echo "address: $LOADSTAR_COORDINATOR"
      up=$((up + 1))
    else
      echo "$name: down"
    fi
  done
  [ -x "$bin/loadstar" ] || echo "programs: not built"
  if pid_of coordinator >/dev/null && [ -x "$bin/loadstar" ]; then
    loadstar agents
    loadstar deployments
  fi
  [ "$up" -eq 2 ]
}

clean() {
  phase=clean
  if pid_of coordinator >/dev/null && pid_of agent >/dev/null && [ -x "$bin/loadstar" ]; then
    local name
    while read -r name; do
      [ -n "$name" ] || continue
      if cli_limit=90 loadstar teardown "$name" >/dev/null; then
        step "deployment $name is gone"
      else
        step "deployment $name could not be torn down through the coordinator; its processes are ended next"
      fi
    done < <(loadstar deployments --json 2>/dev/null | json '[d["name"] for d in answer.get("deployments", [])]')
  fi
  # What of these two does not end carries the mark as well.
  stop agent
  stop coordinator
  if ! end_leftovers; then
    local pids
    mapfile -t pids < <(marked_processes)
    printf 'quickstart.sh: there even after SIGKILL: pids %s. %s is kept. End them as the user who started them, then %s\n' \
      "${pids[*]}" "$state" 'run --clean again.' >&2
    exit 4
  fi
  rm -rf "$state"
  rmdir state 2>/dev/null
  if ! $keep_build && [ -e "$made_marker" ]; then
    rm -rf build/release
    rmdir build 2>/dev/null
    step 'build/release removed (this script had made it)'
  fi
  echo 'clean: nothing of quickstart is left; results/ is kept'
}

choose_address
case $mode in
  status) status_report; exit ;;
  clean) clean; exit 0 ;;
esac

trap interrupted INT TERM
phase_engine
phase_limits
phase_program
phase_deploy
phase_verify
if [ "$mode" = no-test ]; then
  printf '\nup after %d s. Try: %s run smoke; take it down with deploy/quickstart.sh --clean\n' $((SECONDS - started)) "$(cli_command)"
  exit 0
fi
# From here on Ctrl-C is the client's: it stops the run gracefully, and this script reports its verdict.
trap : INT
run_test
