#!/usr/bin/env python3
"""
Every setting that does something has a test, and test/integration/README.md says which.

The tables of conf_tbl.h are held against the table of that file: a setting of the main section by its name, a key of
another section as section.key. All tests that the file names anywhere must exist. They are written as

    test_dns.py::test_dns_max_ttl          a function of an integration test
    unit/net/test_sock.c::test_retune      a function of a unit test
    replay/fast-close                      a scenario

Output is TAP. --self-test checks the check.
"""
import argparse
import os
import re
import sys

SECTIONS = {"CONF_DB_TABLE": "databases", "CONF_USER_TABLE": "users", "CONF_PEER_TABLE": "peers"}
ROW = re.compile(r"^\| (`[a-z0-9_.]+`(?:, `[a-z0-9_.]+`)*) \| (.*) \|$", re.M)
TEST = re.compile(r"`(replay/[a-z0-9-]+|[\w/]+\.(?:py|c)::\w+)`")


def settings_of(header):
    """Names of what conf_tbl.h has."""
    names = []
    for define in re.findall(r"^#define (CONF_TABLE|CONF_\w+_TABLE)\(X\)((?:.*\\\n)+.*\n)", header, re.M):
        section = SECTIONS.get(define[0])
        if define[0] != "CONF_TABLE" and section is None:
            continue
        for row in re.split(r"^\s*X\(", define[1], flags=re.M)[1:]:
            fields = [f.strip() for f in row.split(",")]
            name = fields[1] if section else fields[2]
            names.append(f"{section}.{name}" if section else name)
    return names


def exists(test, read):
    """True when there is such a test; read(path) gives the text of a file or None."""
    if test.startswith("replay/"):
        return read(f"test/replay/scenarios/{test[7:]}.replay") is not None
    path, _, function = test.partition("::")
    if path.startswith("unit/"):
        text, pattern = read(f"test/{path}"), rf"^static void {function}\(void \*\*"
    else:
        text, pattern = read(f"test/integration/{path}"), rf"^def (?=test_){function}\("
    return bool(text and re.search(pattern, text, re.M))


def problems(read):
    names = settings_of(read("src/conf/conf_tbl.h"))
    table, out, readme = {}, [], read("test/integration/README.md")
    for keys, tests in ROW.findall(readme):
        for key in re.findall(r"`([^`]+)`", keys):
            if key in table:
                out.append(f"{key} stands in the table twice")
            table[key] = re.findall(r"`([^`]+)`", tests)
    out += [f"{name} has no row in the table of tests" for name in names if name not in table]
    out += [f"{key} is no setting" for key in table if key not in names]
    out += [f"{key} has no test" for key, tests in table.items() if not tests]
    out += [f"there is no {test}" for test in sorted(set(TEST.findall(readme))) if not exists(test, read)]
    return out


def self_test():
    files = {
        "src/conf/conf_tbl.h": "#define CONF_GROUP_TABLE(X) \\\n\tX(A, B)\n\n#define CONF_TABLE(X) \\\n"
        '\tX(G, INT, one, "0", "0", CONF_R, \\\n\t  "Help, with a comma.")\n\n'
        '#define CONF_DB_TABLE(X) \\\n\tX(STR, host, 0, "Help.")\n\n',
        "test/integration/test_a.py": "def test_one(p):\ndef helper(p):\n",
        "test/unit/net/test_b.c": "static void test_two(void **state)\nstatic void helper(void)\n",
        "test/replay/scenarios/c.replay": "",
    }
    good = "| `one` | `test_a.py::test_one`, `unit/net/test_b.c::test_two` |\n| `databases.host` | `replay/c` |\n"
    cases = [
        (good, 0),
        ("", 2),
        (good + "| `one` | `replay/c` |\n", 1),
        (good + "| `three` | `replay/c` |\n", 1),
        (good.replace("test_one", "test_on"), 1),
        (good.replace("`replay/c`", ""), 1),
        (good.replace("replay/c", "replay/d"), 1),
        (good.replace("test_two", "helper"), 1),
        (good.replace("test_one", "helper"), 1),
        (good + "Elsewhere `test_a.py::test_two` is named.\n", 1),
        (good.replace("`one`", "`one`, `two`"), 1),
    ]
    for text, expected in cases:
        found = problems({**files, "test/integration/README.md": text}.get)
        assert len(found) == expected, (text, found)


def main():
    parser = argparse.ArgumentParser(description="Holds the settings against the table of their tests.")
    parser.add_argument("--srcdir", default=".")
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()

    def read(path):
        try:
            with open(os.path.join(args.srcdir, path), encoding="utf-8") as f:
                return f.read()
        except OSError:
            return None

    self_test()
    found = [] if args.self_test else problems(read)
    print("1..1")
    for problem in found:
        print(f"# {problem}")
    print("not ok 1 - every setting has its test" if found else "ok 1 - every setting has its test")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
