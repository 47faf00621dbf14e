"""Interleaved repetitions of measurements, and their medians, as lines of JSON."""

import json
import statistics


def show(line):
    print(json.dumps(line), flush=True)


def interleaved(cases, repetitions, measure):
    """Measures every case once, then every case again; each round begins with another one, so that none is always first.

    Prints every result. Returns the lists of results by case.
    """
    cases = list(cases)
    results = {case: [] for case in cases}
    for repetition in range(repetitions):
        first = repetition % len(cases)
        for case in cases[first:] + cases[:first]:
            results[case].append(measure(case))
            show(results[case][-1])
    return results


def summary(results):
    """One line of several results of a case."""
    return {"median_of": len(results), **median(results)}


def median(results):
    """What is the same in all results, and the medians of numbers, in dictionaries, too; the rest is left out."""
    found = {}
    for name in results[0]:
        values = [result[name] for result in results if result.get(name) is not None]
        if not values:
            continue
        if isinstance(values[0], dict):
            found[name] = median(values)
        elif all(value == values[0] for value in values):
            found[name] = values[0]
        elif isinstance(values[0], (int, float)):
            found[name] = statistics.median(values)
    return found
