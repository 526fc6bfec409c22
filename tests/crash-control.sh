#!/bin/sh
# The proof that tests/it_crash.sh can fail, for `make check-crash-control`:
# builds a gatewayd that is broken on purpose (configure --enable-early-puback:
# the PUBACK leaves before the commit) in the sub-folder early-puback, and
# demands that the test finds lost messages there.
set -eu
src=${srcdir:?run it by: make check-crash-control}
build=${builddir:?run it by: make check-crash-control}
export srcdir builddir

if ! test -e "$build/tests/recorder.so"; then
	echo "skipped: tests/recorder.so needs mosquitto-dev" >&2
	exit 77
fi
mkdir -p "$build/early-puback"
cd "$build/early-puback"
test -e Makefile || "$src/configure" --enable-early-puback >configure.log
make gatewayd/gatewayd >make.log

TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/gwearly-XXXXXX") # a failed test keeps its
trap 'rm -rf "$TMPDIR"' EXIT                         # folder there
export TMPDIR
if CRASH_CYCLES=${CRASH_CYCLES:-30} GATEWAYD=$PWD/gatewayd/gatewayd \
	/bin/sh "$src/tests/it_crash.sh" >test.log 2>&1; then
	echo "FAILED: it_crash passes with a build that acknowledges before" \
		"it stores; see $PWD/test.log" >&2
	exit 1
fi
if ! grep 'lost: .* has a PUBACK for' test.log; then
	echo "FAILED: it_crash failed, but not for lost messages;" \
		"see $PWD/test.log" >&2
	exit 1
fi
echo "ok: it_crash finds what such a build loses"
