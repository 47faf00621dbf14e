#!/usr/bin/env bash
# Installs, builds and runs all tests; CI calls exactly this. The last thing it prints is ctest's summary.
set -uo pipefail

usage() {
  cat <<'TEXT'
usage: tests/run.sh [--quick] [--stage NAME]...

Stages, in this order (all by default):
  install   Debian packages, buf from npm
  lint      buf, clang-format, shellcheck
  build     release build of everything
  asan      unit tests and simulation under AddressSanitizer and UndefinedBehaviorSanitizer
  tsan      tests of code with threads under ThreadSanitizer
  tidy      clang-tidy over our sources, cached by content
  fuzz      every fuzz target for 10 s on its corpus
  test      all tests of the release build, end-to-end tests included

  --quick         install, build and test alone
  --stage NAME    this stage alone; may be given more than once
  --jobs N        parallel jobs (default: the number of cores)

With CI=true the stages before the last share LOADSTAR_TIME_BUDGET_S (default 3600) seconds, so that a machine with cold
caches still comes to the tests: what does not fit is reported as not finished, and warms the caches for the next run.

Exit code: 0 when every stage passed, 1 when one failed, 2 for wrong arguments.
TEXT
}

readonly all_stages=(install lint build asan tsan tidy fuzz test)
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
[ "${#stages[@]}" -gt 0 ] || stages=("${all_stages[@]}")

logs=$root/build/logs
mkdir -p "$logs"
failed=()
unfinished=()
started=$SECONDS

# Set by CI alone: the SECONDS by which everything but the last stage has to be done. 0: no budget.
budget=0
[ "${CI:-}" != true ] || budget=${LOADSTAR_TIME_BUDGET_S:-3600}

# bounded SECONDS COMMAND...: ends the command and its children when it takes longer, or when the budget is used up.
bounded() {
  local limit=$1 left=$((budget - SECONDS)) capped=0 status
  shift
  if [ "$budget" -gt 0 ] && [ "$left" -lt "$limit" ]; then
    limit=$((left > 1 ? left : 1))
    capped=1
  fi
  timeout --kill-after=20 "$limit" "$@"
  status=$?
  if [ "$capped" -eq 1 ] && [ "$status" -ge 124 ]; then
    touch "$logs/out-of-time"
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
  local preset=$1 limit=$2
  shift 2
  quietly "$preset-configure" 300 cmake --preset "$preset" || return 1
  # Address layout without randomness: ThreadSanitizer refuses some layouts, and test discovery runs the programs.
  quietly "$preset-build" "$limit" setarch -R ninja -C "build/$preset" -j "$jobs" "$@"
}

# ninja_targets PRESET REGEX: phony names of programs that match.
ninja_targets() { ninja -C "build/$1" -t targets all 2>/dev/null | sed -n 's/: phony$//p' | grep -E "$2" | grep -Ev "^cmake_|/"; }

# suite PRESET SECONDS CTEST_ARGUMENT...
suite() {
  local preset=$1 limit=$2
  shift 2
  # The limit of a single test is its own; this one is for tests that set none.
  bounded "$limit" setarch -R ctest --test-dir "build/$preset" --output-on-failure --timeout 300 --no-tests=error \
    -j "$jobs" "$@" </dev/null
}

stage_install() { bounded 1200 deploy/install-dependencies.sh --tests </dev/null; }

stage_lint() { bounded 600 tests/lint.sh; }

stage_build() { configure_and_build release 3000; }

stage_tidy() { bounded 3000 tests/lint.sh --tidy --jobs "$jobs"; }

stage_asan() {
  configure_and_build asan 3000 || return 1
  quietly asan-test 1500 env ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 \
    LSAN_OPTIONS="suppressions=$root/tests/lsan.supp" UBSAN_OPTIONS=print_stacktrace=1 \
    setarch -R ctest --test-dir build/asan --output-on-failure --timeout 300 --no-tests=error -j "$jobs" -LE 'e2e|timing' ||
    return 1
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
  for program in "${targets[@]}"; do
    quietly "tsan-$program" 400 env TSAN_OPTIONS="suppressions=$root/tests/tsan.supp:halt_on_error=1" \
      setarch -R "build/tsan/tests/$program" || { echo "failed under ThreadSanitizer: $program"; status=1; }
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
    if quietly "fuzz-$target" $((fuzz_seconds + 60)) env ASAN_OPTIONS=detect_leaks=1 "build/fuzz/fuzz/$target" \
      -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=3000 -artifact_prefix="$logs/$target-" "${folders[@]}"; then
      grep -E '^Done ' "$logs/fuzz-$target.log" | sed "s/^/$target: /"
    else
      echo "failed: $target; the input is kept in build/logs/"
      status=1
    fi
    rm -rf "$found"
  done
  return "$status"
}

stage_test() {
  budget=0
  suite release 1500
}

run_stage() {
  local name=$1 before=$SECONDS
  echo "==== $name"
  rm -f "$logs/out-of-time"
  if "stage_$name"; then
    # ctest's summary is to be the last thing printed.
    [ "$name" = test ] || echo "==== $name passed in $((SECONDS - before)) s"
  elif [ -e "$logs/out-of-time" ]; then
    echo "==== $name NOT FINISHED: the time budget of $budget s is used up"
    unfinished+=("$name")
  else
    echo "==== $name FAILED after $((SECONDS - before)) s"
    failed+=("$name")
  fi
}

for stage in "${stages[@]}"; do
  if [ "$stage" = test ]; then
    if [[ " ${failed[*]} ${unfinished[*]} " == *" build "* ]]; then
      failed+=(build)
      echo "==== test not run: the build failed"
      continue
    fi
    echo "$((SECONDS - started)) s until here${failed[*]:+; failed so far: ${failed[*]}}${unfinished[*]:+; not finished: ${unfinished[*]}}"
  fi
  run_stage "$stage"
done

if [ "${#failed[@]}" -gt 0 ]; then
  echo "tests/run.sh: failed: ${failed[*]} (logs in build/logs/)"
  exit 1
fi
