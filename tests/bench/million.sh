#!/usr/bin/env bash
# A million held connections on this host, both ends: 120 s ramp, 60 s hold, one request a minute on each. Takes about 10 GB
# of memory. The verdict is as it comes; memory is printed as the planner expected it and as it was taken, kernel and user
# apart. Arguments go to `loadstar run` (--scale 0.1 for a tenth). Needs build/release; prints one line of JSON.
set -euo pipefail
folder=$(dirname "${BASH_SOURCE[0]}")
exec /usr/bin/python3 "$folder/measure.py" --stack "$folder/million/million-nodes.yaml" "$folder/million/million.yaml" "$@"
