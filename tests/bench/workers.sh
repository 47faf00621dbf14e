#!/usr/bin/env bash
# How the number of workers changes the result: 10,000 connections at 1/s each with 1, 2 and 4 workers. One line of JSON
# a run. Needs build/release.
set -euo pipefail
for workers in 1 2 4; do
  /usr/bin/python3 "$(dirname "${BASH_SOURCE[0]}")/measure.py" smoke --set "load.workers=$workers" \
    --set 'load.connections[0].ramp=10s' --set 'load.connections[1].hold=20s' || echo "exit code $?" >&2
done
