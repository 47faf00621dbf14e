#!/usr/bin/env bash
# Installs, builds and runs all tests; CI calls exactly this. The last thing it prints is ctest's summary.
set -uo pipefail

usage() {
  cat <<'TEXT'
usage: tests/run.sh [--all | --quick] [--stage NAME]...

Stages, in this order (by default those with a star):
* install   Debian packages; buf from npm, unless other stages were chosen and lint is not among them
* lint      buf, clang-format, shellcheck
* build     release build of everything
* asan      unit tests and simulation under AddressSanitizer and UndefinedBehaviorSanitizer
  tsan      tests of code with threads under ThreadSanitizer
  tidy      clang-tidy over our sources, cached by content
  fuzz      every fuzz target for 10 s on its corpus
* test      all tests of the release build, end-to-end tests included

  --all           every stage
  --quick         install, build and test alone
  --stage NAME    this stage alone; may be given more than once
  --jobs N        parallel jobs (default: the number of cores)

With CI=true the stages before the last share LOADSTAR_TIME_BUDGET_S (default 3600) seconds, so that a machine with cold
caches still comes to the tests: what does not fit is reported as not finished, and warms the caches for the next run.

Exit code: 0 when every stage passed, 1 when one failed, 2 for wrong arguments.
TEXT
}

readonly all_stages=(install lint build asan tsan tidy fuzz test)
# tsan, tidy and fuzz take longer from cold caches than a CI run may.
readonly default_stages=(install lint build asan test)
# Test programs of code that runs on one thread by design, without gRPC: the cores, the engine, the loop, the documents.
single_threaded_tests='^(histogram|histogram_property|figures|plan|spec|net_address|net_batch_wait|net_timer_wheel|net_loop_conformance'
single_threaded_tests+='|tuner|colima|target_unit|worker_pacer|worker_parts|worker_protocols|worker_engine|agent_core|server_core'
single_threaded_tests+='|fleet_simulation|node_machine|client_terminal)_test$'
readonly single_threaded_tests
# Test programs whose code has threads of its own; everything else runs on one thread by design.
readonly threaded_tests='^(rpc|rpc_reactor|server|server_service|session|supervisor|deployer|agent_parts|os|client)_test$'
# Seconds of fuzzing per target.
readonly fuzz_seconds=10

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
jobs=$(nproc)
stages=()
while [ $# -gt 0 ]; do
  case $1 in
    --all) stages=("${all_stages[@]}") ;;
    --quick) stages+=(install build test) ;;
    --stage)
      [[ $# -ge 2 && " ${all_stages[*]} " == *" $2 "* ]] || { echo "run.sh: --stage takes one of: ${all_stages[*]}" >&2; exit 2; }
      stages+=("$2"); shift ;;
    --jobs)
      [[ $# -ge 2 && $2 =~ ^[1-9][0-9]*$ ]] || { echo "run.sh: --jobs takes a number" >&2; exit 2; }
      jobs=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "run.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
[ "${#stages[@]}" -gt 0 ] || stages=("${default_stages[@]}")

logs=$root/build/logs
mkdir -p "$logs"
failed=()
unfinished=()
started=$SECONDS
# Of the stage that runs: whether the budget ended one of its commands, and whether one failed for a reason of its own.
out_of_time=false
failed_by_itself=false

# Address layout without randomness: ThreadSanitizer refuses some layouts. Containers with a seccomp filter forbid it.
fixed_layout=()
if setarch -R true 2>/dev/null; then fixed_layout=(setarch -R); fi

# Set by CI alone: the SECONDS by which everything but the last stage has to be done. 0: no budget.
budget=0
[ "${CI:-}" != true ] || budget=${LOADSTAR_TIME_BUDGET_S:-3600}

# The command that runs in a process group of its own, which a terminal's Ctrl-C does not reach.
child=''
interrupted() {
  trap '' INT TERM
  if [ -n "$child" ]; then
    kill -TERM "$child" 2>/dev/null
    wait "$child" 2>/dev/null
  fi
  exit 130
}
trap interrupted INT TERM

# bounded [--foreground] SECONDS COMMAND...: ends the command and its children when it takes longer, or when the budget is
# used up. With --foreground the command may ask on the terminal, and its children outlive the limit.
bounded() {
  local options=(--kill-after=20) capped=false status
  if [ "$1" = --foreground ]; then
    options+=(--foreground)
    shift
  fi
  local limit=$1 left=$((budget - SECONDS)) began=$SECONDS
  shift
  if [ "$budget" -gt 0 ] && [ "$left" -lt "$limit" ]; then
    limit=$((left > 1 ? left : 1))
    capped=true
  fi
  if [ "${options[-1]}" = --foreground ]; then
    timeout "${options[@]}" "$limit" "$@"
    status=$?
  else
    # In a process group of its own, so that the limit and an interrupt end the command's children too. Job control, for
    # otherwise a background command ignores SIGINT, and with it every program under test.
    set -m
    timeout "${options[@]}" "$limit" "$@" &
    child=$!
    set +m
    wait "$child"
    status=$?
    child=''
  fi
  # timeout tells 124 when it ended the command, 137 when that took SIGKILL; before the limit, 137 is another's doing.
  if $capped && { [ "$status" -eq 124 ] || { [ "$status" -eq 137 ] && [ $((SECONDS - began)) -ge "$limit" ]; }; }; then
    out_of_time=true
  elif [ "$status" -ne 0 ]; then
    failed_by_itself=true
  fi
  return "$status"
}

# quietly LOG SECONDS COMMAND...: output to a log; its end is shown when the command fails.
quietly() {
  local log=$logs/$1.log
  shift
  if ! bounded "$@" >"$log" 2>&1 </dev/null; then
    grep -E -A8 'error:|FAILED:|fatal' "$log" | head -n 60
    echo "---- end of build/logs/$(basename "$log"):"
    tail -n 25 "$log"
    return 1
  fi
}

# configure_and_build PRESET SECONDS [TARGET...]
configure_and_build() {
  local preset=$1 limit=$2 layout=()
  shift 2
  quietly "$preset-configure" 300 cmake --preset "$preset" || return 1
  # Test discovery runs the programs.
  [ "$preset" = release ] || layout=("${fixed_layout[@]}")
  quietly "$preset-build" "$limit" "${layout[@]}" ninja -C "build/$preset" -j "$jobs" "$@"
}

# ninja_targets PRESET REGEX: phony names of programs that match.
ninja_targets() { ninja -C "build/$1" -t targets all 2>/dev/null | sed -n 's/: phony$//p' | grep -E "$2" | grep -Ev "^cmake_|/"; }

stage_install() {
  # npm's packages outnumber all others together by far: nobody is to wait for them who does not lint.
  local what=()
  [[ "${stages[*]}" != install && " ${stages[*]} " != *' lint '* ]] || what=(--lint)
  # sudo asks on the terminal, which only a process in its foreground may do: not one that timeout put in a group of its own.
  bounded --foreground 600 deploy/install-dependencies.sh "${what[@]}" --authorize || return 1
  bounded --foreground 1200 deploy/install-dependencies.sh "${what[@]}" </dev/null
}

stage_lint() { bounded 600 tests/lint.sh; }

stage_build() { configure_and_build release 3000; }

stage_tidy() { bounded 3000 tests/lint.sh --tidy --jobs "$jobs"; }

stage_asan() {
  quietly asan-configure 300 cmake --preset asan || return 1
  local targets
  mapfile -t targets < <(ninja_targets asan "$single_threaded_tests")
  [ "${#targets[@]}" -gt 0 ] || { echo "no test programs match $single_threaded_tests"; return 1; }
  configure_and_build asan 3000 "${targets[@]}" loadstar-worker loadstar-target || return 1
  quietly asan-test 1500 env ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 \
    LSAN_OPTIONS="suppressions=$root/tests/lsan.supp" UBSAN_OPTIONS=print_stacktrace=1 \
    "${fixed_layout[@]}" \
    ctest --test-dir build/asan --output-on-failure --timeout 300 --no-tests=error -j "$jobs" -LE 'e2e|timing' \
    -E '_NOT_BUILT$' || {
    # A test that had failed before the time was up has failed.
    ! grep -qE '\*\*\*Failed|SegFault|Subprocess aborted' "$logs/asan-test.log" || failed_by_itself=true
    return 1
  }
  grep -E 'tests passed|tests failed' "$logs/asan-test.log"
}

stage_tsan() {
  quietly tsan-configure 300 cmake --preset tsan || return 1
  local targets
  mapfile -t targets < <(ninja_targets tsan "$threaded_tests")
  [ "${#targets[@]}" -gt 0 ] || { echo "no test programs match $threaded_tests"; return 1; }
  # Tests of the agent and of the deployer start these.
  configure_and_build tsan 3000 "${targets[@]}" loadstar-worker loadstar-target || return 1
  local program status=0
  # Not its own handler of SIGSEGV: tests crash a worker on purpose, and look at how it ended.
  local tsan_options=suppressions=$root/tests/tsan.supp:halt_on_error=1:handle_segv=0:handle_abort=0
  for program in "${targets[@]}"; do
    quietly "tsan-$program" 400 env TSAN_OPTIONS="$tsan_options" \
      "${fixed_layout[@]}" "build/tsan/tests/$program" || { echo "not passed under ThreadSanitizer: $program"; status=1; }
  done
  [ "$status" -eq 0 ] && echo "${#targets[@]} test programs passed: ${targets[*]}"
  return "$status"
}

stage_fuzz() {
  quietly fuzz-configure 300 cmake --preset fuzz || return 1
  local targets
  mapfile -t targets < <(ninja_targets fuzz '_fuzz$')
  [ "${#targets[@]}" -gt 0 ] || { echo "no fuzz targets found"; return 1; }
  configure_and_build fuzz 3000 "${targets[@]}" || return 1
  local target found status=0
  for target in "${targets[@]}"; do
    local corpus=tests/fuzz/corpus/${target%_fuzz}
    found=$(mktemp -d)
    local folders=("$found")
    [ -d "$corpus" ] && folders+=("$corpus")
    if quietly "fuzz-$target" $((fuzz_seconds + 60)) env ASAN_OPTIONS=detect_leaks=1 \
      "${fixed_layout[@]}" "build/fuzz/fuzz/$target" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=3000 \
      -artifact_prefix="$logs/$target-" "${folders[@]}"; then
      grep -E '^Done ' "$logs/fuzz-$target.log" | sed "s/^/$target: /"
    else
      echo "not passed: $target; an input that it failed on is kept in build/logs/"
      status=1
    fi
    rm -rf "$found"
  done
  return "$status"
}

stage_test() {
  local budget=0
  # The limit of a single test is its own; the one given here is for tests that set none.
  bounded 1500 ctest --test-dir build/release --output-on-failure --timeout 300 --no-tests=error -j "$jobs" </dev/null
}

run_stage() {
  local name=$1 before=$SECONDS
  echo "==== $name"
  out_of_time=false
  failed_by_itself=false
  if "stage_$name"; then
    # ctest's summary is to be the last thing printed.
    [ "$name" = test ] || echo "==== $name passed in $((SECONDS - before)) s"
  elif $out_of_time && ! $failed_by_itself; then
    echo "==== $name NOT FINISHED: the time budget of $budget s is used up"
    unfinished+=("$name")
  else
    echo "==== $name FAILED after $((SECONDS - before)) s"
    failed+=("$name")
  fi
}

# What the budget left undone is no failure, and nobody is to take it for a pass.
tell_unfinished() {
  [ "${#unfinished[@]}" -gt 0 ] || return 0
  echo "****"
  echo "**** NOT FINISHED within $budget s, so neither passed nor failed: ${unfinished[*]}"
  echo "**** By itself, without a budget: tests/run.sh$(printf -- ' --stage %s' "${unfinished[@]}")"
  echo "****"
}

for stage in "${stages[@]}"; do
  if [ "$stage" = test ]; then
    if [[ " ${failed[*]} ${unfinished[*]} " == *" build "* ]]; then
      [[ " ${failed[*]} " == *" build "* ]] || failed+=(build)
      echo "==== test not run: the build failed"
      continue
    fi
    echo "==== $((SECONDS - started)) s until here${failed[*]:+; failed so far: ${failed[*]}}"
    tell_unfinished
  fi
  run_stage "$stage"
done

if [ "${#failed[@]}" -gt 0 ] || [ "${stages[-1]}" != test ]; then tell_unfinished; fi
if [ "${#failed[@]}" -gt 0 ]; then
  echo "tests/run.sh: failed: ${failed[*]} (logs in build/logs/)"
  exit 1
fi
