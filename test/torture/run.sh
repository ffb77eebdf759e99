#!/bin/sh
# Tortures a pooler: starts PostgreSQL, the chaos relay in front of it, the pooler in front of that, and lets the
# generator loose on it all. Ends with the generator's last line and exit status. See --help.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
pooler= seconds=30 clients=200 threads= seed=$$ chaos=yes can= tls= sabotage= keep= gen_threads=1 pool_size=20 only= gen=
stall=60 bindir=${TORTURE_BINDIR:-} extra= profile=pgbouncer level=1 console= restarts= mode=transaction
prepared=5

usage()
{
	cat <<END
usage: run.sh --pooler PATH [options]        (or --pooler none: the generator on PostgreSQL itself)
  --seconds N       how long (30)
  --clients N       concurrent clients (200)
  --pool-size N     servers they share (20)
  --threads N       the pooler's "threads" setting (not written when absent)
  --seed S          seed of all chance (the process id)
  --no-chaos        the relay is transparent, no session may be lost
  --console         an administrator is at work: PAUSE, KILL, RELOAD and the like at random
  --restarts        ... and starts the pooler anew with -R every few seconds
  --level N         multiplies all rates of the relay (1)
  --tls             TLS on both sides of the pooler
  --basic           nothing that PgBouncer before 1.21 cannot do: prepared statements, tracked parameters
  --strict          the pooler answers unknown names of statements as PostgreSQL does (with --profile pgsluice, or none)
  --prepared N      the pooler's "max_prepared_statements" (5)
  --mode MODE       its "pool_mode" (transaction)
  --only A,B        only these shapes, or with -A,-B all others
  --gen OPTIONS     more options of the generator, as one argument (torture --help)
  --gen-threads N   threads of the generator (1)
  --stall N         seconds of silence that are a failure (60)
  --profile NAME    section header of the ini file, pgbouncer or pgsluice (pgbouncer)
  --set 'key = v'   one more line for the ini file; may be repeated
  --bindir DIR      where torture and chaos were built (guessed)
  --sabotage KIND   the relay misbehaves, and it is a failure when the generator does not notice:
                    cross double drop swap status byte mute cancel told code write mix param leak; the administrator misbehaves (with
                    --console): pause resume kill leak lose; all = each of them for a few seconds
  --keep            keep the directory with logs (kept after a failure, too)
END
	exit "$1"
}

while [ $# -gt 0 ]; do
	case $1 in
	--no-chaos) chaos=no ;;
	--tls) tls=yes ;;
	--basic) can=--basic ;;
	--strict) can=--strict ;;
	--console) console=yes ;;
	--restarts) console=yes restarts=yes ;;
	--keep) keep=yes ;;
	--help) usage 0 ;;
	--pooler | --seconds | --clients | --pool-size | --threads | --seed | --level | --only | --gen | --gen-threads | \
		--stall | --prepared | --mode | --profile | --set | --bindir | --sabotage)
		[ $# -ge 2 ] || usage 2
		case $1 in
		--pooler) pooler=$2 ;;
		--seconds) seconds=$2 ;;
		--clients) clients=$2 ;;
		--pool-size) pool_size=$2 ;;
		--threads) threads=$2 ;;
		--seed) seed=$2 ;;
		--level) level=$2 ;;
		--only) only=$2 ;;
		--gen) gen=$2 ;;
		--gen-threads) gen_threads=$2 ;;
		--stall) stall=$2 ;;
		--prepared) prepared=$2 ;;
		--mode) mode=$2 ;;
		--profile) profile=$2 ;;
		--set) extra="$extra$2
" ;;
		--bindir) bindir=$2 ;;
		--sabotage) sabotage=$2 ;;
		esac
		shift
		;;
	*) usage 2 ;;
	esac
	shift
done
[ -n "$pooler" ] || usage 2

# One kind of sabotage; what it ends with is the last line.
sabotage_once()
{
	kind=$1
	shift
	echo "== sabotage $kind"
	last=$("$0" --pooler "$pooler" --seconds 8 --clients 40 --pool-size "$pool_size" --seed "$seed" --stall 10 \
		--profile "$profile" --mode "$mode" --prepared "$prepared" $can --bindir "$bindir" \
		--sabotage "${kind%:*}" "$@" | tail -n 1)
	echo "$last"
	case $last in
	*"was noticed: "*) ;;
	*) unnoticed="$unnoticed $kind" ;;
	esac
}

if [ "$sabotage" = all ]; then
	unnoticed=
	for kind in cross double drop swap status byte mute cancel told code write mix:named mix:unnamed param:set leak:set; do
		case $kind in
		*:*) sabotage_once "$kind" --only "${kind#*:}" ;;
		*) sabotage_once "$kind" ;;
		esac
	done
	for kind in pause resume kill leak lose; do
		sabotage_once "$kind" --console
	done
	[ -z "$unnoticed" ] || echo "not noticed:$unnoticed"
	[ -z "$unnoticed" ] || exit 1
	exit 0
fi

for dir in "$bindir" "$here" "$PWD/test/torture" "$PWD"; do
	[ -n "$dir" ] && [ -x "$dir/torture" ] && [ -x "$dir/chaos" ] && break
	dir=
done
[ -n "$dir" ] || { echo "run.sh: torture and chaos are not built (make check TESTS=), or give --bindir" >&2; exit 3; }
bindir=$(cd "$dir" && pwd)
case $pooler in
*/*) pooler=$(cd "$(dirname "$pooler")" && pwd)/$(basename "$pooler") ;;
esac

pgbin=${PGBIN:-}
for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin "$(dirname "$(command -v postgres || echo /)")"; do
	[ -n "$pgbin" ] || { [ -x "$dir/initdb" ] && pgbin=$dir; }
done
[ -n "$pgbin" ] || { echo "run.sh: no PostgreSQL (set PGBIN)" >&2; exit 3; }

# PostgreSQL and poolers refuse to run as root.
as=
cd /
if [ "$(id -u)" = 0 ]; then
	as="setpriv --reuid=postgres --regid=postgres --clear-groups --"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/torture.XXXXXX")
[ -z "$as" ] || chown postgres "$work"
chmod 755 "$work"
pooler_pid= chaos_pid= torture_pid= tunnel_pids=

cleanup()
{
	status=$?
	trap - EXIT INT TERM
	# The pooler may hang; it is not asked twice.
	for pid in $torture_pid $pooler_pid $chaos_pid $tunnel_pids; do
		kill "$pid" 2>/dev/null || true
	done
	sleep 0.3
	for pid in $pooler_pid $chaos_pid $torture_pid $tunnel_pids; do
		kill -9 "$pid" 2>/dev/null || true
	done
	if [ -f "$work/data/postmaster.pid" ]; then
		$as "$pgbin/pg_ctl" -D "$work/data" -m immediate -w stop >/dev/null 2>&1 || true
	fi
	if [ -n "$keep" ] || { [ $status -ne 0 ] && [ -z "$sabotage" ]; }; then
		rm -rf "$work/data"
		echo "run.sh: logs are in $work" >&2
	else
		rm -rf "$work"
	fi
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

$as "$pgbin/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --locale=C >"$work/initdb.log" 2>&1
cat >>"$work/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$work'
port = 5432
max_connections = 300
fsync = off
synchronous_commit = off
max_wal_size = 1GB
log_min_messages = fatal
log_min_error_statement = panic
END
$as "$pgbin/pg_ctl" -D "$work/data" -l "$work/postgres.log" -w start >/dev/null
$as "$pgbin/createdb" -h "$work" -U postgres tt

relay_sabotage=$sabotage one_in=300
case $sabotage in
mix | told) one_in=20 ;;
param | leak) one_in=5 ;;
esac
[ -z "$console" ] || relay_sabotage=
rates=
if [ "$chaos" = yes ] && [ -z "$sabotage" ]; then
	rates="--reset $((300 * level)) --half $((100 * level)) --delay $((3000 * level)) --split $((30000 * level)) \
		--merge $((5000 * level)) --cancel $((50000 * level))"
fi
: >"$work/chaos.log" # the loop below may look before the relay has begun
"$bindir/chaos" --listen 0 --host "$work" --port 5432 --seed "$seed" $rates \
	${relay_sabotage:+--sabotage "$relay_sabotage" --one-in $one_in} >"$work/chaos.log" 2>&1 &
chaos_pid=$!
chaos_port=
for i in 1 2 3 4 5 6 7 8 9 10; do
	chaos_port=$(sed -n 's/^port //p' "$work/chaos.log")
	[ -z "$chaos_port" ] || break
	sleep 0.1
done
[ -n "$chaos_port" ] || { echo "run.sh: the relay does not start" >&2; exit 3; }

# A tunnel with these options; $tunnel_port is where it listens.
tunnel()
{
	log="$work/tunnel$#.log"
	: >"$log"
	"$bindir/tunnel" "$@" >"$log" 2>&1 &
	tunnel_pids="$tunnel_pids $!"
	tunnel_port=
	for i in 1 2 3 4 5 6 7 8 9 10; do
		tunnel_port=$(sed -n 's/^port //p' "$log")
		[ -z "$tunnel_port" ] || return 0
		sleep 0.1
	done
	echo "run.sh: a tunnel does not start: $(cat "$log")" >&2
	exit 3
}

server_port=$chaos_port
if [ -n "$tls" ]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
		-keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
	[ -z "$as" ] || chown postgres "$work/key.pem"
	extra="${extra}client_tls_sslmode = allow
client_tls_key_file = $work/key.pem
client_tls_cert_file = $work/cert.pem
server_tls_sslmode = verify-full
server_tls_ca_file = $work/cert.pem
"
	tunnel --from-tls --port "$chaos_port" --cert "$work/cert.pem" --key "$work/key.pem"
	server_port=$tunnel_port
fi

# Prints nothing when something listens on the port already.
port_is_free()
{
	hex=$(printf ':%04X' "$1")
	! grep -q "$hex 00000000:0000 0A" /proc/net/tcp
}

case $can,$profile,$pooler in
,pgsluice,* | ,*,none) can=--strict ;;
esac
statements="max_prepared_statements = $prepared
reuse_unnamed_statements = 1"
[ "$can" != --basic ] || statements=
case $mode,$pooler in
session,* | *,none) can="$can --alone" ;;
statement,*) can="$can --statement" ;;
esac

port=$((20000 + $$ % 10000))
while ! port_is_free $port; do
	port=$((port + 1))
done
printf '"postgres" ""\n"boss" ""\n' >"$work/userlist.txt"
cat >"$work/pooler.ini" <<END
[databases]
tt = host=127.0.0.1 port=$server_port dbname=tt
${console:+extra = host=127.0.0.1 port=$server_port dbname=tt}

[$profile]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir = ${restarts:+$work}
auth_type = trust
auth_file = $work/userlist.txt
admin_users = boss
pool_mode = $mode
default_pool_size = $pool_size
max_client_conn = 5000
server_login_retry = 1
logfile = $work/pooler.log
pidfile = $work/pooler.pid
${threads:+threads = $threads}
$statements
$extra
END
if [ "$pooler" = none ]; then
	port=$chaos_port
else
	(cd / && exec $as "$pooler" "$work/pooler.ini" >"$work/pooler.out" 2>&1) &
	pooler_pid=$!
	i=0
	while port_is_free $port; do
		i=$((i + 1))
		if [ $i -gt 100 ] || ! kill -0 $pooler_pid 2>/dev/null; then
			echo "run.sh: the pooler does not start:" >&2
			tail -n 5 "$work/pooler.out" >&2
			exit 3
		fi
		sleep 0.1
	done
fi

client_port=$port
if [ -n "$tls" ]; then
	tunnel --to-tls --port "$port"
	client_port=$tunnel_port
fi

status=0
no_chaos=
[ -n "$rates" ] || no_chaos=--no-chaos
: >"$work/torture.log"
"$bindir/torture" --host 127.0.0.1 --port $client_port --dbname tt --check-host "$work" --check-port 5432 \
	--clients "$clients" --threads "$gen_threads" --duration "$seconds" --seed "$seed" --stall "$stall" \
	${console:+--console "$work/pooler.ini" --console-log "$work/console.log"} \
	${console:+${sabotage:+--console-sabotage "$sabotage"}} \
	${restarts:+--pidfile "$work/pooler.pid" --restart "cd /; exec $as $pooler -R $work/pooler.ini >>$work/pooler.out 2>&1"} \
	$no_chaos $can ${only:+--only "$only"} $gen >"$work/torture.log" 2>&1 &
torture_pid=$!
tail -f --pid=$torture_pid -n +1 "$work/torture.log" &
wait $torture_pid || status=$?
wait $! 2>/dev/null || true
[ -z "$restarts" ] || pooler_pid=$(cat "$work/pooler.pid" || echo "$pooler_pid")
if [ -n "$pooler_pid" ] && ! kill -0 $pooler_pid 2>/dev/null; then
	echo "run.sh: the pooler has ended by itself"
	tail -n 30 "$work/pooler.out"
	status=1
fi
if [ -f "$work/pooler.out" ] && grep -q 'Sanitizer\|runtime error:' "$work/pooler.out"; then
	echo "run.sh: a sanitizer has found something in the pooler"
	grep -m 1 -A 60 'Sanitizer\|runtime error:' "$work/pooler.out"
	status=1
fi
if [ -n "$sabotage" ]; then
	if [ $status -eq 0 ]; then
		echo "run.sh: the sabotage was not noticed"
		exit 1
	fi
	echo "run.sh: sabotage $sabotage was noticed: $(tail -n 1 "$work/torture.log")"
	exit 0
fi
exit $status
