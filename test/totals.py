#!/usr/bin/env python3
"""Counts the single test cases of a `make check` and prints "N passed, N failed, N skipped".

    test/totals.py [--make-status N] [--build-log FILE] DIR

Reads each NAME.trs below DIR, which holds the verdict on a test program, and the NAME.log beside it, which holds its
cases: as TAP (cmocka with CMOCKA_MESSAGE_OUTPUT=TAP, our own scripts) or with pytest's closing line. A program whose
log shows no cases counts as one. A program that failed while all its cases passed, as one that crashed at the end,
counts as one failure more, so nothing that went wrong is lost. The tail of each failed log is shown first.
"""

import argparse
import pathlib
import re
import sys

TAP = re.compile(r"^(not )?ok\b(?:\s+\d+)?[^#\n]*(#\s*SKIP\b)?", re.M | re.I)
PYTEST = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s.*$", re.M)
PYTEST_WORDS = {"passed": "passed", "failed": "failed", "error": "failed", "errors": "failed", "xpassed": "passed",
                "skipped": "skipped", "xfailed": "passed"}
VERDICT = {"PASS": "passed", "XFAIL": "passed", "SKIP": "skipped", "FAIL": "failed", "ERROR": "failed",
           "XPASS": "failed"}
TAIL_LINES = 60


def count_tap(log):
    counts = dict(passed=0, failed=0, skipped=0)
    for bad, skip in TAP.findall(log):
        counts["skipped" if skip else "failed" if bad else "passed"] += 1
    return counts


def count_pytest(log):
    counts = dict(passed=0, failed=0, skipped=0)
    closing = PYTEST.findall(log)
    if closing:
        for number, word in re.findall(r"(\d+) ([a-z]+)", closing[-1]):
            if word in PYTEST_WORDS:
                counts[PYTEST_WORDS[word]] += int(number)
    return counts


def count_program(verdict, log):
    """The cases of one test program, the program itself when it shows none."""
    counts = count_pytest(log)
    if not any(counts.values()):
        counts = count_tap(log)
    kind = VERDICT.get(verdict, "failed")
    if not any(counts.values()) or (kind == "failed" and not counts["failed"]):
        counts[kind] += 1
    return counts


def show_failure(name, log):
    print(f"--- {name}")
    for line in log.splitlines()[-TAIL_LINES:]:
        print(f"    {line}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make-status", type=int, default=0, help="exit status of make check")
    parser.add_argument("--build-log", help="its output, shown when it failed without a test having failed")
    parser.add_argument("dir", type=pathlib.Path)
    args = parser.parse_args()
    total = dict(passed=0, failed=0, skipped=0)
    for trs in sorted(args.dir.rglob("*.trs")):
        found = re.search(r"^:test-result:\s*(\w+)", trs.read_text(), re.M)
        path = trs.with_suffix(".log")
        log = path.read_text(errors="replace") if path.exists() else ""
        counts = count_program(found[1] if found else "ERROR", log)
        if counts["failed"]:
            show_failure(trs.with_suffix("").relative_to(args.dir), log)
        for key, value in counts.items():
            total[key] += value
    if args.make_status and not total["failed"]:
        show_failure("make check", pathlib.Path(args.build_log).read_text(errors="replace") if args.build_log else "")
        total["failed"] += 1
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**total))
    return 0 if total["passed"] and not total["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
