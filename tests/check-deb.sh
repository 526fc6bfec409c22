#!/bin/sh
# The Debian package builds from what `make dist` packs; it holds the files that
# it should and no others, with their modes; lintian has nothing to say.
set -eu
unset MAKEFLAGS MFLAGS MAKELEVEL GLIBC_TUNABLES
for tool in dpkg-buildpackage dh lintian; do
	command -v $tool >/dev/null || { echo "no $tool here"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() {
	echo "$1"
	exit 1
}

make -s --no-print-directory -C "$builddir" distdir distdir="$dir/src" \
	>"$dir/log" 2>&1 || fail "make distdir: $(tail -n 20 "$dir/log")"
cd "$dir/src"
DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" \
	dpkg-buildpackage -us -uc -b -Pnocheck >"$dir/log" 2>&1 ||
	fail "dpkg-buildpackage: $(tail -n 40 "$dir/log")"
! grep -E 'warning: |^dh.*: error' "$dir/log" ||
	fail 'the package builds with warnings'
rm -rf "$dir/src" && cd "$dir"

deb=$(echo gatewayd_*.deb)
dpkg-deb -c "$deb" | awk '{ print $1, $2, $6 }' | grep -v '^d.*/usr/' |
	sort -k 3 >found
cat >wanted <<'TEXT'
drwxr-xr-x root/root ./
drwxr-xr-x root/root ./etc/
drwxr-xr-x root/root ./etc/gatewayd/
drwxr-xr-x root/root ./etc/gatewayd/broker/
-rw-r--r-- root/root ./etc/gatewayd/broker.acl
-rw-r--r-- root/root ./etc/gatewayd/broker.conf
drwxr-xr-x root/root ./etc/gatewayd/conf.d/
-rw-r--r-- root/root ./etc/gatewayd/gatewayd.conf
drwxr-xr-x root/root ./lib/
drwxr-xr-x root/root ./lib/systemd/
drwxr-xr-x root/root ./lib/systemd/system/
-rw-r--r-- root/root ./lib/systemd/system/gatewayd-broker.service
-rw-r--r-- root/root ./lib/systemd/system/gatewayd.service
-rw-r--r-- root/root ./usr/lib/sysusers.d/gatewayd.conf
-rwxr-xr-x root/root ./usr/sbin/gatewayd
-rwxr-xr-x root/root ./usr/sbin/gatewayd-pki
-rw-r--r-- root/root ./usr/share/doc/gatewayd/README.md.gz
-rw-r--r-- root/root ./usr/share/doc/gatewayd/changelog.gz
-rw-r--r-- root/root ./usr/share/doc/gatewayd/copyright
-rw-r--r-- root/root ./usr/share/doc/gatewayd/spool-format.md
-rw-r--r-- root/root ./usr/share/lintian/overrides/gatewayd
-rw-r--r-- root/root ./usr/share/man/man5/gatewayd.conf.5.gz
-rw-r--r-- root/root ./usr/share/man/man8/gatewayd-pki.8.gz
-rw-r--r-- root/root ./usr/share/man/man8/gatewayd.8.gz
TEXT
LC_ALL=C sort -k 3 -o found found && LC_ALL=C sort -k 3 -o wanted wanted
diff -u wanted found || fail 'not the files that are wanted (-), but others (+)'

dpkg-deb -e "$deb" control
printf '/etc/gatewayd/%s\n' broker.acl broker.conf gatewayd.conf >wanted
sort control/conffiles | diff -u wanted - || fail 'not the conffiles wanted'
grep -q systemd-sysusers control/postinst || fail 'postinst makes no users'
lintian --allow-root --fail-on error,warning,info,pedantic -EvIL +pedantic \
	--suppress-tags "$(paste -sd, <<'TEXT'
initial-upload-closes-no-bugs
TEXT
)" gatewayd_*.changes >log 2>&1 || fail "lintian: $(grep '^[EWIPX]:' log)"
