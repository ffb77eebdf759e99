#!/bin/sh
# Runs the integration tests against the pgsluice of the build tree (or $PGSLUICE), as one test of `make check`.
# Arguments go to pytest. Skips, with status 77, only when a program that the tests need is not installed, or when
# PGSLUICE_TEST_QUICK asks for it.

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
# shellcheck disable=SC2086
PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -q $workers -p no:cacheprovider --rootdir "$here" -c "$here/pytest.ini" "$here" "$@"
status=$?
[ -z "$copy" ] || rm -rf "$copy"
exit $status
