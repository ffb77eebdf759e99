#!/usr/bin/env python3
"""Holds src/ to the structure that src/README.md draws.

    contrib/check-layers.py [--srcdir DIR] [--builddir DIR] [--no-compile]
    contrib/check-layers.py --self-test

Checks, one TAP line each, with file:line of every offence and what would be right:

  include directions  a file includes its own folder and the layers below, never a sibling or a layer above
  purity              proto/ and auth/ see no socket and no event loop, proto/ no clock either
  guards              every header has an include guard named after its path
  own header first    x.c includes x.h or x_int.h before anything else (core/base.h and config.h aside)
  headers alone       every header compiles without help; the compiler comes from $CC, its flags from
                      $CPPFLAGS and $CFLAGS; left out when there is no config.h
  size                no file past 1500 lines
  build lists         every file of src/ stands in a local.mk
  test lists          every file of test/ that a release needs stands in a local.mk
  the map             src/README.md names every module

Tables for X-macros (*_tbl.h) are included many times on purpose: they need neither guard nor to compile alone.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

# Folder -> the folders it may include besides itself. Files in src/ itself may include everything.
LAYERS = {
    "core": (),
    "proto": ("core",),
    "auth": ("core",),
    "net": ("core",),
    "conf": ("core",),
    "pool": ("core", "proto", "auth", "net", "conf"),
    "admin": ("core", "proto", "auth", "net", "conf", "pool"),
    "metrics": ("core", "proto", "auth", "net", "conf", "pool"),
}

# System headers a folder must not see. auth/ may reach the network for LDAP and PAM, through their libraries.
IMPURE = {
    "proto": re.compile(r"^(sys/(socket|epoll|eventfd|un|time|select)\.h|netinet/|arpa/|netdb\.h|poll\.h|time\.h"
                        r"|pthread\.h|event2/|openssl/ssl\.h)"),
    "auth": re.compile(r"^(sys/(epoll|eventfd)\.h|event2/|openssl/ssl\.h)"),
    "core": re.compile(r"^(event2/|openssl/ssl\.h|libpq-fe\.h|ini\.h)"),
}

MAX_LINES = 1500
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


class Tree:
    """The sources below one folder, each read once."""

    def __init__(self, top):
        self.top = pathlib.Path(top)
        self.src = self.top / "src"
        self.text = {}
        for path in sorted(self.src.rglob("*.[ch]")):
            self.text[path.relative_to(self.src).as_posix()] = path.read_text(encoding="utf-8", errors="replace")

    def lines(self, name):
        return enumerate(self.text[name].splitlines(), 1)

    def includes(self, name):
        """(line, quoted or None, system or None) of each #include."""
        for number, line in self.lines(name):
            found = INCLUDE.match(line)
            if found:
                yield number, found[1], found[2]

    def headers(self):
        return [name for name in self.text if name.endswith(".h")]


def folder(name):
    """The layer of a file: its first folder, or "" for src/ itself."""
    return name.split("/")[0] if "/" in name else ""


def is_table(name):
    return name.endswith("_tbl.h")


def check_directions(tree):
    for name in tree.text:
        own = folder(name)
        if own and own not in LAYERS:
            yield f"src/{name}:1: folder '{own}' is no layer; add it to LAYERS in " \
                "contrib/check-layers.py and to src/README.md"
            continue
        for line, quoted, _ in tree.includes(name):
            if quoted is None or quoted == "config.h":
                continue
            where = f"src/{name}:{line}: includes \"{quoted}\""
            if ".." in quoted.split("/"):
                yield f"{where}; name it from src/, without '..'"
                continue
            if quoted not in tree.text:
                yield f"{where}, which is not in src/; write the path from src/, such as \"{own or 'core'}/{quoted}\""
                continue
            target = folder(quoted)
            if not own or target == own or target in LAYERS[own]:
                continue
            if not target:
                yield f"{where}: the top of src/ is above {own}/; pass a function pointer down instead"
            elif own in LAYERS.get(target, ()):
                yield f"{where}: {target}/ is above {own}/; call up through a struct of function pointers"
            else:
                yield f"{where}: {own}/ and {target}/ are siblings; join them in a layer above both"


def check_purity(tree):
    for name in tree.text:
        bad = IMPURE.get(folder(name))
        for line, _, system in tree.includes(name):
            if bad and system and bad.match(system):
                yield f"src/{name}:{line}: includes <{system}>; {folder(name)}/ works on bytes, " \
                    "move this to net/ or pool/"


def check_guards(tree):
    for name in tree.headers():
        if is_table(name):
            continue
        guard = "PGSLUICE_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        directives = [(n, line.split()) for n, line in tree.lines(name) if line.startswith("#")]
        want = [["#ifndef", guard], ["#define", guard]]
        if [words[:2] for _, words in directives[:2]] != want or directives[-1][1][0] != "#endif":
            first = directives[0][0] if directives else 1
            yield f"src/{name}:{first}: no include guard; it begins with '#ifndef {guard}' and '#define {guard}', " \
                "and ends with '#endif'"


def check_own_header(tree):
    for name in tree.text:
        own = name[:-2] + ".h"
        if not name.endswith(".c") or own not in tree.text:
            continue
        for line, quoted, system in tree.includes(name):
            if quoted in ("config.h", "core/base.h") and quoted != own:
                continue
            if quoted not in (own, name[:-2] + "_int.h"):
                yield f"src/{name}:{line}: includes {quoted or '<' + system + '>'} first; \"{own}\" goes before it"
            break
        else:
            yield f"src/{name}:1: never includes its own header \"{own}\""


def compile_header(tree, name, command):
    """None, or the compiler's complaint about a header that stands alone."""
    unit = f'#include "{name}"\n'
    done = subprocess.run(command + ["-x", "c", "-fsyntax-only", "-"], input=unit, text=True, capture_output=True)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if "error:" in line] or done.stderr.splitlines()[:1]
    return f"src/{name}:1: does not compile alone ({errors[0]}); let it include what it uses"


def check_alone(tree, builddir):
    flags = [part for key in ("CPPFLAGS", "CFLAGS") for part in shlex.split(os.environ.get(key, ""))]
    flags = [flag for flag in flags if not flag.startswith("-fsanitize") and flag != "--coverage"]
    command = shlex.split(os.environ.get("CC", "cc")) + ["-std=gnu11", f"-I{builddir}", f"-I{tree.src}"] + flags
    names = [name for name in tree.headers() if not is_table(name)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from filter(None, pool.map(lambda name: compile_header(tree, name, command), names))


def check_size(tree):
    for name, text in tree.text.items():
        count = text.count("\n")
        if count > MAX_LINES:
            yield f"src/{name}:{count}: {count} lines; split it, {MAX_LINES} is the limit"


def check_lists(tree):
    listed = set()
    for path in tree.src.rglob("local.mk"):
        listed.update(re.findall(r"\bsrc/([\w./-]+\.[ch])\b", path.read_text()))
    for name in tree.text:
        if name not in listed:
            yield f"src/{name}:1: not in the build; add it to src/{folder(name) + '/' if folder(name) else ''}local.mk"
    for name in sorted(listed - set(tree.text)):
        yield f"src/{name}:1: listed in a local.mk, but not there"


def check_test_lists(tree):
    """What is not listed is missing in the release, where nobody would notice that it does not run."""
    top = tree.src.parent
    listed = set()
    for path in top.glob("test/**/local.mk"):
        listed.update(re.findall(r"\btest/[\w./-]+", path.read_text()))
    for pattern in ("unit/**/test_*.c", "integration/**/*.py", "drivers/*.*", "drivers/*/*.*"):
        for path in sorted(top.glob(f"test/{pattern}")):
            name = str(path.relative_to(top))
            if name not in listed and path.is_file() and path.suffix != ".pyc":
                yield f"{name}:1: not in the release; add it to a local.mk of its folder or above"


def check_map(tree):
    path = tree.src / "README.md"
    said = path.read_text() if path.exists() else ""
    for module in sorted({name[:-2] for name in tree.text}):
        if not re.search(rf"(?<![\w/]){re.escape(module)}(\.[ch])?\b", said):
            suffix = ".c" if module + ".c" in tree.text else ".h"
            yield f"src/README.md:1: says nothing about {module}{suffix}; add a line with that name"


def run(top, builddir, compile_headers=True, out=print):
    """Prints TAP; returns the number of failed checks."""
    tree = Tree(top)
    checks = [
        ("include directions", check_directions),
        ("purity", check_purity),
        ("guards", check_guards),
        ("own header first", check_own_header),
        ("headers alone", lambda t: check_alone(t, builddir)),
        ("size", check_size),
        ("build lists", check_lists),
        ("test lists", check_test_lists),
        ("the map", check_map),
    ]
    out(f"1..{len(checks)}")
    failed = 0
    for number, (title, check) in enumerate(checks, 1):
        if title == "headers alone" and not (compile_headers and (pathlib.Path(builddir) / "config.h").exists()):
            out(f"ok {number} - {title} # SKIP no config.h in {builddir}")
            continue
        offences = list(check(tree))
        out(f"{'not ok' if offences else 'ok'} {number} - {title}")
        for offence in offences:
            out(f"# {offence}")
        failed += bool(offences)
    return failed


# A good tree, and for each check what breaks it and a word of the complaint.
GOOD = {
    "src/core/base.h": "#ifndef PGSLUICE_CORE_BASE_H\n#define PGSLUICE_CORE_BASE_H\n#include <stddef.h>\n#endif\n",
    "src/net/sock.h": "#ifndef PGSLUICE_NET_SOCK_H\n#define PGSLUICE_NET_SOCK_H\n"
                      "#include \"core/base.h\"\nextern size_t f;\n#endif\n",
    "src/net/sock.c": '#include "core/base.h"\n#include "net/sock.h"\n#include <sys/socket.h>\n',
    "src/proto/frame.c": '#include "core/base.h"\n',
    "src/pool/pool.c": '#include "net/sock.h"\n',
    "src/admin/show.c": '#include "net/sock.h"\n',
    "src/metrics/prom.h": "#ifndef PGSLUICE_METRICS_PROM_H\n#define PGSLUICE_METRICS_PROM_H\n#endif\n",
    "src/main.c": '#include "metrics/prom.h"\n',
    "src/local.mk": "x = src/core/base.h src/net/sock.c src/net/sock.h src/proto/frame.c src/pool/pool.c src/main.c \\\n"
                    "\tsrc/admin/show.c src/metrics/prom.h\n",
    "src/README.md": "core/base.h net/sock.c proto/frame.c pool/pool.c main.c admin/show.c metrics/prom.h\n",
    "test/integration/test_a.py": "\n",
    "test/unit/net/test_sock.c": "\n",
    "test/local.mk": "x = test/integration/test_a.py test/unit/net/test_sock.c\n",
    "config.h": "",
}
BAD = [
    ("src/proto/frame.c", '#include "net/sock.h"\n', "are siblings"),
    ("src/admin/show.c", '#include "metrics/prom.h"\n', "are siblings"),
    ("src/core/base.h", GOOD["src/core/base.h"].replace("<stddef.h>", '"net/sock.h"'), "is above core/"),
    ("src/net/sock.c", '#include "net/sock.h"\n#include "../core/base.h"\n', "without '..'"),
    ("src/net/sock.c", '#include "net/sock.h"\n#include "base.h"\n', "not in src/"),
    ("src/proto/frame.c", "#include <sys/socket.h>\n", "works on bytes"),
    ("src/net/sock.h", "int f(int);\n", "no include guard"),
    ("src/net/sock.c", '#include <sys/socket.h>\n#include "net/sock.h"\n', "goes before it"),
    ("src/net/sock.c", "#include <sys/socket.h>\n", "goes before it"),
    ("src/net/sock.c", "int x;\n", "never includes its own header"),
    ("src/net/sock.h", GOOD["src/net/sock.h"].replace('#include "core/base.h"\n', ""), "does not compile alone"),
    ("src/pool/pool.c", "\n" * 1501, "is the limit"),
    ("src/pool/lost.c", "\n", "not in the build"),
    ("test/integration/test_b.py", "\n", "not in the release"),
    ("test/unit/net/test_b.c", "\n", "not in the release"),
    ("src/pool/lost.c", "\n", "says nothing about pool/lost.c"),
    ("src/odd/x.c", "\n", "is no layer"),
]


def self_test():
    """Each offence must be found, and a good tree must pass. Prints TAP."""
    failed = 0
    print(f"1..{len(BAD) + 1}")
    for number, (name, text, complaint) in enumerate([(None, None, None)] + BAD, 1):
        with tempfile.TemporaryDirectory() as top:
            for path, good in dict(GOOD, **({name: text} if name else {})).items():
                target = pathlib.Path(top, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(good)
            said = []
            broken = run(top, top, out=said.append)
        good = (broken == 0) if complaint is None else any(complaint in line for line in said if line[0] == "#")
        title = f"finds '{complaint}' in {name}" if name else "a good tree passes"
        print(f"{'ok' if good else 'not ok'} {number} - {title}")
        if not good:
            print("\n".join("# " + line for line in said))
        failed += not good
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--srcdir", default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--builddir", default=".", help="where config.h lies")
    parser.add_argument("--no-compile", action="store_true", help="leave out the check that headers compile alone")
    parser.add_argument("--self-test", action="store_true", help="check this script itself")
    args = parser.parse_args()
    failed = self_test() if args.self_test else run(args.srcdir, args.builddir, not args.no_compile)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
