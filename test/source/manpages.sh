#!/bin/bash
# The formatters find nothing wrong with the manual pages, and no line is wider than a terminal. TAP.

top=$(cd "${srcdir:-.}" && pwd) || exit 1
if ! command -v mandoc >/dev/null && ! command -v man >/dev/null; then
	echo "1..0 # SKIP neither man nor mandoc is here"
	exit 0
fi
n=0
status=0

# check NAME TEXT: passes when there is no text.
check()
{
	n=$((n + 1))
	if [ -z "$2" ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1"
		printf '%s\n' "$2" | sed 's/^/# /'
		status=1
	fi
}

# man as it is without the settings of a user.
plain_man()
{
	env -u MANOPT -u MANPAGER LC_ALL=C.UTF-8 MANWIDTH=80 MAN_KEEP_FORMATTING= man --warnings -E UTF-8 "$@"
}

for page in pgsluice.1 pgsluice.5; do
	if command -v mandoc >/dev/null; then
		# Whether other pages are installed is not the page's fault, nor is the age of mandoc's index.
		check "$page: mandoc" "$(mandoc -Tlint "$top/doc/$page" 2>&1 | grep -Ev 'manual not found|outdated mandoc.db')"
	fi
	if command -v man >/dev/null; then
		check "$page: man" "$(plain_man -l -Tutf8 -Z "$top/doc/$page" 2>&1 >/dev/null)"
		width=$(plain_man -l "$top/doc/$page" 2>/dev/null | col -bx | LC_ALL=C.UTF-8 wc -L)
		check "$page: 80 columns" "$([ "$width" -gt 20 ] && [ "$width" -le 80 ] || echo "$width columns")"
	fi
done
echo "1..$n"
exit $status
