#!/usr/bin/env python3
"""Counts the single test cases of a `make check` and prints "N passed, N failed, N skipped".

    test/totals.py [--make-status N] [--build-log FILE] DIR
    test/totals.py --self-test

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


# Verdict, log, and what it counts: passed, failed, skipped.
SAMPLES = [
    ("PASS", "1..3\nok 1 - a\nok 2 - b\nok 3 # SKIP c\n", (2, 0, 1)),
    ("FAIL", "1..3\nok 1 - a\nnot ok 2 - b\n# 0x1 != 0x2\nnot ok 3 # SKIP c\n# not ok - t\n", (1, 1, 1)),
    ("FAIL", "ok 1 - a\nSegmentation fault\n", (1, 1, 0)),
    ("PASS", "..s [100%]\n==== 12 passed, 3 skipped, 1 xfailed, 1 warning in 75.12s (0:01:15) ====\n", (13, 0, 3)),
    ("FAIL", "1 passed in 0.1s\n==== 2 failed, 3 passed, 4 errors in 1.20s ====\n", (3, 6, 0)),
    ("FAIL", "3 passed in 0.1s\n", (3, 1, 0)),
    ("SKIP", "PostgreSQL is missing\n", (0, 0, 1)),
    ("PASS", "", (1, 0, 0)),
    ("ERROR", "", (0, 1, 0)),
    ("", "", (0, 1, 0)),
]


def self_test():
    """Counts the samples; prints TAP."""
    failed = 0
    print(f"1..{len(SAMPLES)}")
    for number, (verdict, log, expected) in enumerate(SAMPLES, 1):
        counts = count_program(verdict, log)
        got = tuple(counts[key] for key in ("passed", "failed", "skipped"))
        print(f"{'ok' if got == expected else 'not ok'} {number} - {verdict or 'no verdict'} {expected}, counted {got}")
        failed += got != expected
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make-status", type=int, default=0, help="exit status of make check")
    parser.add_argument("--build-log", help="its output, shown when it failed without a test having failed")
    parser.add_argument("--self-test", action="store_true", help="check this script itself")
    parser.add_argument("dir", type=pathlib.Path, nargs="?", default=pathlib.Path("."))
    args = parser.parse_args()
    if args.self_test:
        return self_test()
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
