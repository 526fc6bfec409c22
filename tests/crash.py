#!/usr/bin/python3
"""SIGKILL at random moments under load, on gatewayd and on the cloud's broker.

Devices publish with QoS 1 over mutual TLS all the time, each message with a
number of its own, and a serial line talks as well.  The cloud's memory is the
plugin tests/recorder.c: one line for each message, written before the broker
acknowledges it.  The local broker is not killed: its queue is its own.

At the end, when all has drained:
 - lost: a message that a device has a PUBACK for and the cloud has not: none;
 - stored twice: one message with two ids, so one that the local broker had
   repeated and that was not recognised: none;
 - sent twice: a message of a connection to the cloud that the cloud had before;
   each connection begins after a kill, and at most the window may be so;
 - ids: one epoch; each id names one message; on each connection they rise; and
   none is missing, so what has once been stored is never lost;
 - order: of each device, first occurrences are in the order of publishing;
 - conservation: in = out = the ids in the cloud, nothing waits, and what no
   route takes is counted as dropped, once each.
A serial line has no acknowledgement: what is written while gatewayd is down is
lost, and a line may be cut by the kill; they are counted, and what arrives must
be what was written.
"""

import collections
import os
import random
import re
import sys
import threading
import time

import rig

CYCLES = int(os.environ.get("CRASH_CYCLES", "60"))
SEED = int(os.environ.get("CRASH_SEED", "1"))
WINDOW = 20       # uplink.inflight
DEVICES = 4
RATE = 500        # messages a second, each device, at most
OUTSTANDING = 100  # unacknowledged, each device, at most
CONFIG = """\
uplink : { inflight = %d; retry_min = "100ms"; };
routes :
{
	telemetry : { filter = [ "dt/{device}/n", "dt/{device}/line" ]; };
	of : { direction = "up"; filter = "dt/+/of/{device}"; };
};
"""
RECORDER = os.path.join(rig.BUILD, "tests/recorder.so")


class Device:
    """Publishes without a pause and notes what is acknowledged."""

    def __init__(self, world, name):
        self.name = name
        self.client = world.device(name).wait_up()
        # Filled by the client's thread, which holds locks then: no lock here.
        self.acked_mids = collections.deque()
        self.client.paho.on_publish = (
            lambda _client, _userdata, mid: self.acked_mids.append(mid))
        self.losses = 0
        self.client.paho.on_disconnect = self.on_disconnect
        self.pending = {}  # mid -> number
        self.n_sent = 0
        self.acked = set()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def on_disconnect(self, *_):
        if not self.stopping.is_set():
            self.losses += 1

    def is_refused(self, n):
        """Whether this one is for no cloud: where its route wants a device's
        name is something else.  gatewayd takes it from the broker, counts it
        and drops it."""
        return n % 5 == 3

    def topic(self, n):
        return "dt/%s/%s" % (self.name,
                             "of/no device" if self.is_refused(n) else "n")

    def payload(self, n):
        return b"%s %d %s" % (self.name.encode(), n, b"." * (n * 37 % 211))

    @staticmethod
    def number(payload):
        return int(payload.split()[1])

    def collect(self):
        while self.acked_mids:
            self.acked.add(self.pending.pop(self.acked_mids.popleft()))

    def run(self):
        burst = max(1, RATE // 50)
        while not self.stopping.wait(burst / RATE):
            self.collect()
            for _ in range(min(burst, OUTSTANDING - len(self.pending))):
                mid = self.client.publish(self.topic(self.n_sent),
                                          self.payload(self.n_sent))
                self.pending[mid] = self.n_sent
                self.n_sent += 1

    def stop(self):
        """No more; wait for the last PUBACK."""
        self.stopping.set()
        self.thread.join()

        def is_done():
            self.collect()
            return not self.pending
        rig.wait_until(is_done, "the PUBACKs of %s" % self.name, 60)


class Line:
    """A serial device that writes numbered lines, and keeps its own time."""

    def __init__(self, tty):
        self.fd = os.open(tty.device, os.O_WRONLY | os.O_NOCTTY
                          | os.O_NONBLOCK)
        self.topic = "dt/%s/line" % os.path.basename(tty.port)
        self.n_sent = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def payload(self, n):
        return b"line %d of %d" % (n, 7 * n)

    def run(self):
        rest = b""
        while not self.stopping.wait(0.02):
            if not rest:
                rest = self.payload(self.n_sent) + b"\n"
                self.n_sent += 1
            try:
                rest = rest[os.write(self.fd, rest):]
            except BlockingIOError:
                pass  # nobody reads: again later

    def stop(self):
        self.stopping.set()
        self.thread.join()
        os.close(self.fd)


class Message:
    """One line of the recorder."""

    def __init__(self, position, line):
        self.position = position
        _kind, self.id, topic, payload = line.split(b" ")
        self.topic = unescape(topic).decode()
        self.payload = unescape(payload)
        match = re.fullmatch(rb"([0-9a-f]{8})-([0-9]+)", self.id)
        check(match, "a message with the id %r" % self.id)
        self.epoch, self.sequence = match[1], int(match[2])


def unescape(text):
    return re.sub(rb"\\x(..)", lambda m: bytes([int(m[1], 16)]), text)


def check(condition, text):
    if not condition:
        raise rig.Failed(text)


class World:
    """The rig with its load, and the killing."""

    def __init__(self, r, rng):
        self.rig, self.rng = r, rng
        self.record = r.path("record")
        self.kills = []  # (what, size of the record)
        self.cloud_deaths = []  # sizes of the record
        self.devices = []
        self.line = None
        self.log_start = 0  # of the gatewayd that runs

    def recorded_bytes(self):
        return os.path.getsize(self.record)

    def start(self):
        r = self.rig
        r.write("etc/conf.d/60-crash.conf", CONFIG % WINDOW)
        r.gatewayd.argv.append("--verbose")
        r.start()
        r.wait_up()
        self.devices = [Device(r, name) for name in r.names]
        self.line = Line(r.ttys["s1"])

    def cycle(self):
        """Wait until messages flow, and kill at a random moment after."""
        r, rng = self.rig, self.rng
        what = rng.choice(["gatewayd"] * 5 + ["cloud"] * 3 + ["both"] * 2)
        victims = {"gatewayd": [r.gatewayd], "cloud": [r.cloud],
                   "both": [r.gatewayd, r.cloud]}[what]
        rng.shuffle(victims)
        before = self.recorded_bytes()
        rig.wait_until(lambda: self.recorded_bytes() > before,
                       "the cloud gets messages; gatewayd says: %s"
                       % r.gatewayd.log()[-2000:], 30)
        time.sleep(rng.uniform(0, 0.6))
        for part in victims:
            check(part.is_running(), "%s has ended by itself:\n%s"
                  % (part.name, part.log()[-2000:]))
            part.kill()
            if part is r.cloud:
                self.cloud_deaths.append(self.recorded_bytes())
        self.kills.append((what, self.recorded_bytes()))
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0, 0.4))  # so that queues grow
        for part in reversed(victims):
            if part is r.gatewayd:
                self.log_start = len(part.log())
            part.start()

    def finish(self):
        """The load stops, and all drains; the counters then."""
        for d in self.devices:
            d.stop()
        self.line.stop()
        g = self.rig.gatewayd
        g.wait_log("local: connected", start=self.log_start)
        seen, since = None, time.monotonic()

        def is_drained():
            """Nothing waits, and nothing has moved for two seconds."""
            nonlocal seen, since
            now = (g.status(), self.recorded_bytes())
            if now != seen:
                seen, since = now, time.monotonic()
            c = g.counters()
            return (c and c["backlog"] == 0 and c["in"] == c["out"]
                    and time.monotonic() - since > 2)
        rig.wait_until(is_drained, "the backlog is 0; status: %s\n%s" % (
            g.status(), g.log()[-3000:]), 90)
        return g.counters()


class Verdict:
    """What the record says."""

    def __init__(self, world, counters):
        self.world, self.counters = world, counters
        self.failures = []
        self.connections = self.read()
        self.messages = [m for c in self.connections for m in c]
        self.first = {}  # id -> Message
        for m in self.messages:
            self.first.setdefault(m.id, m)

    def fail(self, text, *args):
        self.failures.append(text % args)

    def read(self):
        """The messages of each connection of gatewayd to the cloud."""
        deaths = list(self.world.cloud_deaths)
        connections, position = [[]], 0
        with open(self.world.record, "rb") as f:
            for line in f:
                while deaths and position >= deaths[0]:
                    deaths.pop(0)
                    connections.append([])
                if line.startswith(b"M "):
                    connections[-1].append(Message(position, line[:-1]))
                elif line == b"D gateway-1\n":
                    connections.append([])
                position += len(line)
        return [c for c in connections if c]

    def check_ids(self):
        epochs = {m.epoch for m in self.messages}
        if len(epochs) != 1:
            self.fail("%d epochs", len(epochs))
        owners = {}
        for m in self.messages:
            f = self.first[m.id]
            if (f.topic, f.payload) != (m.topic, m.payload):
                self.fail("one id for two messages: %s is %s %r and %s %r",
                          m.id, f.topic, f.payload, m.topic, m.payload)
            owners.setdefault((m.topic, m.payload), set()).add(m.id)
        for (topic, payload), ids in owners.items():
            if len(ids) > 1 and not topic.endswith("/line"):
                self.fail("stored twice: %s %r has the ids %s", topic,
                          payload[:40], sorted(ids))
        numbers = {m.sequence for m in self.messages}
        missing = set(range(1, max(numbers) + 1)) - numbers
        if missing:
            self.fail("stored and lost: %d ids are missing: %s", len(missing),
                      sorted(missing)[:20])
        for c in self.connections:
            for a, b in zip(c, c[1:]):
                if a.sequence >= b.sequence:
                    self.fail("on one connection %s came after %s", b.id, a.id)

    def check_lost(self):
        arrived = {(m.topic, m.payload) for m in self.messages}
        for d in self.world.devices:
            lost = [n for n in sorted(d.acked) if not d.is_refused(n)
                    and (d.topic(n), d.payload(n)) not in arrived]
            if lost:
                self.fail("lost: %d of %d messages that %s has a PUBACK for; "
                          "the first: %s", len(lost), len(d.acked), d.name,
                          lost[:20])
            if d.losses:
                self.fail("%s lost its connection to the local broker",
                          d.name)

    def check_order(self):
        last = {}
        for m in self.first.values():  # in the order of arrival
            if m.topic.endswith("/line"):
                continue
            n = Device.number(m.payload)
            if n <= last.get(m.topic, -1):
                self.fail("order: %s: %d came after %d", m.topic, n,
                          last[m.topic])
            last[m.topic] = n

    def check_content(self):
        known = {d.topic(0): d for d in self.world.devices}
        for m in self.first.values():
            d = known.get(m.topic)
            if d and m.payload != d.payload(d.number(m.payload)):
                self.fail("changed: %s %r", m.topic, m.payload)
            elif not d and m.topic != self.world.line.topic:
                self.fail("nobody's: %s %r", m.topic, m.payload)

    def check_line(self):
        """A kill may cut a line: then its tail is the first that comes."""
        line, n_cut, last = self.world.line, 0, -1
        sent = {line.payload(n): n for n in range(line.n_sent)}
        n_kills = sum(what != "cloud" for what, _ in self.world.kills)
        tails = {p[i:] for p in sent for i in range(1, len(p))}
        n_whole = 0
        for m in self.first.values():
            if m.topic != line.topic:
                continue
            if m.payload in sent:
                if sent[m.payload] <= last:
                    self.fail("serial line %d came after %d",
                              sent[m.payload], last)
                last = sent[m.payload]
                n_whole += 1
            elif m.payload in tails:
                n_cut += 1
            else:
                self.fail("changed on the serial line: %r", m.payload)
        if n_cut > n_kills:
            self.fail("%d serial lines are cut by %d kills", n_cut, n_kills)
        if not n_whole:
            self.fail("no serial line has arrived")
        return n_whole, n_cut

    def check_repeats(self):
        """How many of each connection the cloud had before."""
        if len(self.connections) > len(self.world.kills) + 1:
            self.fail("%d connections after %d kills", len(self.connections),
                      len(self.world.kills))
        seen, repeats = set(), []
        for c in self.connections:
            again = sum(m.id in seen for m in c)
            repeats.append(again)
            if again > WINDOW:
                self.fail("sent twice: %d after one kill; the window is %d",
                          again, WINDOW)
            seen.update(m.id for m in c)
        if len(self.world.kills) >= 20 and not any(repeats):
            self.fail("nothing was sent twice: the kills did not hit")
        return repeats

    def check_counters(self):
        want = dict(self.counters, backlog=0)
        want["in"] = want["out"] = len(self.first)
        want["dropped"] = sum(d.is_refused(n) for d in self.world.devices
                              for n in d.acked)
        if self.counters != want:
            self.fail("the counters are %s, but should be %s", self.counters,
                      want)

    def give(self):
        w = self.world
        self.check_lost()
        self.check_ids()
        self.check_order()
        self.check_content()
        repeats = self.check_repeats()
        n_whole, n_cut = self.check_line()
        self.check_counters()
        log = w.rig.gatewayd.log()
        print("kills: %s" % dict(collections.Counter(k for k, _ in w.kills)))
        print("devices: %d published and acknowledged, %d in the cloud, %d not "
              "for the cloud and dropped"
              % (sum(len(d.acked) for d in w.devices),
                 len(self.first) - n_whole - n_cut, self.counters["dropped"]))
        print("sent twice: %d, at most %d after one kill (window %d); on each "
              "connection: %s" % (sum(repeats), max(repeats), WINDOW, repeats))
        print("repeated by the local broker, recognised: %d"
              % log.count("is a repetition"))
        print("serial, without acknowledgement: %d lines written, %d arrived, "
              "%d cut by a kill" % (w.line.n_sent, n_whole, n_cut))
        check(not self.failures, "%d faults:\n  %s" % (
            len(self.failures), "\n  ".join(self.failures[:20])))


def nothing_is_lost_by_sigkill_at_random_moments():
    print("seed %d, %d cycles" % (SEED, CYCLES), flush=True)
    rng = random.Random(SEED)
    with rig.Rig(devices=DEVICES, start=False) as r:
        r.write_cloud("plugin %s\nplugin_opt_file %s\n"
                      % (RECORDER, r.path("record")))
        world = World(r, rng)
        world.start()
        try:
            for _ in range(CYCLES):
                world.cycle()
            counters = world.finish()
        finally:
            for load in world.devices + [world.line]:
                if load:
                    load.stopping.set()
        Verdict(world, counters).give()


if __name__ == "__main__":
    if not os.path.exists(RECORDER):
        print("skipped: %s is not built: install mosquitto-dev, configure and "
              "make check" % RECORDER)
        sys.exit(77)
    rig.main([nothing_is_lost_by_sigkill_at_random_moments])
