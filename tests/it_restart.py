#!/usr/bin/python3
"""Each of the three parts goes away and comes back, under load: nothing that a
device got a PUBACK for is lost."""
import signal
import threading

import rig

WINDOW = 100  # uplink.inflight: most messages to come twice at an interruption


class Load:
    """A device that publishes some hundred messages a second until stop()."""

    def __init__(self, client, topic):
        self.client, self.topic = client, topic
        self.sent, self.mids = [], []
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.is_over.wait(0.002):
            self.sent.append(b"%d" % len(self.sent))
            self.mids.append(self.client.publish(self.topic, self.sent[-1]))

    def wait_sent(self, more):
        goal = len(self.sent) + more
        rig.wait_until(lambda: len(self.sent) >= goal, "%d messages" % goal)

    def stop(self):
        """Stop, and wait until every message has its PUBACK."""
        self.is_over.set()
        self.thread.join()
        rig.wait_until(lambda: all(self.client.is_acked(m) for m in self.mids),
                       "PUBACKs for %d messages" % len(self.mids), 30)


def check(r, viewer, sent, doubles, in_order=True):
    """All of `sent` is there, in order, and not too much of it twice."""
    r.gatewayd.wait_status("backlog 0;", 30)
    rig.wait_until(lambda: len(set(viewer.payloads())) >= len(sent),
                   lambda: "%d messages; there are %d" % (
                       len(sent), len(set(viewer.payloads()))), 30)
    got = [p for _, p in viewer.received]
    first = list(dict.fromkeys(got))
    assert set(first) == set(sent), "others than those"
    wrong = [(g, s) for g, s in zip(first, sent) if g != s]
    assert not wrong or not in_order, "not in order: %s" % wrong[:20]
    assert len(got) - len(first) <= doubles, \
        "%d came twice" % (len(got) - len(first))


def the_local_broker_keeps_what_it_has_acknowledged():
    """gatewayd is away, then the broker is restarted too: its persistence
    keeps gatewayd's session and all that is queued in it."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        assert r.gatewayd.stop() == 0
        dev = r.device("dev1").wait_up()
        sent = [b"%d" % n for n in range(1500)]  # more than the default queue
        dev.publish_all([("dt/dev1/n", p) for p in sent])
        dev.close()
        assert r.broker.stop() == 0
        r.broker.start()
        # Also what comes before gatewayd is back, as after a boot.
        dev = r.device("dev1").wait_up()
        sent += [b"new %d" % n for n in range(300)]
        dev.publish_all([("dt/dev1/n", p) for p in sent[-300:]])
        r.gatewayd.start()
        check(r, viewer, sent, 0)
        r.gatewayd.wait_status("in 1800, out 1800")


def the_local_broker_restarts_under_load():
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        load = Load(r.device("dev1").wait_up(), "dt/dev1/n")
        for _ in range(2):
            load.wait_sent(300)
            mark = len(r.gatewayd.log())
            assert r.broker.stop() == 0
            r.gatewayd.wait_log("warning: local: .*gatewayd-broker", start=mark)
            r.broker.start()
            r.gatewayd.wait_log("local: connected, session resumed", start=mark)
        load.wait_sent(300)
        load.stop()
        # What the device, whose window is as large, sends again is new to
        # the broker; and paho sends new messages before old ones then.
        check(r, viewer, load.sent, 2 * WINDOW, in_order=False)


def the_cloud_restarts_under_load():
    """The backlog grows while it is away, and drains when it is back."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#", clean=False)
        load = Load(r.device("dev1").wait_up(), "dt/dev1/n")
        load.wait_sent(300)
        assert r.cloud.stop() == 0
        r.gatewayd.wait_status(r"uplink down \(.*next try in|trying now")
        load.wait_sent(600)
        rig.wait_until(lambda: r.gatewayd.counters()["backlog"] >= 500,
                       "a backlog")
        r.cloud.start()
        load.wait_sent(300)
        load.stop()
        check(r, viewer, load.sent, WINDOW)


def the_cloud_is_frozen_for_a_moment():
    """SIGSTOP is no loss of the connection: nothing is sent twice."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        load = Load(r.device("dev1").wait_up(), "dt/dev1/n")
        load.wait_sent(200)
        r.cloud.kill(signal.SIGSTOP)
        rig.wait_until(lambda: r.gatewayd.counters()["backlog"] >= 500,
                       "a backlog")
        r.cloud.kill(signal.SIGCONT)
        load.stop()
        check(r, viewer, load.sent, 0)


def gatewayd_is_killed_under_load():
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        load = Load(r.device("dev1").wait_up(), "dt/dev1/n")
        for _ in range(3):
            load.wait_sent(200)
            r.gatewayd.kill()
            load.wait_sent(100)
            r.gatewayd.start()
        load.wait_sent(200)
        load.stop()
        check(r, viewer, load.sent, 3 * WINDOW)
        # Twice in the cloud at most, but once in the spool.
        n = len(load.sent)
        r.gatewayd.wait_status("in %d, out %d, down 0, dropped 0;" % (n, n))


def gatewayd_starts_before_the_others():
    with rig.Rig(serial=(), start=False) as r:
        r.gatewayd.start()
        r.gatewayd.wait_log("local: .*is the broker running")
        r.gatewayd.wait_status("uplink down .*backlog 0")
        used = r.gatewayd.cpu_seconds()
        r.broker.start()
        r.gatewayd.wait_log("local: connected, new session")
        dev = r.device("dev1").subscribe("cmd/dev1/#")
        sent = [b"%d" % n for n in range(300)]
        dev.publish_all([("dt/dev1/n", p) for p in sent])
        r.gatewayd.wait_status("uplink down .*backlog 300; in 300, out 0")
        r.cloud.start()
        viewer = r.viewer(clean=False)
        r.gatewayd.wait_status("uplink connected .*backlog 0; in 300, out 300")
        viewer.wait_up().publish("cmd/dev1/x", b"hello")
        dev.wait_payload(b"hello")
        assert used < 1, "%.2f s of CPU for waiting" % used


wedged = []


def a_broker_is_wedged():
    """Only begun here: it is noticed when a PUBACK is overdue for 20 s."""
    r = rig.Rig(serial=())
    wedged.append(r)
    r.wait_up()
    r.dev1 = r.device("dev1", clean=False).subscribe("cmd/dev1/#")
    r.broker.kill(signal.SIGSTOP)
    r.viewer().wait_up().publish_all([("cmd/dev1/x", b"through the ice")])


def the_wedged_broker_is_noticed():
    with wedged[0] as r:
        r.gatewayd.wait_log("local: no acknowledgement for 20 s", 40)
        r.gatewayd.wait_log("local: the broker does not answer", 40)
        assert r.gatewayd.cpu_seconds() < 2, r.gatewayd.cpu_seconds()
        r.broker.kill(signal.SIGCONT)
        r.dev1.wait_payload(b"through the ice", 30)
        r.gatewayd.wait_status("down 1, dropped 0")


if __name__ == "__main__":
    rig.main([
        a_broker_is_wedged,
        the_local_broker_keeps_what_it_has_acknowledged,
        the_local_broker_restarts_under_load,
        the_cloud_restarts_under_load,
        the_cloud_is_frozen_for_a_moment,
        gatewayd_is_killed_under_load,
        gatewayd_starts_before_the_others,
        the_wedged_broker_is_noticed,
    ])
