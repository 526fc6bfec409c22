#!/bin/sh
# At least 50 cycles of SIGKILL at random moments under load, on gatewayd and on
# the cloud's broker: nothing that a device has a PUBACK for may be lost.  What
# is demanded in full is said in crash.py.
#
# CRASH_CYCLES and CRASH_SEED set the number of kills and the random seed.
exec /usr/bin/python3 "$(dirname "$0")/crash.py" "$@"
