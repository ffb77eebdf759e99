#!/usr/bin/env python3
"""
Lets servers and networks fail under clients that keep books, and reports what the clients met.

    test/chaos/run.sh [--quick] [--set NAME=VALUE] [--doc FILE] [--list] [SCENARIO...]

--quick runs a handful of short scenarios whose outcome does not depend on the speed of the machine, and judges no
times. --set changes a parameter of the scenarios that have it, as in --set stopped=10. --doc renews the tables between
the markers in that file. The last line counts the scenarios; the exit status is not 0 when a client got a wrong answer,
a row was lost or doubled, a client hung, or, without --quick, a figure missed its limit.
"""
import argparse
import inspect
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
sys.dont_write_bytecode = True

import report  # noqa: E402
import scenarios  # noqa: E402
from harness import pooler as pl  # noqa: E402
from rig import Template  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--doc", metavar="FILE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("scenario", nargs="*")
    args = parser.parse_args()
    for name in args.scenario:
        if name not in scenarios.ALL:
            parser.error(f"no scenario {name}; there are {' '.join(scenarios.ALL)}")
    return args


def parameters(function, quick, changes):
    """Keyword arguments for a scenario: those of the short run, and changes of those it has."""
    known = inspect.signature(function).parameters
    out = dict(quick or {})
    for change in changes:
        name, _, value = change.partition("=")
        if name in known:
            out[name] = type(known[name].default)(value)
    return out


def run(template, name, args):
    function, quick = scenarios.ALL[name]
    bench = scenarios.Bench(template, name, function)
    begin = time.monotonic()
    try:
        function(bench, **parameters(function, quick if args.quick else None, args.set))
    except Exception as e:
        traceback.print_exc()
        bench.result.fail(f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
    bench.result.seconds = time.monotonic() - begin
    if not args.quick:
        bench.result.judge_facts()
    return bench.result


def main():
    args = arguments()
    if args.list:
        for name, (function, quick) in scenarios.ALL.items():
            print(f"{name:22} {'quick' if quick else '     '}  {scenarios.title_of(function)}")
        return 0
    if not os.access(pl.binary(), os.X_OK):
        print(f"there is no program to test at {pl.binary()}; set PGSLUICE to its path", file=sys.stderr)
        return 2
    machine = f"{os.cpu_count()} processors with a load of {os.getloadavg()[2]:.0f} from other work"
    names = args.scenario or [n for n, (_, quick) in scenarios.ALL.items() if quick or not args.quick]
    template = Template()
    results = []
    try:
        for name in names:
            results.append(run(template, name, args))
            print(report.text(results[-1]))
            print(f"{'not ' if results[-1].failures else ''}ok {len(results)} {name}", flush=True)
    finally:
        template.remove()
    if args.doc:
        report.write(args.doc, results, machine)
    failed = sum(bool(r.failures) for r in results)
    print(f"{len(results) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
