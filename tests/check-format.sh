#!/bin/sh
# Every C file is as .clang-format wants it.
cd "${srcdir:-.}" || exit 1
command -v clang-format >/dev/null || {
	echo "clang-format is missing: not checked"
	exit 77
}
find base spool localbus bridge gatewayd tests -name '*.[ch]' -print0 |
	xargs -0 clang-format --dry-run -Werror
