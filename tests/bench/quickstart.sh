#!/usr/bin/env bash
# The figures of the quickstart test on this machine: 100,000 connections in 60 s, held for 60 s, 20,000 requests/s in all.
# Arguments go to `loadstar run` (such as --scale 0.1). Needs build/release; prints one line of JSON.
set -euo pipefail
exec /usr/bin/python3 "$(dirname "${BASH_SOURCE[0]}")/measure.py" quickstart "$@"
