#!/usr/bin/python3
"""Provokes for real, one after the other, what can shape a run, and prints what the run said of it: a line of JSON each.

usage: self-watch.py [CAUSE...]     (see tests/e2e/causes.py; default: all)

Needs root for the causes that need a network namespace or a higher priority; they are skipped, and say why, where that is
not to be had. Exit code 1 when a run said something else than it should.
"""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import causes  # pylint: disable=wrong-import-position


def main():
    wanted = sys.argv[1:]
    known = {cause.__name__ for cause, _, _ in causes.CAUSES}
    if unknown := set(wanted) - known:
        sys.exit(f"no such cause: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    ok = True
    for cause, verdict, code in causes.CAUSES:
        if wanted and cause.__name__ not in wanted:
            continue
        row = {"cause": cause.__name__, "what": " ".join(cause.__doc__.split())}
        try:
            run = cause()
        except unittest.SkipTest as skipped:
            row["skipped"] = str(skipped)
        else:
            row["verdict"] = causes.verdict_of(run)
            row["line"] = causes.line_of(run, code) if code else None
            row["reasons"] = [reason.code for reason in run.verdict.reasons]
            row["as_expected"] = row["verdict"] == verdict and (code is None or row["line"] is not None)
            if not row["as_expected"]:
                row["expected"] = f"{verdict}, {code}"
                row["all"] = [causes.line_of(run, each) for each in row["reasons"]]
                ok = False
        print(json.dumps(row), flush=True)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
