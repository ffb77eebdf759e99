#!/bin/sh
# Runs the scenarios of chaos against the pgsluice of the build tree (or $PGSLUICE); see chaos.py and --help.
# Ends with status 77 when a program that it needs is not installed.

here=$(cd "$(dirname "$0")" && pwd) || exit 1

# A thousand clients have their sockets in one process. dash knows -H and -S as well.
# shellcheck disable=SC3045
hard=$(ulimit -Hn)
{ [ "$hard" != unlimited ] && [ "$hard" -le 65536 ]; } || hard=65536
# shellcheck disable=SC3045
ulimit -Sn "$hard"

# Debian's packages are for its own Python, which need not be the first on the path.
for python in "$PYTHON" /usr/bin/python3 python3; do
	[ -n "$python" ] && "$python" -c 'import psycopg' 2>/dev/null && break
	python=
done
[ -n "$python" ] || {
	echo "skipped: needs psycopg 3 (Debian: python3-psycopg)"
	exit 77
}
PYTHONPATH=$here/../integration "$python" -B -c 'import sys; from harness.cluster import bindir; sys.exit(bindir() is None)' || {
	echo "skipped: needs PostgreSQL (Debian: postgresql)"
	exit 77
}

PGSLUICE=${PGSLUICE:-$(pwd)/pgsluice}
export PGSLUICE

# Root runs the pooler as an ordinary user, who may not reach the build tree: that user gets a copy.
copy=
if [ -x "$PGSLUICE" ] && [ "$(id -u)" = 0 ] &&
	! setpriv --reuid=postgres --regid=postgres --clear-groups test -x "$PGSLUICE"; then
	copy=$(mktemp -d) && chmod 755 "$copy" && install -m 755 "$PGSLUICE" "$copy/pgsluice" || exit 1
	PGSLUICE=$copy/pgsluice
fi
"$python" -B "$here/chaos.py" "$@"
status=$?
[ -z "$copy" ] || rm -rf "$copy"
exit "$status"
