#!/usr/bin/python3
"""What a broker sends again after an interruption is taken in once, and what
only looks like it is not lost."""
import random
import sqlite3
import time

import it_down
import rig


def accepted_down(r):
    """How many messages of the cloud were stored, by the spool's counters."""
    db = sqlite3.connect(r.path("state/spool.db"))
    row = db.execute("SELECT value FROM state WHERE key='count.down.accepted'")
    value = row.fetchone()
    db.close()
    return int.from_bytes(value[0], "little") if value else 0


def a_used_identifier_with_equal_contents_is_a_new_message():
    """Many brokers count packet identifiers from 1 again on each connection: a
    command that is equal to an earlier one is not its repetition."""
    with it_down.stub_rig() as r:
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.gatewayd.wait_log("local: connected")
        r.stub.deliver(b"cmd/dev1/door", b"open", mid=1)
        r.stub.session_present = True
        for n in range(2, 4):
            r.stub.wait_reconnect(r.stub.hang_up())
            r.stub.deliver(b"cmd/dev1/door", b"open", mid=1)
            rig.wait_until(lambda: len(dev1.received) == n,
                           lambda: "%d commands; there are: %s"
                           % (n, dev1.received))
        r.stub.close()


def commands_are_stored_once_though_gatewayd_is_killed():
    """mosquitto keeps to no limit while it empties a queue."""
    rng, n = random.Random(2), 5000
    with rig.Rig(devices=1) as r:
        r.wait_up()
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        viewer = r.viewer().wait_up()
        r.gatewayd.kill()
        want = [("cmd/dev1/x", b"%d" % i) for i in range(n)]
        viewer.publish_all(want)
        for kills in range(100):
            r.gatewayd.start()
            time.sleep(rng.uniform(0.03, 0.1))
            r.gatewayd.kill()
            if accepted_down(r) >= n:
                break
        r.gatewayd.start()
        rig.wait_until(lambda: set(want) <= set(dev1.received),
                       lambda: "all commands; there are %d"
                       % len(set(dev1.received)), 30)
        r.gatewayd.stop()
        stored = accepted_down(r)
        print("kills: %d; of %d commands %d were stored, %d given to the device"
              % (kills + 1, n, stored, len(dev1.received)))
        assert stored == n, stored


if __name__ == "__main__":
    rig.main([a_used_identifier_with_equal_contents_is_a_new_message,
              commands_are_stored_once_though_gatewayd_is_killed])
