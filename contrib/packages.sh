#!/bin/bash
# Installs the Debian packages that a task needs, those that are missing and no others.
#
#   contrib/packages.sh GROUP...      groups: build test run bench lint clang package interop drivers drivers-all
#   contrib/packages.sh --list GROUP...
#
# drivers are those client drivers that are tested before each change, driver-NAME is one of test/drivers.
#
# Asks nothing. As root it calls apt-get, otherwise sudo for apt-get alone; with everything in place it needs
# neither, nor a network. A PostgreSQL that it installs gets no cluster of its own and listens nowhere.

set -u

drivers=$(dirname "$0")/../test/drivers

# Prints what these driver.ini files name as their packages, and npm, which some Node.js bring along; of those with ci = yes alone when the first word says so.
driver_packages()
{
	local quick=$1 ini
	shift
	for ini in "$@"; do
		[ -z "$quick" ] || grep -q '^ci *= *yes' "$ini" || continue
		sed -n 's/^apt *= *//p' "$ini"
		! grep -q '^npm *=' "$ini" || command -v npm >/dev/null || echo npm
	done
}

group_packages()
{
	case $1 in
	build) echo gcc libc6-dev make autoconf automake pkg-config libevent-dev libssl-dev libpq-dev libinih-dev \
		libidn-dev uthash-dev libldap-dev libpam0g-dev ;;
	test) echo libcmocka-dev python3 python3-pytest python3-pytest-xdist python3-psycopg python3-psycopg2 \
		python3-asyncpg python3-cryptography openssl procps postgresql slapd ldap-utils ;;
	run) echo postgresql procps ;;
	bench) echo postgresql python3 gcc libc6-dev openssl pgbouncer ;;
	lint) echo clang-tidy clang-format cppcheck shellcheck python3 ;;
	clang) echo clang ;;
	interop) echo pgbouncer pgcli check-postgres prometheus-pgbouncer-exporter libpostgresql-jdbc-java \
		default-jdk-headless ;;
	package) echo debhelper dpkg-dev adduser logrotate systemd ;;
	drivers) driver_packages quick "$drivers"/*/driver.ini ;;
	drivers-all) driver_packages '' "$drivers"/*/driver.ini ;;
	driver-*) driver_packages '' "$drivers/${1#driver-}/driver.ini" ;;
	*) echo "packages.sh: no group '$1'; there are build test run bench lint clang package interop drivers" \
		"drivers-all driver-NAME" >&2; return 1 ;;
	esac
}

# Is there a PostgreSQL server of any packaging? The meta package may be missing where the server is not.
has_postgres()
{
	command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

is_installed()
{
	[ "$1" = postgresql ] && has_postgres && return 0
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ] && return 0
	# A name that another package provides, such as pkg-config by pkgconf.
	dpkg-query -W -f='${db:Status-Status} ${Provides},\n' 2>/dev/null | grep -Eq "^installed (.*[ ,])?$1( \(|,)"
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

apt()
{
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
		-o APT::Acquire::Retries=3 "$@" </dev/null
}

# apt-get install, with fresh lists when the ones at hand do not do.
apt_install()
{
	local log
	log=$(mktemp) || return 1
	if ! apt install --no-install-recommends "$@" >"$log" 2>&1; then
		apt update >"$log" 2>&1 && apt install --no-install-recommends "$@" >"$log" 2>&1
	fi
	local status=$?
	[ $status = 0 ] || tail -n 20 "$log" >&2
	rm -f "$log"
	return $status
}

# Debian's PostgreSQL package makes and starts a cluster unless this setting says no; ours are made by who needs them.
readonly NO_CLUSTER=/etc/postgresql-common/createcluster.d/pgsluice-install.conf

forbid_cluster()
{
	as_root mkdir -p "${NO_CLUSTER%/*}" && echo 'create_main_cluster = false' | as_root tee "$NO_CLUSTER" >/dev/null
}

# Nothing that is installed for tests is to be started by its package.
readonly POLICY=/usr/sbin/policy-rc.d

forbid_start()
{
	[ -e "$POLICY" ] && return 0
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null && as_root chmod 755 "$POLICY" && made_policy=1
}

main()
{
	local made_policy= list_only= group name names= missing=
	[ "${1:-}" = --list ] && list_only=1 && shift
	for group in "$@"; do
		names+=" $(group_packages "$group")" || return 2
	done
	names=$(printf '%s\n' $names | sort -u)
	[ -n "$list_only" ] && { printf '%s\n' $names; return 0; }
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
		echo "packages.sh: no apt-get here; taking for granted the counterparts of:" $names >&2
		return 0
	fi
	for name in $names; do
		is_installed "$name" || missing+=" $name"
	done
	[ -z "$missing" ] && return 0
	if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
		echo "packages.sh: these packages are missing and sudo does not work without a password; as root say:" >&2
		echo "  apt-get install$missing" >&2
		return 1
	fi
	echo "packages: installing$missing"
	case $missing in
	*postgresql*) forbid_cluster || return 1 ;;
	esac
	case $missing in
	*pgbouncer* | *slapd*) forbid_start || return 1 ;;
	esac
	apt_install $missing
	local status=$?
	[ -n "$made_policy" ] && as_root rm -f "$POLICY"
	[ -f "$NO_CLUSTER" ] && as_root rm -f "$NO_CLUSTER"
	if [ $status != 0 ]; then
		echo "packages.sh: apt-get could not install$missing (see above)" >&2
		return 1
	fi
}

main "$@"
