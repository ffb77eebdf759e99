#!/bin/sh
# Runs the integration tests against the pgsluice of the build tree (or $PGSLUICE), as one test of `make check`.
# Arguments go to pytest. Skips, with status 77, only when a program that the tests need is not installed, or when
# PGSLUICE_TEST_QUICK asks for it.
#
# Up to three tests that fail among the thousands that run at once are run again, alone. If they pass then, the run has
# passed, and names them as unsteady: such a test waits for too little, or the pooler has a race; both want a look.

here=$(cd "$(dirname "$0")" && pwd) || exit 1

skip()
{
	echo "skipped: $*"
	exit 77
}

[ -z "$PGSLUICE_TEST_QUICK" ] || skip "PGSLUICE_TEST_QUICK is set"

# Some tests hold thousands of connections, on both sides of the pooler. dash knows -H and -S as well.
# shellcheck disable=SC3045
hard=$(ulimit -Hn)
{ [ "$hard" != unlimited ] && [ "$hard" -le 65536 ]; } || hard=65536
# shellcheck disable=SC3045
ulimit -Sn "$hard"

# Debian's packages are for its own Python, which need not be the first on the path.
for python in "$PYTHON" /usr/bin/python3 python3; do
	[ -n "$python" ] && "$python" -c 'import pytest, psycopg' 2>/dev/null && break
	python=
done
[ -n "$python" ] || skip "needs pytest and psycopg 3 (Debian: python3-pytest python3-pytest-xdist python3-psycopg)"
PYTHONPATH=$here "$python" -B -c 'import sys; from harness.cluster import bindir; sys.exit(bindir() is None)' ||
	skip "needs PostgreSQL (Debian: postgresql)"

PGSLUICE=${PGSLUICE:-$(pwd)/pgsluice}
export PGSLUICE
[ -x "$PGSLUICE" ] || {
	echo "there is no program to test at $PGSLUICE"
	exit 1
}

# Root runs the pooler as an ordinary user, who may not reach the build tree: that user gets a copy.
copy=
if [ "$(id -u)" = 0 ] && ! setpriv --reuid=postgres --regid=postgres --clear-groups test -x "$PGSLUICE"; then
	copy=$(mktemp -d) && chmod 755 "$copy" && install -m 755 "$PGSLUICE" "$copy/pgsluice" || exit 1
	PGSLUICE=$copy/pgsluice
fi

workers=
"$python" -c 'import xdist' 2>/dev/null && workers="-n 4"
scratch=$(mktemp -d) || exit 1

# The exit status goes to a file, as the output goes through a pipe.
run_pytest()
{
	{
		PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -q -o cache_dir="$scratch/cache" --rootdir "$here" -c "$here/pytest.ini" \
			"$@" "$here"
		echo $? >"$scratch/status"
	} | tee "$scratch/log"
	status=$(cat "$scratch/status")
}

# shellcheck disable=SC2086
run_pytest $workers "$@"
if [ "$status" = 1 ]; then
	names=$("$python" -c 'import json, sys; print("\n".join(json.load(open(sys.argv[1]))))' "$scratch/cache/v/cache/lastfailed")
	closing=$(tail -n 1 "$scratch/log")
	if [ -n "$names" ] && [ "$(echo "$names" | wc -l)" -le 3 ]; then
		echo "--- once more, alone"
		run_pytest --last-failed "$@"
		if [ "$status" = 0 ]; then
			echo "$names" | sed 's/^/unsteady: /'
			"$python" - "$closing" <<-'END'
			import re, sys

			count = {word: int(n) for n, word in re.findall(r"(\d+) ([a-z]+)", sys.argv[1].partition(" in ")[0])}
			again = sum(count.pop(word, 0) for word in ("failed", "error", "errors"))
			count["passed"] = count.get("passed", 0) + again
			print(", ".join(f"{n} {word}" for word, n in count.items()), "in 1s and a second try")
			END
		fi
	fi
fi
rm -rf "$scratch"
[ -z "$copy" ] || rm -rf "$copy"
exit "$status"
