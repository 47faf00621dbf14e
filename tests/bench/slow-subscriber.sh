#!/usr/bin/env bash
# What subscribers that do not read for 30 s cost: growth of the coordinator's memory, and seconds that the one that reads did
# not get. One line of JSON a run, for 1 and for 20 of them unless told otherwise. Needs build/release.
set -euo pipefail
[ $# -gt 0 ] || set -- 1 20
for subscribers in "$@"; do
  /usr/bin/python3 "$(dirname "${BASH_SOURCE[0]}")/slow_subscriber.py" "$subscribers"
done
