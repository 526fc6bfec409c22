#!/bin/sh
# `make install` puts every file in its place with its mode; systemd takes the
# units; a configuration that the user has changed survives a second install and
# `make uninstall`, which removes all the rest.
set -eu
unset MAKEFLAGS MFLAGS MAKELEVEL
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022

make_in_build() {
	make -s --no-print-directory -C "$builddir" "$@" DESTDIR="$root" \
		prefix=/usr sbindir=/usr/sbin sysconfdir=/etc \
		mandir=/usr/share/man docdir=/usr/share/doc/gatewayd \
		systemdsystemunitdir=/usr/lib/systemd/system \
		sysusersdir=/usr/lib/sysusers.d >"$root.log" 2>&1 ||
		{ cat "$root.log"; exit 1; }
	rm -f "$root.log"
}

fail() {
	echo "$1"
	exit 1
}

make_in_build install
(cd "$root" && find . -mindepth 1 \( -type f -o -empty \) -printf '%m %P\n' |
	sort -k 2) >"$root/found"
sed -i '/ found$/d' "$root/found"
cat >"$root/wanted" <<'TEXT'
755 etc/gatewayd/broker
644 etc/gatewayd/broker.acl
644 etc/gatewayd/broker.conf
755 etc/gatewayd/conf.d
644 etc/gatewayd/gatewayd.conf
644 usr/lib/systemd/system/gatewayd-broker.service
644 usr/lib/systemd/system/gatewayd.service
644 usr/lib/sysusers.d/gatewayd.conf
755 usr/sbin/gatewayd
755 usr/sbin/gatewayd-pki
644 usr/share/doc/gatewayd/README.md
644 usr/share/doc/gatewayd/spool-format.md
644 usr/share/man/man5/gatewayd.conf.5
644 usr/share/man/man8/gatewayd-pki.8
644 usr/share/man/man8/gatewayd.8
TEXT
diff -u "$root/wanted" "$root/found" ||
	fail 'make install: not the files that are wanted (-), but others (+)'

units=$root/usr/lib/systemd/system
! grep -H '@[a-z]*@' "$units"/* || fail 'a placeholder was left in a unit'
if command -v systemd-analyze >/dev/null; then
	# The programs that the units name are looked for on this machine.
	sed -i -E "s,^(Exec[A-Za-z]*=\+?)[^ ]*/(gatewayd[a-z-]*),\1$root/usr/sbin/\2," \
		"$units"/*.service
	systemd-analyze verify --man=no "$units"/*.service >"$root/verify" 2>&1 ||
		echo 'systemd-analyze verify failed' >>"$root/verify"
	# Whatever it has to say about units of ours.
	! grep gatewayd "$root/verify" || fail 'systemd-analyze does not like this'
	systemd-analyze security --no-pager --offline=yes --threshold=20 \
		"$units/gatewayd.service" >"$root/security" ||
		fail "gatewayd.service is too open: $(tail -n 1 "$root/security")"
	systemd-analyze security --no-pager --offline=yes --threshold=20 \
		"$units/gatewayd-broker.service" >"$root/security" ||
		fail "gatewayd-broker.service is too open: $(tail -n 1 "$root/security")"
fi

echo '# mine' >>"$root/etc/gatewayd/gatewayd.conf"
make_in_build install
grep -q '^# mine$' "$root/etc/gatewayd/gatewayd.conf" ||
	fail 'a second make install overwrote a changed configuration'
make_in_build uninstall
rm -f "$root/wanted" "$root/found" "$root/verify" "$root/security"
left=$(cd "$root" && find . -type f)
[ "$left" = ./etc/gatewayd/gatewayd.conf ] ||
	fail "make uninstall left: $left"
