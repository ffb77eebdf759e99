#!/bin/bash
# pgsluice in one command: builds it, starts a throw-away PostgreSQL, starts pgsluice before it, sends it some load,
# and leaves both running for you to try. On a bare Debian 12, as root or with sudo, without a terminal or a question.
#
#   contrib/quickstart.sh [options]
#
#   --port N          where pgsluice listens, on 127.0.0.1 only; 6432 unless given
#   --seconds N       how long pgbench runs through it; 10 unless given
#   --no-load         without pgbench
#   --server STRING   your own server instead of a throw-away one, such as
#                     'host=127.0.0.1 port=5432 dbname=app user=app'; it is not written to
#   --stop            ends what an earlier start left running and removes its files
#
# Everything it makes lies in build/quickstart and in one directory under ${TMPDIR:-/tmp}. As root it runs the servers
# as the user postgres (else nobody); as an ordinary user it calls sudo for apt-get alone. PGSLUICE in the environment
# names a program that is built already.

set -u -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd) || exit 1
port=6432 seconds=10 load=1 server= stop=
build=$top/build/quickstart
# One place per user who calls, so that --stop finds what was started.
state=${TMPDIR:-/tmp}/pgsluice-quickstart-$(id -u)
pgsluice=${PGSLUICE:-}

say()
{
	printf '==> %s\n' "$*"
}

die()
{
	printf 'quickstart: %s\n' "$1" >&2
	shift
	[ $# = 0 ] || printf '            %s\n' "$@" >&2
	exit 1
}

usage()
{
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

is_number()
{
	[[ $1 =~ ^[0-9]+$ ]] && [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

parse_options()
{
	while [ $# -gt 0 ]; do
		case $1 in
		--port | --seconds | --server) [ $# -ge 2 ] || die "$1 needs a value" "see $0 --help" ;;
		esac
		case $1 in
		--port) port=$2; shift ;;
		--seconds) seconds=$2; shift ;;
		--server) server=$2; shift ;;
		--no-load) load= ;;
		--stop) stop=1 ;;
		--help | -h) usage; exit 0 ;;
		*) die "unknown option '$1'" "see $0 --help" ;;
		esac
		shift
	done
	is_number "$port" 1 65535 || die "--port wants a number from 1 to 65535, not '$port'"
	is_number "$seconds" 1 86400 || die "--seconds wants a number from 1 to 86400, not '$seconds'"
}

# --- whom the servers run as

choose_user()
{
	owner=$(id -un)
	[ "$(id -u)" != 0 ] && return
	owner=nobody
	id postgres >/dev/null 2>&1 && owner=postgres
}

as_owner()
{
	if [ "$(id -un)" = "$owner" ]; then
		"$@"
	else
		runuser -u "$owner" -- "$@"
	fi
}

# --- what runs already

# pid_runs FILE NAME: does the process named in FILE run, and is it the program we started?
pid_runs()
{
	local pid
	pid=$(head -n 1 "$1" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]
}

sluice_runs()
{
	pid_runs "$state/pgsluice.pid" "$(cat "$state/program" 2>/dev/null)"
}

postgres_runs()
{
	pid_runs "$state/data/postmaster.pid" postgres
}

port_is_free()
{
	! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# --- stopping

wait_gone()
{
	local i
	for ((i = 0; i < 100; i++)); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.1
	done
	return 1
}

stop_process()
{
	local pid
	pid=$(head -n 1 "$1")
	kill -s "$2" "$pid" 2>/dev/null
	wait_gone "$pid" && return
	kill -s KILL "$pid" 2>/dev/null
	wait_gone "$pid"
}

# The name can be guessed, so what lies there may not be ours. Root gave it to the servers' user.
check_state_is_ours()
{
	[ ! -e "$state" ] && [ ! -L "$state" ] && return
	[ ! -L "$state" ] && [ -d "$state" ] && [[ $(stat -c %U "$state") =~ ^($(id -un)|$owner)$ ]] ||
		die "$state belongs to somebody else" "set TMPDIR to another directory"
}

stop_servers()
{
	if sluice_runs; then
		say "stopping pgsluice"
		# At once; TERM and INT would wait for clients or their transactions.
		stop_process "$state/pgsluice.pid" QUIT
	fi
	if postgres_runs; then
		say "stopping PostgreSQL"
		stop_process "$state/data/postmaster.pid" INT
	fi
}

stop_all()
{
	[ -e "$state" ] || { say "nothing runs and nothing is left of an earlier start"; return; }
	stop_servers
	rm -rf "$state" || die "cannot remove $state"
	say "stopped; $state is gone, build/quickstart stays for the next start"
}

# --- building

build_program()
{
	if [ -n "$pgsluice" ]; then
		pgsluice=$(realpath "$pgsluice")
		[ -x "$pgsluice" ] || die "PGSLUICE names $pgsluice, which is no program"
		return
	fi
	say "building in build/quickstart"
	mkdir -p "$build" && [ -w "$build" ] ||
		die "cannot write to $build" "the checkout must be writable for $(id -un), and built by nobody else before"
	local log=$build/quickstart.log
	(
		set -e
		cd "$top"
		[ -x configure ] || autoreconf -fi
		cd "$build"
		[ -f Makefile ] || "$top/configure" -q CFLAGS='-O2 -g'
		make -s -j "$(nproc)" pgsluice
	) >"$log" 2>&1 </dev/null
	if [ $? != 0 ]; then
		tail -n 20 "$log" >&2
		die "the build failed; all of its output is in $log"
	fi
	pgsluice=$build/pgsluice
}

# --- PostgreSQL

# The newest server on this machine.
find_postgres()
{
	pgbin=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -n 1)
	[ -n "$pgbin" ] || pgbin=$(command -v postgres)
	[ -n "$pgbin" ] || die "no PostgreSQL server on this machine" "install one, or name yours with --server"
	pgbin=${pgbin%/postgres}
}

find_free_port()
{
	local i
	for ((i = 0; i < 200; i++)); do
		pgport=$((20000 + RANDOM % 12000))
		port_is_free $pgport && return
	done
	die "no free port between 20000 and 32000"
}

start_postgres()
{
	say "starting a throw-away PostgreSQL ($("$pgbin/postgres" --version | grep -o '[0-9.]*' | head -n 1))"
	find_free_port
	as_owner "$pgbin/initdb" -D "$state/data" -U postgres -A trust --no-sync -E UTF8 --locale=C \
		>"$state/initdb.log" 2>&1 ||
		die "initdb failed:" "$(tail -n 3 "$state/initdb.log")"
	cat >>"$state/data/postgresql.conf" <<-CONF
		port = $pgport
		listen_addresses = '127.0.0.1'
		unix_socket_directories = ''
		max_connections = 100
		fsync = off
	CONF
	as_owner "$pgbin/pg_ctl" -D "$state/data" -w -t 60 -l "$state/postgres.log" start >/dev/null 2>&1 </dev/null ||
		die "PostgreSQL does not start:" "$(tail -n 3 "$state/postgres.log")"
	direct="host=127.0.0.1 port=$pgport dbname=postgres user=postgres"
	if ! "$pgbin/psql" -X -q "$direct" -c 'create database app' >"$state/setup.log" 2>&1 ||
		! "$pgbin/pgbench" -i -q -s 5 "host=127.0.0.1 port=$pgport dbname=app user=postgres" >>"$state/setup.log" 2>&1; then
		die "could not fill the database:" "$(tail -n 3 "$state/setup.log")"
	fi
	server="host=127.0.0.1 port=$pgport dbname=app user=postgres"
}

# value KEY STRING: the value of KEY in a connection string of plain words.
value()
{
	local word
	for word in $2; do
		[ "${word%%=*}" = "$1" ] && { printf '%s\n' "${word#*=}"; return; }
	done
}

check_server()
{
	# Whoever logs in to pgsluice, this is the user on the server.
	[ -n "$(value user "$server")" ] || server+=" user=$(id -un)"
	say "trying your server: $server"
	"$pgbin/psql" -X -w -Atc 'select 1' "$server" >/dev/null 2>"$state/setup.log" </dev/null ||
		die "your server does not let us in:" "$(tail -n 3 "$state/setup.log")" "mend the string of --server and start again"
}

# --- pgsluice

write_ini()
{
	cat >"$state/pgsluice.ini" <<-INI
		; Written by contrib/quickstart.sh. Anybody on this machine may log in as any user: good for a try, for nothing else.
		[databases]
		app = $server

		[pgsluice]
		listen_addr = 127.0.0.1
		listen_port = $port
		unix_socket_dir =
		auth_type = any
		admin_users = pgsluice
		pool_mode = transaction
		default_pool_size = 20
		max_client_conn = 1000
		logfile = $state/pgsluice.log
		pidfile = $state/pgsluice.pid
	INI
	chmod 600 "$state/pgsluice.ini"
	[ "$(id -un)" = "$owner" ] || chown "$owner" "$state/pgsluice.ini"
}

listening()
{
	! port_is_free "$port"
}

start_sluice()
{
	say "starting pgsluice on 127.0.0.1, port $port"
	# The servers' user may not be able to enter the checkout; it gets a copy of the program.
	install -m 755 "$pgsluice" "$state/${pgsluice##*/}" || die "cannot copy $pgsluice to $state"
	echo "${pgsluice##*/}" >"$state/program"
	write_ini
	local i
	(as_owner setsid "$state/${pgsluice##*/}" "$state/pgsluice.ini" >"$state/pgsluice.out" 2>&1 </dev/null &)
	for ((i = 0; i < 100; i++)); do
		listening && sluice_runs && return
		sleep 0.1
	done
	die "pgsluice does not start:" "$(tail -n 5 "$state/pgsluice.out" "$state/pgsluice.log" 2>/dev/null)"
}

# --- what is shown

# console COMMAND [option of psql]
console()
{
	"$pgbin/psql" -X -w -P pager=off ${2:+"$2"} -h 127.0.0.1 -p "$port" -U pgsluice pgsluice -c "$1" </dev/null ||
		die "the console did not answer '$1'" "see $state/pgsluice.log"
}

run_load()
{
	say "pgbench through pgsluice: 50 clients on at most 20 servers, $seconds s"
	local select=(-S)
	[ -n "$throwaway" ] || { echo 'SELECT 1;' >"$state/select1.sql"; select=(-f "$state/select1.sql"); }
	"$pgbin/pgbench" -n "${select[@]}" -c 50 -j 2 -T "$seconds" -P 2 -h 127.0.0.1 -p "$port" \
		-U "$load_user" app </dev/null 2>&1 | grep -E '^(progress|tps|latency|pgbench|number of failed)|error' ||
		die "pgbench failed" "see $state/pgsluice.log"
}

show_console()
{
	say "SHOW POOLS, in the console"
	console 'show pools'
	say "SHOW STATS"
	console 'show stats' --expanded
}

show_what_runs()
{
	local pid pgpid pgport
	pid=$(cat "$state/pgsluice.pid")
	say "pgsluice runs (process $pid, port $port); its files are in $state"
	if postgres_runs; then
		pgpid=$(sed -n 1p "$state/data/postmaster.pid") pgport=$(sed -n 4p "$state/data/postmaster.pid")
		say "PostgreSQL runs (process $pgpid, port $pgport)"
	fi
	printf '\nTry:\n'
	printf '  %-48s %s\n' "psql -h 127.0.0.1 -p $port -U $load_user app" "a database, through the pooler" \
		"psql -h 127.0.0.1 -p $port -U pgsluice pgsluice" "the console: show help; show clients; pause; resume;" \
		"contrib/quickstart.sh --stop" "ends what runs and removes $state"
}

prepare_state()
{
	rm -rf "$state"
	mkdir -m 755 "$state" || die "cannot make $state"
	[ "$(id -un)" = "$owner" ] || chown "$owner" "$state" || die "cannot give $state to $owner"
	# The servers' user may not be able to stay where we were called.
	cd "$state" || die "cannot enter $state"
	trap stop_after_failure EXIT
	trap 'exit 1' INT TERM HUP
}

# A start that failed leaves its logs, but nothing that runs.
stop_after_failure()
{
	local status=$?
	[ $status = 0 ] || stop_servers >&2
	exit $status
}

install_packages()
{
	local groups=(run)
	[ -n "${PGSLUICE:-}" ] || groups+=(build)
	"$top/contrib/packages.sh" "${groups[@]}" || die "packages are missing (see above)"
}

main()
{
	parse_options "$@"
	choose_user
	check_state_is_ours
	[ -z "$stop" ] || { stop_all; return; }
	if sluice_runs; then
		port=$(sed -n 's/^listen_port = //p' "$state/pgsluice.ini")
		load_user=$(cat "$state/user")
		say "already running; --stop ends it"
		show_what_runs
		return
	fi
	port_is_free "$port" || die "somebody listens on port $port already" "choose another with --port N"
	install_packages
	choose_user
	find_postgres
	build_program
	postgres_runs && stop_servers
	prepare_state
	throwaway=
	if [ -z "$server" ]; then
		throwaway=1
		start_postgres
	else
		check_server
	fi
	load_user=$(value user "$server")
	echo "$load_user" >"$state/user"
	start_sluice
	[ -z "$load" ] || run_load
	show_console
	show_what_runs
}

main "$@"
