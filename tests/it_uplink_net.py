#!/usr/bin/python3
"""Faults of the network between gatewayd and the cloud: each is said, survived
and mended without a restart."""
import time

import faults
import rig

INFLIGHT = 20

site = faults.shared(lambda: faults.Site(
    faults.QUICK + " inflight = %d;" % INFLIGHT))


def endpoint():
    return "localhost:%d" % site().proxy.port


def a_name_that_does_not_resolve():
    s = site()

    def begin():
        s.drop_in("90-host.conf", 'uplink : { host = "nowhere.invalid"; };\n')
        s.gatewayd.reload()

    def mend():
        s.drop_in("90-host.conf", "")
        s.gatewayd.reload()
    s.outage(["uplink: cannot resolve 'nowhere.invalid'", "uplink.host",
              "DNS"], begin, mend, tries=0)


def connection_refused():
    s = site()
    s.outage([endpoint(), "Connection refused", "uplink.port"],
             s.proxy.refuse, s.proxy.listen, tries=0)


def server_that_closes_at_once():
    s = site()
    s.outage([endpoint(), "closed the connection before TLS was up",
              "uplink.port"],
             lambda: s.proxy.set("close"), lambda: s.proxy.set("pass"))


def server_that_resets_at_once():
    s = site()
    s.outage([endpoint(), "closed the connection before TLS was up",
              "uplink.port"],
             lambda: s.proxy.set("reset"), lambda: s.proxy.set("pass"))


def server_that_never_answers():
    s = site()
    s.outage([endpoint(), "did not answer within 2 s",
              "uplink.connect_timeout"],
             lambda: s.proxy.set("mute"), lambda: s.proxy.set("pass"))


def server_that_speaks_no_tls():
    s = site()
    s.outage([endpoint(), "wrong version number", "does it speak TLS",
              "uplink.port"],
             lambda: s.proxy.set("garbage"), lambda: s.proxy.set("pass"))


def half_open_with_messages_under_way():
    s = site()
    s.wait_drained()
    start, cpu = len(s.gatewayd.log()), s.gatewayd.cpu_seconds()
    begin = time.monotonic()
    before = len(s.arrived())
    s.proxy.set("stall")
    s.publish(3 * INFLIGHT)
    s.wait_line(["uplink: no acknowledgement for 5 s"], start)
    s.check_cpu(cpu, begin)
    s.proxy.set("pass")
    s.wait_drained()
    twice = len(s.arrived()) - before - 3 * INFLIGHT
    assert twice <= INFLIGHT, "%d duplicates" % twice


def half_open_and_idle():
    s = site()
    s.wait_drained()
    start, cpu = len(s.gatewayd.log()), s.gatewayd.cpu_seconds()
    begin = time.monotonic()
    s.proxy.set("stall")
    s.wait_line([endpoint(), "does not answer any more"], start)
    s.check_cpu(cpu, begin)
    s.proxy.set("pass")
    s.publish()
    s.wait_drained()


def resets_at_random_bytes():
    s = site()
    s.wait_drained()
    start, resets = len(s.gatewayd.log()), s.proxy.resets
    before = len(s.arrived())
    n = s.n
    s.proxy.set("storm")
    while s.proxy.resets < resets + 15:
        s.publish(200)
        # The storm needs something to break.
        rig.wait_until(lambda: s.gatewayd.counters()["backlog"] < 400,
                       "the backlog shrinks in spite of the storm", 60)
    cuts = s.proxy.resets - resets + 1
    s.proxy.set("pass")
    s.wait_drained()
    twice = len(s.arrived()) - before - (s.n - n)
    assert twice <= cuts * INFLIGHT, "%d duplicates of %d cuts" % (twice, cuts)
    lines = len(s.new_lines(start))
    assert lines <= 4 * cuts + 4, "%d lines for %d cuts" % (lines, cuts)


def nothing_was_lost():
    s = site()
    s.publish()
    s.gatewayd.wait_status("dropped 0;")
    # Each case counts its own.
    s.finish(INFLIGHT * (s.proxy.resets + 2))


if __name__ == "__main__":
    rig.main([
        a_name_that_does_not_resolve,
        connection_refused,
        server_that_closes_at_once,
        server_that_resets_at_once,
        server_that_never_answers,
        server_that_speaks_no_tls,
        half_open_with_messages_under_way,
        half_open_and_idle,
        resets_at_random_bytes,
        nothing_was_lost,
    ])
