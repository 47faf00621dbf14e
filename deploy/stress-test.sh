#!/usr/bin/env bash
# The scenario "full" with a size and duration of your own, through the CLI, on what deploy/quickstart.sh brings up.
set -uo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/stress-test.sh [duration_min] [max_connections] [ramp_min]

  duration_min     minutes that the connections are held after the ramp   (default 5; fractions are allowed)
  max_connections  connections held at the peak, such as 50000 or 100k    (default 100000)
  ramp_min         minutes from none to the peak                          (default 5; fractions are allowed)

One request a second goes over each connection. Brings up what is not up yet, runs the test and prints its summary and
results folder; leaves everything up. Exit code: that of the run (0 passed, 1 a threshold failed, 3 not trustworthy, 4 could
not be carried out, as when the plan is beyond this host's capacity); 2 for wrong arguments.
TEXT
}

case ${1-} in -h | --help) usage; exit 0 ;; esac
[ $# -le 3 ] || { echo "stress-test.sh: takes at most three arguments, got $#" >&2; usage >&2; exit 2; }

# seconds_of NAME MINUTES: whole seconds, or an error. A week is the most that makes sense here.
seconds_of() {
  awk -v name="$1" -v x="$2" 'BEGIN {
    if (x !~ /^([0-9]+\.?[0-9]*|\.[0-9]+)$/ || x * 60 < 1 || x > 10080) {
      printf "stress-test.sh: %s takes minutes, at least one second and at most 10080, not \"%s\"\n", name, x > "/dev/stderr"
      exit 1
    }
    printf "%d\n", x * 60 + 0.5
  }'
}
hold_s=$(seconds_of duration_min "${1-5}") || exit 2
connections=${2-100000}
[[ $connections =~ ^[1-9][0-9]{0,8}[kM]?$ ]] ||
  { echo "stress-test.sh: max_connections takes a count such as 50000 or 100k, not \"$connections\"" >&2; exit 2; }
ramp_s=$(seconds_of ramp_min "${3-5}") || exit 2

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 4
deploy/quickstart.sh --no-test || exit
# Without LOADSTAR_COORDINATOR, quickstart uses the coordinator that is up, wherever it listens.
read -r LOADSTAR_COORDINATOR <state/quickstart/address && export LOADSTAR_COORDINATOR

echo "full: $connections connections, ramp ${ramp_s} s, hold ${hold_s} s"
exec build/release/bin/loadstar run full \
  --set "load.connections[0].ramp=${ramp_s}s" \
  --set "load.connections[0].to=$connections" \
  --set "load.connections[1].hold=${hold_s}s" \
  --set "thresholds=[latency.p99 < 50ms, errors.ratio < 0.1%, connections.peak >= $connections]"
