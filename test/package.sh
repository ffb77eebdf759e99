#!/bin/bash
# Builds the Debian package in a scratch directory and looks at what came out; as root it is also installed, in a copy
# of this system that is thrown away, and the service's own command line is started with the sample configuration. In
# a second copy systemd itself is started, and runs the service as its unit says.
#
#   test/package.sh [--keep DIR]      DIR: the .deb is copied there
#
# The last line is "N passed, N failed, N skipped". A copy is an overlay in namespaces of its own, for mounts,
# processes and network: this system sees nothing of it. Where that is not allowed, those checks are skipped.

set -u -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd) || exit 1
keep=
[ "${1:-}" != --keep ] || keep=${2:?--keep wants a directory}
passed=0 failed=0 skipped=0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pgsluice-package.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT

# expect WHAT COMMAND...: one case; the output is shown when it fails.
expect()
{
	local what=$1 log
	shift
	if log=$("$@" 2>&1 </dev/null); then
		passed=$((passed + 1))
		echo "ok: $what"
	else
		failed=$((failed + 1))
		echo "not ok: $what"
		[ -z "$log" ] || tail -n 40 <<<"$log" | sed 's/^/    /'
	fi
}

finish()
{
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ] && [ "$passed" != 0 ]
	exit
}

# What git knows and what it would take in; without git, all but what a build leaves.
copy_sources()
{
	mkdir "$scratch/src" || return 1
	if git -C "$top" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		(cd "$top" && git ls-files -co --exclude-standard -z |
			xargs -0 sh -c 'for f; do [ ! -e "$f" ] || printf "%s\0" "$f"; done' sh |
			tar -c --null -T -) | tar -x -C "$scratch/src"
	else
		tar -c -C "$top" --exclude='./build*' --exclude=./autom4te.cache . | tar -x -C "$scratch/src"
	fi
}

build()
{
	cd "$scratch/src" && cp -rL contrib/debian debian &&
		DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" DEB_BUILD_PROFILES=nocheck dpkg-buildpackage -us -uc -b
}

# --- what is inside

# holds MODE OWNER PATH: a line of the listing.
holds()
{
	awk -v mode="$1" -v owner="$2" -v path="$3" '$1 == mode && $2 == owner && $6 == path { found = 1 }
		END { exit !found }' "$scratch/list"
}

field_has()
{
	dpkg-deb -f "$deb" "$1" | grep -qE "$2"
}

conffiles_are()
{
	diff <(dpkg-deb --ctrl-tarfile "$deb" | tar -xO ./conffiles | sort) <(printf '%s\n' "$@" | sort)
}

versions_agree()
{
	local upstream
	upstream=$(sed -n 's/^AC_INIT(\[pgsluice\], \[\([^]]*\)\].*/\1/p' "$top/configure.ac")
	[ -n "$upstream" ] && [[ $(dpkg-deb -f "$deb" Version) == "$upstream"-* ]]
}

check_contents()
{
	local page
	dpkg-deb -c "$deb" >"$scratch/list" || return
	expect "the program" holds -rwxr-xr-x root/root ./usr/sbin/pgsluice
	expect "the configuration, closed to others" holds -rw-r----- root/root ./etc/pgsluice/pgsluice.ini
	expect "the user list, closed to others" holds -rw-r----- root/root ./etc/pgsluice/userlist.txt
	expect "the directory of both, closed to others" holds drwxr-x--- root/root ./etc/pgsluice/
	for page in lib/systemd/system/pgsluice.service lib/systemd/system/pgsluice.socket \
		usr/lib/tmpfiles.d/pgsluice.conf etc/logrotate.d/pgsluice usr/share/doc/pgsluice/differences.md; do
		expect "$page" grep -qE " \./(usr/)?$page(\.gz)?$" "$scratch/list"
	done
	for page in "$top"/doc/*.[15]; do
		[ -e "$page" ] || continue
		expect "the manual page ${page##*/}" grep -q "/man${page##*.}/${page##*/}.gz$" "$scratch/list"
	done
	expect "the configuration is kept at upgrades" conffiles_are /etc/pgsluice/pgsluice.ini \
		/etc/pgsluice/userlist.txt /etc/logrotate.d/pgsluice
	expect "it depends on the libraries" field_has Depends 'libevent-[^,]*,.*libssl'
	expect "the version is that of the sources" versions_agree
}

# --- installed; what follows runs in the copy of the system

inside()
{
	[ "$(id -u)" = 0 ] && unshare --mount --net --pid --fork "$top/test/package.sh" --inside "$scratch" "$deb" 2>&1 </dev/null
}

# What systemd says goes to a file; so does the outcome, as the copy is gone when it powers off.
booted()
{
	[ "$(id -u)" = 0 ] && [ -x /lib/systemd/systemd ] || return
	timeout -s KILL 240 unshare --mount --net --pid --uts --ipc --fork --kill-child \
		"$top/test/package.sh" --boot "$scratch" "$deb" >"$scratch/systemd.log" 2>&1 </dev/null
	unshare --mount "$top/test/package.sh" --sweep "$scratch"
	if [ ! -s "$scratch/booted.log" ]; then
		tail -n 5 "$scratch/systemd.log"
	elif tail -n 1 "$scratch/booted.log" | grep -q ' skipped$'; then
		cat "$scratch/booted.log"
	else
		printf '%s\nnot ok: systemd: the rest\n0 passed, 1 failed, 0 skipped\n' "$(cat "$scratch/booted.log")"
	fi
}

# The control group below ours that is the copy's root, by way of a mount of ours at $1/groups.
copy_group()
{
	mkdir -p "$1/groups" && mount -t cgroup2 cgroup2 "$1/groups" &&
		echo "$1/groups$(sed -n 's/^0:://p' /proc/self/cgroup)/${1##*/}"
}

# Takes away the groups that systemd has left.
sweep()
{
	local group
	group=$(copy_group "$1") && [ -d "$group" ] && find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
}

# The copy: what is written lands in memory.
enter_copy()
{
	local dir=$1/copy
	mkdir -p "$dir" && mount -t tmpfs tmpfs "$dir" && mkdir "$dir"/{up,work,root} &&
		mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/up,workdir=$dir/work" "$dir/root" &&
		mount -t proc proc "$dir/root/proc" && mount -t tmpfs tmpfs "$dir/root/run" &&
		mount -t tmpfs tmpfs "$dir/root/tmp" && chmod 1777 "$dir/root/tmp" && mount --rbind /dev "$dir/root/dev" &&
		ip link set lo up && cp "$2" "$dir/root/tmp/pgsluice.deb" && cp "$0" "$dir/root/tmp/package.sh"
}

# The copy becomes a machine whose one task is --booted.
boot_copy()
{
	local root=$1/copy/root group
	group=$(copy_group "$1") && mkdir "$group" && echo $$ >"$group/cgroup.procs" || return
	mount -t sysfs sysfs "$root/sys" && mount --bind "$1" "$root/mnt" || return
	# not in /tmp, which systemd makes anew
	mkdir "$root/package" && cp "$root"/tmp/p* "$root/package/" || return
	rm -f "$root/usr/sbin/policy-rc.d"
	cat >"$root/etc/systemd/system/package-test.service" <<-'UNIT'
		[Unit]
		After=basic.target
		Requires=basic.target
		[Service]
		Type=oneshot
		ExecStart=/bin/sh -c '/package/package.sh --booted >/mnt/booted.log 2>&1'
		ExecStopPost=/bin/systemctl poweroff --force --force
	UNIT
	printf '[Unit]\nRequires=package-test.service\nAllowIsolate=yes\n' >"$root/etc/systemd/system/package-test.target"
	exec unshare --cgroup sh -c 'mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup" && exec env -i container=unshare \
		"PATH=$PATH" chroot "$1" /lib/systemd/systemd --system --unit=package-test.target --show-status=0 \
		--log-target=console' sh "$root"
}

owner_is()
{
	[ "$(stat -c '%U:%G %a' "$2")" = "$1" ]
}

# in_time COMMAND...: it succeeds sooner or later, within half a minute.
in_time()
{
	local end=$((SECONDS + 30))
	while [ $SECONDS -lt $end ]; do
		"$@" && return
		sleep 0.1
	done
	[ ! -e /tmp/service.log ] || tail -n 20 /tmp/service.log
	return 1
}

# The service's own command line, as its user; the shell becomes the program, so $! is its process.
start_service()
{
	local command
	command=$(sed -n 's/^ExecStart=//p' "$unit")
	[ -n "$command" ] || return 1
	runuser -u pgsluice -- sh -c "exec $command" >/tmp/service.log 2>&1 </dev/null &
	in_time grep -q 'process up' /tmp/service.log
}

service_pid()
{
	cat /run/pgsluice/pgsluice.pid
}

console()
{
	runuser -u pgsluice -- psql -X -At -h /run/pgsluice -p 6432 -U pgsluice pgsluice -c "$1"
}

console_answers()
{
	[ "$(console 'show version')" = "$(/usr/sbin/pgsluice --version | head -n 1)" ]
}

listens_as_sampled()
{
	grep -q 'listening on 127.0.0.1:6432$' /tmp/service.log &&
		grep -q 'listening on unix:/run/pgsluice/.s.PGSQL.6432$' /tmp/service.log &&
		! grep -qE ' (WARNING|ERROR|FATAL) ' /tmp/service.log
}

reloads()
{
	kill -HUP "$(service_pid)" && in_time grep -q 'got SIGHUP, re-reading config' /tmp/service.log &&
		console_answers && ! grep -qE ' (WARNING|ERROR|FATAL) ' /tmp/service.log
}

# By the unit's own signal.
stops()
{
	kill -s "$(sed -n 's/^KillSignal=//p' "$unit")" "$(service_pid)" || return 1
	in_time test ! -e /run/pgsluice/pgsluice.pid &&
		grep -q 'server connections dropped, exiting' /tmp/service.log && [ -z "$(ls -A /run/pgsluice)" ]
}

# The rotated file is kept, and the program is asked to open a new one.
rotates()
{
	local log=/var/log/pgsluice/pgsluice.log
	sed -i "s|^;logfile =.*|logfile = $log|" /etc/pgsluice/pgsluice.ini && kill -HUP "$(service_pid)" &&
		in_time test -s "$log" && logrotate -f /etc/logrotate.d/pgsluice && [ -s "$log.1" ] &&
		in_time test -s "$log" && owner_is pgsluice:pgsluice\ 640 "$log" && console_answers
}

units_are_right()
{
	local out
	out=$(systemd-analyze verify --man=no pgsluice.service pgsluice.socket 2>&1) || { echo "$out"; return 1; }
	# It also speaks about other units of the system, which are not ours.
	! grep pgsluice <<<"$out"
}

check_installed()
{
	unit=/lib/systemd/system/pgsluice.service
	expect "it installs" dpkg -i /tmp/pgsluice.deb
	expect "there is a user" getent passwd pgsluice
	expect "the service's user may read the configuration" runuser -u pgsluice -- cat /etc/pgsluice/userlist.txt
	expect "others may not" sh -c '! runuser -u nobody -- cat /etc/pgsluice/userlist.txt'
	expect "owner of the user list" owner_is root:pgsluice\ 640 /etc/pgsluice/userlist.txt
	expect "owner of the log directory" owner_is pgsluice:pgsluice\ 2750 /var/log/pgsluice
	systemd-tmpfiles --create pgsluice.conf 2>/dev/null || install -d -o pgsluice -g pgsluice /run/pgsluice
	expect "owner of the run directory" owner_is pgsluice:pgsluice\ 755 /run/pgsluice
	expect "the unit leaves what its user shares in memory" sh -c "! grep -q ^RemoveIPC= $unit"
	if command -v systemd-analyze >/dev/null; then
		expect "systemd finds nothing wrong" units_are_right
	else
		skipped=$((skipped + 1))
	fi
	expect "the configuration is accepted" runuser -u pgsluice -- /usr/sbin/pgsluice --check \
		/etc/pgsluice/pgsluice.ini
	expect "it starts" start_service
	expect "it listens where the sample says, without a complaint" listens_as_sampled
	if command -v psql >/dev/null; then
		expect "the console answers its user" console_answers
		expect "it reloads" reloads
		if command -v logrotate >/dev/null; then
			expect "its log rotates" rotates
		else
			skipped=$((skipped + 1))
		fi
	else
		skipped=$((skipped + 3))
	fi
	expect "it stops" stops
	expect "it installs again" dpkg -i /tmp/pgsluice.deb
	expect "it goes" dpkg -r pgsluice
	expect "the configuration stays" test -f /etc/pgsluice/pgsluice.ini
	expect "it goes for good" dpkg -P pgsluice
	expect "nothing stays" sh -c '! ls -d /etc/pgsluice /var/log/pgsluice /run/pgsluice /usr/sbin/pgsluice 2>/dev/null'
}

# --- under systemd

main_pid()
{
	systemctl show --property MainPID --value pgsluice.service
}

property_is()
{
	[ "$(systemctl show --property "$1" --value pgsluice.service)" = "$2" ]
}

journal_has()
{
	journalctl --quiet --unit pgsluice.service --boot | grep -qE "$1"
}

# Messages of the program's own, with a priority and without a second date.
journal_is_spoken_to()
{
	journalctl --quiet --output=cat --priority=info..info --unit pgsluice.service --boot | grep -q '^process up: '
}

reloads_by_systemd()
{
	systemctl reload pgsluice.service && in_time journal_has 'got SIGHUP, re-reading config' &&
		systemctl is-active pgsluice.service && console_answers
}

# A process that stands still is killed, and another one takes its place.
watchdog_bites()
{
	local pid
	mkdir -p /run/systemd/system/pgsluice.service.d &&
		printf '[Service]\nWatchdogSec=5\n' >/run/systemd/system/pgsluice.service.d/watchdog.conf &&
		systemctl daemon-reload && systemctl restart pgsluice.service || return
	pid=$(main_pid)
	kill -STOP "$pid" && in_time test ! -d "/proc/$pid" && in_time console_answers &&
		! property_is NRestarts 0 &&
		rm -r /run/systemd/system/pgsluice.service.d && systemctl daemon-reload
}

stops_by_systemd()
{
	systemctl stop pgsluice.service && journal_has 'got SIGINT, shutting down' && property_is Result success &&
		property_is ExecMainStatus 0
}

# The first client starts the service.
starts_by_socket()
{
	systemctl enable --now pgsluice.socket && property_is ActiveState inactive && console_answers &&
		property_is ActiveState active && journal_has 'setting listen_addr ignored' &&
		journal_has 'listening on \[::1\]:6432$'
}

socket_outlives_it()
{
	systemctl restart pgsluice.service && console_answers && systemctl stop pgsluice.service &&
		[ -S /run/pgsluice/.s.PGSQL.6432 ] && console_answers
}

check_booted()
{
	expect "systemd: the installation starts the service" dpkg -i /package/pgsluice.deb
	expect "systemd: it is ready" systemctl is-active pgsluice.service
	expect "systemd: it is started with the system" systemctl is-enabled pgsluice.service
	expect "systemd: the console answers" in_time console_answers
	expect "systemd: its log is the journal's" journal_is_spoken_to
	expect "systemd: it reloads" reloads_by_systemd
	expect "systemd: the watchdog restarts what hangs" watchdog_bites
	expect "systemd: it stops" stops_by_systemd
	expect "systemd: a client starts it by its socket" starts_by_socket
	expect "systemd: the socket stays" socket_outlives_it
	expect "systemd: nothing in the journal is a fault" sh -c \
		'! journalctl --quiet --priority=err --unit pgsluice.service --boot | grep pgsluice\\['
	expect "systemd: it goes" dpkg -P pgsluice
}

case ${1:-} in
--boot)
	trap - EXIT
	rmdir "$scratch"
	enter_copy "$2" "$3" && boot_copy "$2"
	exit 77
	;;
--booted)
	check_booted
	finish
	;;
--sweep)
	trap - EXIT
	rmdir "$scratch"
	sweep "$2"
	exit
	;;
--inside)
	trap - EXIT
	rmdir "$scratch"
	enter_copy "$2" "$3" || exit 77
	exec chroot "$2/copy/root" /tmp/package.sh --installed
	;;
--installed)
	check_installed
	finish
	;;
esac

"$top/contrib/packages.sh" build package || exit 1
cd "$scratch" || exit 1
copy_sources || exit 1
expect "it builds" build
deb=$(compgen -G "$scratch/pgsluice_*.deb") || finish
[ -z "$keep" ] || cp "$deb" "$keep/"
check_contents
# add WHERE STATUS LOG: the cases of a copy, or that there was none.
add()
{
	local line
	line=$(tail -n 1 <<<"$3")
	if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
		sed '$d' <<<"$3"
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
		skipped=$((skipped + BASH_REMATCH[3]))
	else
		echo "not tested $1, as that is not possible here (status $2)"
		[ -z "$3" ] || tail -n 5 <<<"$3" | sed 's/^/    /'
		skipped=$((skipped + 1))
	fi
}

log=$(inside)
add "in a copy of this system" $? "$log"
log=$(booted)
add "under systemd" $? "$log"
finish
