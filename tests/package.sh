#!/bin/bash
# The Debian package in a machine of its own: a fresh Debian 12 with systemd as
# PID 1 in a container (systemd-nspawn), where it is installed with apt, used,
# killed, misconfigured, upgraded and purged.  `make check-package` runs it.
#
# Needs root, the network (for debootstrap and apt), and some minutes; installs
# debootstrap and systemd-container.  The bare Debian is kept in
# BUILD/package-test/base for the next time.
set -euo pipefail
unset MAKEFLAGS MFLAGS MAKELEVEL
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

work=$builddir/package-test
base=$work/base
machine=gatewayd-$$
root=$work/$machine
cgroup=/sys/fs/cgroup/unified
[ -d $cgroup ] || cgroup=/sys/fs/cgroup
nspawn=
leader=
passed=0
failed=0

die() {
	echo "package.sh: $1" >&2
	exit 1
}

# quietly LOG COMMAND...: shows what it said only if it fails.
quietly() {
	local log=$work/$1.log
	shift
	"$@" >"$log" 2>&1 </dev/null || {
		tail -n 30 "$log" | cut -c 1-200
		die "failed: $*"
	}
}

# The mirror of this machine for the suite bookworm$1.
mirror() {
	apt-get indextargets --format '$(RELEASE) $(SITE)' 'Created-By: Packages' |
		awk -v suite="bookworm$1" '$1 == suite { print $2; exit }'
}

# ---- the machine ----

make_base() {
	[ ! -e "$base/complete" ] || return 0
	rm -rf "$base"
	echo 'making a bare Debian 12 ...'
	quietly debootstrap debootstrap --variant=minbase \
		--include=systemd,systemd-sysv,dbus,ca-certificates,iproute2 \
		bookworm "$base" "$(mirror '')"
	local suite url
	for suite in '' -updates -security; do
		url=$(mirror "$suite")
		[ -z "$url" ] || echo "deb $url bookworm$suite main"
	done >"$base/etc/apt/sources.list"
	touch "$base/complete"
}

# The root of the machine: a copy of the base with the security updates, the
# package, and what apt will want for it; the machine itself has no network.
make_root() {
	cp -a "$base" "$root"
	cp "$work"/deb/gatewayd_*.deb "$root/root/"
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	echo '127.0.0.1 localhost' >"$root/etc/hosts"
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod +x "$root/usr/sbin/policy-rc.d"
	mount -t proc proc "$root/proc"
	quietly apt chroot "$root" /bin/sh -ec '
		export PATH=/usr/sbin:/usr/bin:/sbin:/bin
		apt-get -q update
		apt-get -q -y upgrade
		apt-get -q -y --no-install-recommends install \
			mosquitto-clients socat
		apt-get -q -y --no-install-recommends --download-only install \
			/root/gatewayd_*.deb'
	umount "$root/proc"
	rm "$root/usr/sbin/policy-rc.d"
}

# Runs systemd-nspawn in a mount namespace where /sys/fs/cgroup is cgroup2 alone,
# in a cgroup of its own; for hosts that do not run systemd themselves.
boot_without_systemd() {
	mkdir -p "$cgroup/$machine"
	unshare --mount --propagation private /bin/sh -ec '
		echo $$ >"$1/cgroup.procs"
		umount -R /sys/fs/cgroup
		mount -t cgroup2 cgroup2 /sys/fs/cgroup
		shift
		exec systemd-nspawn --register=no --keep-unit "$@"' \
		sh "$cgroup/$machine" "$@"
}

boot() {
	local how=boot_without_systemd
	[ ! -d /run/systemd/system ] || how=systemd-nspawn
	$how -D "$root" --boot --machine="$machine" --private-network \
		--resolv-conf=off --timezone=off --link-journal=no --console=pipe \
		>"$work/console.log" 2>&1 </dev/null &
	nspawn=$!
	wait_for 30 'the machine boots' find_leader ||
		{ tail -n 20 "$work/console.log"; die 'no boot'; }
	wait_for 60 'it is up' is_up || die 'the machine does not come up'
}

# PID 1 of the machine, as it is seen from here.
find_leader() {
	local pid
	kill -0 $nspawn 2>/dev/null || die "$(tail -n 5 "$work/console.log")"
	for pid in $(pgrep -x systemd); do
		if [ "$(status_of "$pid" NSpid)" = 1 ] && is_in_nspawn "$pid"; then
			leader=$pid
			return 0
		fi
	done
	return 1
}

# The last word of a field in /proc/PID/status.
status_of() {
	awk -v field="$2:" '$1 == field { print $NF }' "/proc/$1/status" \
		2>/dev/null || :
}

# Is process $1 a descendant of our nspawn?
is_in_nspawn() {
	local pid=$1
	while [ "${pid:-0}" -gt 1 ]; do
		[ "$pid" != "$nspawn" ] || return 0
		pid=$(status_of "$pid" PPid)
	done
	return 1
}

is_up() {
	case $(inside systemctl is-system-running 2>/dev/null || :) in
	running | degraded) ;;
	*) return 1 ;;
	esac
}

inside() {
	setsid --wait nsenter -t "$leader" -m -u -i -n -p -C -r -w env -i TERM=dumb \
		SYSTEMD_PAGER= DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

power_off() {
	[ -z "$leader" ] || kill -RTMIN+4 "$leader" 2>/dev/null || :
	[ -z "$nspawn" ] || timeout 30 tail --pid=$nspawn -f /dev/null ||
		kill -9 $nspawn || :
	leader=
	nspawn=
}

cleanup() {
	power_off
	! mountpoint -q "$root/proc" || umount "$root/proc"
	rm -rf "$root" "$work/deb"
	[ ! -d "$cgroup/$machine" ] ||
		find "$cgroup/$machine" -depth -type d -exec rmdir {} + || :
}

# ---- the checks ----

# wait_for SECONDS WHAT COMMAND...: until it succeeds.
wait_for() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		[ $SECONDS -lt $end ] || { echo "  in vain: $what"; return 1; }
		sleep 0.1
	done
}

# check NAME SCRIPT: bash in the machine, with the functions of $helpers; each
# command in it must succeed.
check() {
	local out
	if out=$(inside /bin/bash -c "set -euo pipefail
$helpers
$2" 2>&1 </dev/null); then
		passed=$((passed + 1))
		echo "ok: $1"
	else
		failed=$((failed + 1))
		echo "FAILED: $1"
		printf '%s\n' "$out" | tail -n 25 | sed 's/^/  /'
	fi
}

# Functions for the scripts that run in the machine.
# shellcheck disable=SC2016
helpers='
until_true() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || { echo "in vain: $*"; show; return 1; }
		sleep 0.1
	done
}
show() {
	journalctl -n 10 -o cat -u gatewayd-broker
	journalctl -n 10 -o cat -u gatewayd
	get StatusText
}
get() { systemctl show --value -p "$1" "${2:-gatewayd}"; }
is() { [ "$(get "$1" "${3:-gatewayd}")" = "$2" ]; }
kill_main() { # [UNIT]
	local pid
	pid=$(get MainPID "${1:-gatewayd}")
	[ "$pid" != 0 ] || fails echo "${1:-gatewayd} does not run"
	kill -9 "$pid"
}
is_new() { # PID: is there a main process, and is it another one?
	! is MainPID 0 && ! is MainPID "$1"
}
fails() { # COMMAND...; with "!" set -e would not look at the outcome
	if "$@"; then
		echo "should have failed: $*"
		return 1
	fi
}
has() { grep -E -- "$1" >/dev/null; } # reads on, unlike grep -q: pipefail
status_says() { get StatusText | has "$1"; }
log_says() { journalctl -u "${2:-gatewayd}" -o cat | has "$1"; }
mode_is() { # FILE MODE OWNER:GROUP
	local found
	found=$(stat -c "%a %U:%G" "$1")
	[ "$found" = "$2 $3" ] || { echo "$1 is $found, not $2 $3"; return 1; }
}
publish() { # as the device sensor1: TOPIC [OPTION]...
	mosquitto_pub -V 5 -h localhost -p 8883 --cafile /etc/gatewayd/broker/ca.pem \
		--cert /root/sensor1.pem --key /root/sensor1.key -q 1 -m 21.5 -t "$@"
}
accepted() { get StatusText | sed -n "s/.*; in \([0-9]*\),.*/\1/p"; }
takes_one() { # COMMAND...: it makes one message, no more, which is accepted
	local before
	before=$(accepted)
	"$@"
	until_true 20 eval "[ \"\$(accepted)\" -gt $before ]"
	[ "$(accepted)" = $((before + 1)) ] || fails status_says "in "
}
all_delivered() {
	local n
	n=$(accepted)
	until_true 20 status_says "^uplink connected.*backlog 0; in $n, out $n"
}
connections() { # to the local broker, since the machine started
	journalctl -u gatewayd -o cat | grep -c "^local: connected"
}
both_active() {
	until_true 20 systemctl -q is-active gatewayd
	until_true 20 systemctl -q is-active gatewayd-broker
}
'

check_installation() {
	check 'apt installs it with its dependencies' '
		apt-get -q -y --no-install-recommends install \
			/root/gatewayd_*.deb'
	[ $failed = 0 ] || die 'not installed: the rest would say nothing'
	check 'both services are enabled, active and ready at once' '
		systemctl -q is-enabled gatewayd
		systemctl -q is-enabled gatewayd-broker
		systemctl -q is-active gatewayd
		systemctl -q is-active gatewayd-broker
		is SubState running
		is NRestarts 0
		is NRestarts 0 gatewayd-broker'
	check 'systemctl status shows what there is to do' '
		until_true 10 status_says "no uplink configured: set uplink.host"
		systemctl status gatewayd | has "Status: \"no uplink configured"'
	check 'users and groups' '
		[ "$(ps -o user:20= -p "$(get MainPID)" | tr -d " ")" = gatewayd ]
		id -nG gatewayd | has "\<dialout\>"
		id -nG gatewayd | has "\<gatewayd-broker\>"
		[ "$(id -nG gatewayd-broker)" = gatewayd-broker ]'
	check 'modes of state, keys and socket' '
		mode_is /var/lib/gatewayd 700 gatewayd:gatewayd
		mode_is /var/lib/gatewayd-broker 700 gatewayd-broker:gatewayd-broker
		mode_is /etc/gatewayd/broker/ca.key 600 root:root
		mode_is /etc/gatewayd/broker/ca.pem 644 root:root
		mode_is /etc/gatewayd/broker/server.key 640 root:gatewayd-broker
		mode_is /etc/gatewayd/broker/server.pem 644 root:root
		mode_is /run/gatewayd-broker 750 gatewayd-broker:gatewayd-broker
		mode_is /run/gatewayd-broker/mqtt.sock 770 \
			gatewayd-broker:gatewayd-broker'
	check 'another user does not get at the socket' '
		socket=UNIX-CONNECT:/run/gatewayd-broker/mqtt.sock
		setpriv --reuid gatewayd --init-groups socat -u /dev/null $socket
		fails setpriv --reuid nobody --regid nogroup --clear-groups \
			socat -u /dev/null $socket'
	check 'the mosquitto service of the machine is as it was' '
		systemctl -q is-active mosquitto
		[ -z "$(dpkg -V mosquitto)" ]'
	check 'the log has no warning but for the missing uplink' '
		bad=$(journalctl -p warning -o cat -u gatewayd -u gatewayd-broker |
			grep -v "uplink.host is not set" || :)
		[ -z "$bad" ] || fails echo "$bad"'
}

check_devices() {
	check 'a device with a certificate publishes' '
		gatewayd-pki device sensor1 /root
		takes_one publish dt/sensor1/temperature
		status_says "backlog 1; in 1, out 0"'
	check 'a device without a certificate does not get in' '
		fails mosquitto_pub -h localhost -p 8883 -q 1 -t dt/sensor1/x -m x \
			--cafile /etc/gatewayd/broker/ca.pem
		until_true 10 log_says "peer did not return a certificate" \
			gatewayd-broker'
	check 'a device does not speak for another' '
		both() {
			publish dt/sensor2/temperature || :
			publish dt/sensor1/temperature
		}
		takes_one both'
	check 'a serial device of the group dialout is read' '
		systemd-run -q --unit=pty socat PTY,link=/dev/meter,raw,echo=0 \
			PTY,link=/dev/far-end,raw,echo=0
		until_true 10 test -e /dev/meter -a -e /dev/far-end
		chgrp dialout /dev/meter
		chmod 660 /dev/meter
		cat >/etc/gatewayd/conf.d/60-meter.conf <<<"serial : { meter : \
			{ device = \"/dev/meter\"; }; };"
		systemctl reload gatewayd
		until_true 10 log_says "meter.*(open|baud)"
		speak() { echo 230.1 >/dev/far-end; }
		takes_one speak'
	check 'the uplink connects, with a key that only gatewayd reads' '
		gatewayd-pki --dir /root/cloud server localhost /root/cloud/server
		gatewayd-pki --dir /root/cloud device gateway-1 /root/cloud
		cp /root/cloud/ca.pem /etc/gatewayd/uplink-ca.pem
		cp /root/cloud/gateway-1.pem /etc/gatewayd/uplink.pem
		install -m 0640 -g gatewayd /root/cloud/gateway-1.key \
			/etc/gatewayd/uplink.key
		printf "%s\n" "listener 8884" "cafile /root/cloud/ca.pem" \
			"certfile /root/cloud/server.pem" \
			"keyfile /root/cloud/server.key" \
			"require_certificate true" "allow_anonymous true" \
			"user root" >/root/cloud/mosquitto.conf
		systemd-run -q --unit=cloud mosquitto -c /root/cloud/mosquitto.conf
		cat >/etc/gatewayd/conf.d/50-uplink.conf <<<"uplink : \
			{ host = \"localhost\"; port = 8884; };"
		systemctl reload gatewayd
		all_delivered'
}

check_supervision() {
	check 'gatewayd comes back after kill -9 and still knows its counts' '
		old=$(get MainPID)
		before=$(accepted)
		kill_main
		until_true 15 is_new "$old"
		both_active
		is NRestarts 1
		until_true 10 eval "[ \"\$(accepted)\" = $before ]"
		takes_one publish dt/sensor1/temperature
		all_delivered'
	check 'the broker comes back after kill -9, and gatewayd to it' '
		before=$(connections)
		kill_main gatewayd-broker
		until_true 15 is NRestarts 1 gatewayd-broker
		both_active
		until_true 20 eval "[ \"\$(connections)\" -gt $before ]"
		takes_one publish dt/sensor1/temperature
		all_delivered
		is NRestarts 1'
	check 'a gatewayd that hangs is restarted by the watchdog' '
		mkdir -p /run/systemd/system/gatewayd.service.d
		printf "[Service]\nWatchdogSec=2s\n" \
			>/run/systemd/system/gatewayd.service.d/quick.conf
		systemctl daemon-reload
		systemctl restart gatewayd
		old=$(get MainPID)
		systemctl kill -s STOP gatewayd
		until_true 30 is_new "$old"
		both_active
		until_true 10 log_says "Watchdog timeout"
		rm /run/systemd/system/gatewayd.service.d/quick.conf
		systemctl daemon-reload
		systemctl restart gatewayd'
	check 'it stops within 5 s while the cloud does not answer' '
		until_true 20 status_says "^uplink connected"
		systemctl kill -s STOP cloud
		begin=$(date +%s%N)
		systemctl stop gatewayd
		took=$((($(date +%s%N) - begin) / 1000000))
		systemctl kill -s CONT cloud
		echo "$took ms"
		[ $took -lt 5000 ]
		is Result success
		is ExecMainStatus 0
		systemctl start gatewayd'
}

check_configuration() {
	check 'a reload with a wrong configuration fails and changes nothing' '
		old=$(get MainPID)
		echo "spool : { max_sice = \"5G\"; };" >/etc/gatewayd/conf.d/90-bad.conf
		fails systemctl reload gatewayd
		until_true 10 log_says "90-bad.conf:1:.*max_size"
		[ "$(get MainPID)" = "$old" ]
		until_true 20 status_says "^uplink connected"'
	check 'a start with it fails with status 78, and is not tried again' '
		fails systemctl restart gatewayd
		is ActiveState failed
		is ExecMainStatus 78
		sleep 3 # to see that nothing comes; RestartSec is 1 s
		is ActiveState failed
		is NRestarts 0'
	check 'it starts when that is mended' '
		rm /etc/gatewayd/conf.d/90-bad.conf
		systemctl start gatewayd
		all_delivered'
	check 'the same version again leaves the configuration alone' '
		echo "# mine" >>/etc/gatewayd/gatewayd.conf
		sum=$(sha256sum /etc/gatewayd/broker/*)
		apt-get -q -y --reinstall install /root/gatewayd_*.deb
		grep -q "# mine" /etc/gatewayd/gatewayd.conf
		[ "$(sha256sum /etc/gatewayd/broker/*)" = "$sum" ]
		both_active
		all_delivered'
}

check_reboot() {
	check 'after a reboot both are there, with spool and certificates' '
		both_active
		is NRestarts 0
		takes_one publish dt/sensor1/temperature'
}

check_removal() {
	check 'remove ends the services and keeps configuration and spool' '
		apt-get -q -y remove gatewayd
		fails systemctl -q is-active gatewayd gatewayd-broker
		[ -e /var/lib/gatewayd/spool.db ]
		[ -e /etc/gatewayd/broker/ca.key -a -e /etc/gatewayd/uplink.key ]'
	check 'purge leaves nothing behind' '
		apt-get -q -y purge gatewayd
		left=$(find / -xdev -name "*gatewayd*" ! -path "/proc/*" \
			! -path "/sys/*" ! -path "/root/*" ! -path "/run/systemd/*" \
			! -path "/var/cache/apt/*")
		[ -z "$left" ] || fails echo "$left"
		systemctl daemon-reload
		[ -z "$(systemctl list-units --failed --plain --no-legend)" ]'
	check 'it can be installed again' '
		apt-get -q -y --no-install-recommends install \
			/root/gatewayd_*.deb
		both_active
		until_true 10 status_says "no uplink configured.*in 0, out 0"'
}

main() {
	[ "$(id -u)" = 0 ] || die 'must be root, to boot a machine'
	mkdir -p "$work"
	local tool
	for tool in debootstrap systemd-nspawn lintian; do
		command -v $tool >/dev/null && continue
		quietly apt apt-get -q -y --no-install-recommends install \
			debootstrap systemd-container lintian
		break
	done
	trap cleanup EXIT
	echo 'building the package ...'
	rm -rf "$work/deb" && mkdir "$work/deb"
	quietly distdir make -s -C "$builddir" distdir distdir="$work/deb/src"
	(cd "$work/deb/src" && DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-} parallel=$(nproc)" \
		quietly build dpkg-buildpackage -us -uc -b)
	make_base
	make_root
	boot
	check_installation
	check_devices
	check_supervision
	check_configuration
	power_off
	boot
	check_reboot
	check_removal
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
}

main
