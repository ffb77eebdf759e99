#!/bin/bash
# What compilers do not say: formatting, clang-tidy, cppcheck, shellcheck. Each must find nothing.
#
#   contrib/lint.sh [FILE.c ...]      all of src/ unless files are named; `make lint` calls it with the flags it needs
#
# The checks of clang-tidy stand in .clang-tidy, with the reason for each that is left out; those of cppcheck below.
# CPPFLAGS and BUILDDIR (where config.h lies) come from the environment.

set -u -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd) || exit 1
builddir=$(cd "${BUILDDIR:-.}" && pwd) || exit 1
cd "$top" || exit 1
if [ ! -f "$builddir/config.h" ]; then
	echo "lint.sh: no config.h in $builddir; configure first or set BUILDDIR" >&2
	exit 1
fi
contrib/packages.sh lint || exit 1
export CPPFLAGS=${CPPFLAGS:-$(pkg-config --cflags libpq)}

failed=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

# check NAME COMMAND...: its output is shown when it fails.
check()
{
	local name=$1 log
	shift
	log=$("$@" 2>&1)
	if [ $? = 0 ]; then
		echo "ok $name"
	else
		printf '%s\n' "$log"
		echo "not ok $name"
		failed=1
	fi
}

tidy()
{
	printf '%s\n' "$@" | xargs -P "$(nproc)" -n 4 sh -c \
		'clang-tidy --quiet "$@" -- -std=gnu11 -I"$0" -Isrc -D_GNU_SOURCE=1 -include contrib/lint_macros.h $CPPFLAGS' "$builddir" 2>/dev/null
}

# Lists and tables are macros of two system headers, so cppcheck gets to see these two and no others.
# Left out: unusedStructMember cannot see tables made by macros; missingIncludeSystem needs none; unmatchedSuppression
# because a part of the files may be named.
run_cppcheck()
{
	mkdir -p "$scratch/sys"
	cp /usr/include/uthash.h "$scratch/" && cp "$(echo '#include <sys/queue.h>' | cc -E -M - |
		grep -o '/[^ ]*sys/queue\.h')" "$scratch/sys/" || return 1
	cppcheck --quiet -j "$(nproc)" --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 \
		--suppress=unusedStructMember --suppress=missingIncludeSystem --suppress=unmatchedSuppression \
		-D__GNUC__=12 -I"$scratch" -I"$builddir" -Isrc "$@"
}

mapfile -t scripts < <(find contrib test .ci -name '*.sh' -o -path .ci/run | sort)
mapfile -t formatted < <(find src test contrib doc -name '*.[ch]' -not -path '*/build/*' | sort)
if [ $# = 0 ]; then
	mapfile -t sources < <(find src test/bench -name '*.c' | sort)
	set -- "${sources[@]}"
fi

# SC1007: "a= b=" empties a. SC2086: splitting is wanted where a variable holds words. SC2164: what cannot be entered
# fails in the next command. SC2015: A && B || C, with a B that cannot fail.
check shellcheck shellcheck -S warning -e SC1007,SC2086,SC2164,SC2015 "${scripts[@]}"
check clang-format clang-format --dry-run -Werror "${formatted[@]}"
check cppcheck run_cppcheck "$@"
check clang-tidy tidy "$@"
exit $failed
