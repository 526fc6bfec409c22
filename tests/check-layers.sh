#!/bin/sh
# Fail when a file includes a header that its folder may not know: a line per
# folder, what it may include beside itself.
cd "${srcdir:-.}" || exit 1
grep -rH --include='*.[ch]' '^#include "' base spool rules localbus bridge \
    gatewayd gatewayctl 2>/dev/null |
awk -F'[:"]' '
function folder(path) { sub("/.*", "", path); return path }
BEGIN {
	may["base"] = ""
	may["spool"] = may["rules"] = " base "
	may["localbus"] = may["bridge"] = " base spool "
	may["gatewayctl"] = " base bridge "
	may["gatewayd"] = " base spool rules localbus bridge "
}
{
	from = folder($1)
	to = folder($3)
	if ($3 ~ "/" && to != from && index(may[from], " " to " ") == 0) {
		print $1 ": " from " may not include \"" $3 "\""
		bad = 1
	}
}
END { exit bad }'
