#!/usr/bin/python3
"""Faults that need a network of their own: a resolver that hangs, and no route
at all.  gatewayd alone runs in a network namespace; its spool and the unix
socket of the local broker are where they always are."""
import os
import sys
import time

import faults
import netns
import rig

HOST = "cloud.test"
ADDRESS = "192.0.2.1"  # RFC 5737; nowhere but in the namespace
# Threads that may sit in the resolver, beside the one with the loop.
RESOLVING_MAX = 4


class NetnsSite(faults.Site):
    """A site whose gatewayd is alone with a DNS server and the proxy."""

    def __init__(self):
        self.ns = netns.Namespace()
        self.dns = netns.Dns(self.ns)
        super().__init__(
            'connect_timeout = "1s";', start=False,
            listener=self.ns.call(lambda: faults.listen_on("0.0.0.0")))
        faults.issue(self.path("cloud"), self.path("cloud/server"),
                     names="DNS:localhost,DNS:%s,IP:%s" % (HOST, ADDRESS))
        self.gatewayd.argv = self.ns.command(self.gatewayd.argv)
        self.use_host(HOST)
        self.start()

    def use_host(self, host):
        self.drop_in("90-host.conf", 'uplink : { host = "%s"; };\n' % host)


site = faults.shared(NetnsSite)


def a_resolver_that_hangs():
    """The loop goes on, and the threads that hang do not become many."""
    s = site()
    s.wait_drained()
    since, cpu = time.monotonic(), s.gatewayd.cpu_seconds()
    start = len(s.gatewayd.log())
    words = ["uplink: cannot resolve '%s'" % HOST, "uplink.host",
             "DNS server in /etc/resolv.conf"]
    s.dns.mode = "hold"
    s.proxy.cut()
    try:
        rig.wait_until(lambda: s.dns.held, "a question to the DNS server")
        # The resolver waits 30 s for the answer; the devices do not.
        s.dev.publish_all([("dt/dev1/hang", b"taken")], seconds=10)
        s.wait_line(words, start)
        s.publish()
        s.gatewayd.wait_status("uplink down.*backlog 21;")
        # Time for more tries than there may be threads.
        rig.wait_until(lambda: time.monotonic() > since + 10, "10 s")
        threads = len(os.listdir("/proc/%d/task" % s.gatewayd.pid))
        assert 2 <= threads <= 1 + RESOLVING_MAX, "%d threads" % threads
        s.check_quiet(words, start, 3)
        s.check_cpu(cpu, since)
    finally:
        s.dns.mode = "answer"
    s.wait_drained()


def a_name_that_does_not_exist():
    s = site()

    def begin():
        s.dns.mode = "deny"
        s.proxy.cut()

    def mend():
        s.dns.mode = "answer"
    s.outage(["uplink: cannot resolve '%s'" % HOST,
              "Name or service not known", "uplink.host"],
             begin, mend, tries=0)


def no_route():
    s = site()

    def begin():
        s.use_host(ADDRESS)
        s.gatewayd.reload()
    s.outage(["%s:%d" % (ADDRESS, s.proxy.port), "Network is unreachable",
              "no route to it", "check this machine's network"], begin,
             lambda: s.ns.ip("addr", "add", ADDRESS + "/32", "dev", "lo"),
             tries=0, lines=4)


def sigterm_while_the_resolver_hangs():
    """It ends in time, and what it had is there at the next start."""
    s = site()
    s.dns.mode = "hold"
    s.use_host(HOST)
    s.gatewayd.reload()
    rig.wait_until(lambda: s.dns.held, "a question to the DNS server")
    s.publish()
    status = s.gatewayd.stop(5)
    assert status == 0, status
    s.dns.mode = "answer"
    s.gatewayd.start()
    s.wait_drained()


def nothing_was_lost():
    s = site()
    assert "taken" in s.arrived()
    s.finish(1)  # that is one more


if __name__ == "__main__":
    if not netns.can_make_namespaces():
        print("skip: this needs root, and network namespaces")
        sys.exit(77)
    rig.main([
        a_resolver_that_hangs,
        a_name_that_does_not_exist,
        no_route,
        sigterm_while_the_resolver_hangs,
        nothing_was_lost,
    ])
