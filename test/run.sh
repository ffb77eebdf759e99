#!/bin/bash
# Builds pgsluice and runs its tests: on a bare Debian 12, as root or with sudo, without a terminal or a question.
#
#   test/run.sh [options]
#
#   --quick              without the integration tests (no PostgreSQL is started)
#   --sanitizer LIST     build with -fsanitize=LIST, such as address,undefined or thread
#   --torture SECONDS    afterwards, clients that check every row through a pooler that is being disturbed
#   --chaos              afterwards, servers that die and networks that fail under clients that keep books
#   --threads N          worker threads of the pooler in the integration tests and the torture
#   --configure ARGS     more arguments for configure, such as 'CC=clang --enable-werror'
#   --build-only         stop when it is built
#   --build DIR          where to build; build/test or build/test-LIST unless named
#   --drivers            afterwards, real client drivers of many languages; installs them (apt, npm)
#
# The last line is "N passed, N failed, N skipped", counted in single test cases; the exit status is 0 when nothing
# failed and something passed.

set -u -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd) || exit 1
quick= sanitizer= torture=0 chaos= threads= configure_args=() build_only= build= drivers=
start=$SECONDS

say()
{
	printf '[%3ds] %s\n' $((SECONDS - start)) "$*"
}

die()
{
	printf 'run.sh: %s\n' "$*" >&2
	exit 1
}

usage()
{
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

need_value()
{
	[ $# -ge 2 ] || die "$1 needs a value; see --help"
}

while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=1 ;;
	--sanitizer) need_value "$@"; sanitizer=$2; shift ;;
	--torture) need_value "$@"; torture=$2; shift ;;
	--chaos) chaos=1 ;;
	--threads) need_value "$@"; threads=$2; shift ;;
	--configure) need_value "$@"; read -ra configure_args <<<"$2"; shift ;;
	--build-only) build_only=1 ;;
	--build) need_value "$@"; build=$2; shift ;;
	--drivers) drivers=1 ;;
	--help | -h) usage; exit 0 ;;
	*) die "unknown option '$1'; see --help" ;;
	esac
	shift
done
[[ $torture =~ ^[0-9]+$ ]] || die "--torture wants seconds, not '$torture'"

build=${build:-$top/build/test${sanitizer:+-$sanitizer}}
jobs=$(nproc)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pgsluice-test.XXXXXX") || die "cannot make a directory in ${TMPDIR:-/tmp}"
ticker=
trap 'rm -rf "$scratch"; [ -z "$ticker" ] || kill "$ticker" 2>/dev/null' EXIT
chmod 755 "$scratch"

build_program()
{
	if [ ! -x "$top/configure" ]; then
		say "making configure"
		if ! (cd "$top" && autoreconf -fi >"$scratch/autoreconf.log" 2>&1); then
			cat "$scratch/autoreconf.log"
			die "autoreconf failed"
		fi
	fi
	[ ! -f "$top/config.status" ] || die "$top is configured in place; say 'make -C $top distclean' first"
	local args=(-q --enable-debug ${sanitizer:+--with-sanitizer="$sanitizer"} ${configure_args[@]+"${configure_args[@]}"})
	mkdir -p "$build" && cd "$build" || die "cannot make $build"
	if [ ! -f Makefile ] || [ "$(cat configure.args 2>/dev/null)" != "${args[*]}" ]; then
		say "configuring ${build#"$top"/}"
		"$top/configure" "${args[@]}" || die "configure failed; see $build/config.log"
		printf '%s\n' "${args[*]}" >configure.args
	fi
	say "building"
	make -s -j "$jobs" all || die "the build failed"
}

# PostgreSQL and the pooler run as an ordinary user, who may not reach the build: root gives that user a copy.
readable_copy()
{
	if [ "$(id -u)" = 0 ]; then
		install -D -m 755 pgsluice "$scratch/bin/pgsluice" && export PGSLUICE=$scratch/bin/pgsluice
	else
		export PGSLUICE=$build/pgsluice
	fi
}

# A sanitizer's report must end the program, with a status that no test expects.
set_sanitizer_options()
{
	export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0}
	export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
	export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=0:second_deadlock_stack=1}
}

# Says every half minute how far the longest test is, so that nobody takes a long run for a hung one.
show_progress()
{
	local log=test/integration/run.sh.log last
	while sleep 30 >/dev/null 2>&1; do
		last=$(tail -c 300 "$log" 2>/dev/null | grep -o '\[ *[0-9]*%\]' | tail -n 1)
		say "still testing${last:+, integration $last}"
	done
}

run_tests()
{
	local check=(make -k --no-print-directory -j "$jobs" check)
	[ -z "$quick" ] || export PGSLUICE_TEST_QUICK=1
	[ -z "$threads" ] || export PGSLUICE_TEST_THREADS=$threads
	export CMOCKA_MESSAGE_OUTPUT=TAP
	find . -name '*.trs' -delete
	say "running the tests${quick:+ without integration}"
	show_progress &
	ticker=$!
	"${check[@]}" 2>&1 </dev/null | tee "$scratch/check.log" |
		grep --line-buffered -E '^(PASS|FAIL|ERROR|SKIP|XPASS|XFAIL): |error:|warning:|\*\*\* No rule'
	[ "${PIPESTATUS[0]}" = 0 ] || check_failed=1
	kill "$ticker" 2>/dev/null
	ticker=
}

# torture_once NAME SECONDS [OPTION...]
torture_once()
{
	local log=torture/$1.log result=FAIL
	if "$top/test/torture/run.sh" --pooler "$PGSLUICE" --bindir test/torture --seconds "$2" \
		--clients "${TORTURE_CLIENTS:-100}" --threads "${threads:-4}" "${@:3}" >"$log" 2>&1 </dev/null; then
		result=PASS
	fi
	echo ":test-result: $result" >"${log%.log}.trs"
	tail -n 3 "$log"
}

run_torture()
{
	[ "$torture" -gt 0 ] || return 0
	say "torture for $torture s, the second half of it through TLS"
	mkdir -p torture
	torture_once torture $(((torture + 1) / 2)) --console
	torture_once torture-tls $(((torture + 1) / 2)) --tls --console
}

run_chaos()
{
	[ -n "$chaos" ] || return 0
	say "chaos"
	mkdir -p chaos
	if "$top/test/chaos/run.sh" --quick >chaos/chaos.log 2>&1 </dev/null; then
		echo ":test-result: PASS" >chaos/chaos.trs
	else
		echo ":test-result: FAIL" >chaos/chaos.trs
	fi
	tail -n 1 chaos/chaos.log
}

run_drivers()
{
	[ -n "$drivers" ] || return 0
	say "drivers"
	mkdir -p drivers
	if "$top/test/drivers/run.py" --pooler "$PGSLUICE" --install --cache "$build/drivers/npm" \
		--patience "$([ -z "$sanitizer" ] && echo 1 || echo 4)" --tap drivers/drivers.log --write-doc drivers/drivers.md </dev/null; then
		echo ":test-result: PASS" >drivers/drivers.trs
	else
		echo ":test-result: FAIL" >drivers/drivers.trs
	fi
}

check_failed=0
say "pgsluice, tests in ${build#"$top"/}"
groups=(build test)
case "${configure_args[*]-}" in *clang*) groups+=(clang) ;; esac
"$top/contrib/packages.sh" "${groups[@]}" || exit 1
build_program
[ -z "$build_only" ] || { say "built"; exit 0; }
readable_copy
set_sanitizer_options
run_tests
run_torture
run_chaos
run_drivers
say "done"
python3 "$top/test/totals.py" --make-status "$check_failed" --build-log "$scratch/check.log" .
