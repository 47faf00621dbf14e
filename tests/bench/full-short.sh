#!/usr/bin/env bash
# The scenario "full" (100,000 connections, one request a second on each) in the stages of quickstart: 60 s ramp, 60 s
# hold. The verdict is as it comes. Arguments go to `loadstar run`. Needs build/release; prints one line of JSON.
set -euo pipefail
exec /usr/bin/python3 "$(dirname "${BASH_SOURCE[0]}")/measure.py" full \
  --set 'load.connections[0].ramp=60s' --set 'load.connections[1].hold=60s' "$@"
