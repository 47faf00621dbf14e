#!/usr/bin/python3
"""Prints what subscribers that do not read cost, as one line of JSON.

usage: slow_subscriber.py SUBSCRIBERS

A run with one subscriber that reads and SUBSCRIBERS that do not for 30 s.
"""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # pylint: disable=wrong-import-position
import slow_subscribers  # pylint: disable=wrong-import-position

SILENT_S = 30


def main():
    if len(sys.argv) != 2 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    subscribers = int(sys.argv[1])
    with harness.Cluster() as cluster:
        measured = slow_subscribers.measure(cluster.start(), subscribers, SILENT_S)
    recorded = range(measured.run.recorded_s)
    print(json.dumps({
        "subscribers_silent": subscribers, "silent_s": SILENT_S, "recorded_s": len(recorded),
        "coordinator_rss_bytes_before": measured.rss_bytes_before, "coordinator_rss_bytes_after": measured.rss_bytes_after,
        "coordinator_rss_growth_bytes": measured.growth_bytes,
        "reader_missing_s": sorted(set(recorded) - set(measured.reader.seconds)),
        "reader_merged_intervals": len(measured.reader.merged),
        "silent_missing_s": sorted(set(recorded) - set(measured.silent.seconds)),
        "silent_merged_intervals": len(measured.silent.merged),
        "cores": os.cpu_count(), "kernel": os.uname().release,
    }))


if __name__ == "__main__":
    main()
