#!/usr/bin/python3
"""What systemd sees: Type=notify, the watchdog, SIGTERM within 5 s whatever the
peers do, SIGHUP; and a second gatewayd on the same spool."""
import os
import re
import signal
import socket
import subprocess
import time

import rig

STOP_SECONDS = 5


def stop(r):
    """SIGTERM: exit status 0 in time, and systemd is told."""
    begin = time.monotonic()
    assert r.gatewayd.stop(STOP_SECONDS) == 0, r.gatewayd.process.returncode
    r.gatewayd.read_notify()
    assert "STOPPING=1" in r.gatewayd.messages, r.gatewayd.messages
    return time.monotonic() - begin


def said_goodbye(part, client_id):
    """Whether the broker got DISCONNECT from its last connection.  client_id:
    a pattern."""
    lines = re.findall("Client %s (.*)" % client_id, part.log())
    return lines and lines[-1] == "disconnected."


class Blackhole:
    """An address at which SYNs get no answer: the queue of the listener is
    full."""

    def __init__(self):
        self.sockets = [socket.socket()]
        self.sockets[0].bind(("127.0.0.1", 0))
        self.sockets[0].listen(0)
        self.port = self.sockets[0].getsockname()[1]
        while True:
            s = socket.socket()
            s.settimeout(0.3)
            self.sockets.append(s)
            try:
                s.connect(("127.0.0.1", self.port))
            except socket.timeout:
                return

    def close(self):
        for s in self.sockets:
            s.close()


def ready_with_everything_down():
    with rig.Rig(start=False) as r:
        r.gatewayd.start()
        assert r.gatewayd.messages[0] == "READY=1" or \
            "READY=1" in r.gatewayd.messages
        r.gatewayd.wait_status(
            r"^uplink down \(localhost:%d: Connection refused; nothing listens "
            r"there: .*\), (next try in \ds|trying now); backlog 0; in 0, "
            r"out 0, down 0, dropped 0; 0 msg/s$" % r.cloud_port)
        assert stop(r) < STOP_SECONDS


def the_status_line_tells_how_things_are():
    with rig.Rig(serial=()) as r:
        r.gatewayd.wait_status(
            r"^uplink connected to localhost:%d; backlog 0; in 0, out 0, "
            r"down 0, dropped 0; 0 msg/s$" % r.cloud_port)
        dev = r.device("dev1").wait_up()
        dev.publish_all([("dt/dev1/n", b"%d" % n) for n in range(500)])
        r.gatewayd.wait_status(r"backlog 0; in 500, out 500, .* [1-9]\d* msg/s")
        r.gatewayd.wait_status(r"in 500, out 500, .*; 0 msg/s")
        r.cloud.stop()
        dev.publish_all([("dt/dev1/n", b"x")] * 7)
        r.gatewayd.wait_status(r"^uplink down \(.*backlog 7; in 507, out 500")
        r.drop_in("90.conf", 'uplink : { host = ""; };')
        r.gatewayd.reload()
        r.gatewayd.wait_status("^no uplink configured: set uplink.host; "
                               "backlog 7;")


def the_watchdog_is_fed_from_the_loop():
    with rig.Rig(serial=(), start=False) as r:
        argv = r.gatewayd.argv
        # As systemd does it: the pid is known to the child only.
        r.gatewayd.argv = ["/bin/sh", "-c",
                           'WATCHDOG_PID=$$ exec "$@"', "sh"] + argv
        r.gatewayd.env["WATCHDOG_USEC"] = "800000"
        r.gatewayd.start()

        def pings():
            r.gatewayd.read_notify()
            return r.gatewayd.messages.count("WATCHDOG=1")
        rig.wait_until(lambda: pings() >= 4, "four pings")
        r.gatewayd.kill(signal.SIGSTOP)
        before = pings()
        time.sleep(1)
        assert pings() == before, "who pings?"
        r.gatewayd.kill(signal.SIGCONT)
        rig.wait_until(lambda: pings() > before, "it goes on")
        stop(r)
        # Meant for another process: none.
        r.gatewayd.argv = argv
        r.gatewayd.env["WATCHDOG_PID"] = "1"
        r.gatewayd.start()
        time.sleep(1)
        assert pings() == 0


def a_clean_stop_says_goodbye_to_both_sides():
    with rig.Rig() as r:
        r.wait_up()
        stop(r)
        assert said_goodbye(r.cloud, "gateway-1"), r.cloud.log()
        assert said_goodbye(r.broker, "gatewayd-[0-9a-f]+"), r.broker.log()
        r.gatewayd.start()
        r.wait_up()
        r.gatewayd.kill(signal.SIGINT)
        assert r.gatewayd.process.wait(STOP_SECONDS) == 0


def publish_until(dev, name, condition):
    """Keep publishing until condition(); the payloads and the mids."""
    sent = []
    while not condition():
        for _ in range(50):
            payload = b"%s %d" % (name, len(sent))
            sent.append((payload, dev.publish("dt/dev1/n", payload)))
        time.sleep(0.02)
    return sent


def stopped_under_load_nothing_is_lost_or_comes_twice():
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        dev = r.device("dev1").wait_up()
        sent = publish_until(
            dev, b"before", lambda: r.gatewayd.counters()["in"] >= 1000)
        r.gatewayd.kill(signal.SIGTERM)
        sent += publish_until(
            dev, b"after", lambda: not r.gatewayd.is_running())
        assert r.gatewayd.process.returncode == 0
        assert said_goodbye(r.cloud, "gateway-1"), r.cloud.log()
        assert said_goodbye(r.broker, "gatewayd-[0-9a-f]+"), r.broker.log()
        assert "stopping without a goodbye" not in r.gatewayd.log()
        r.gatewayd.start()
        rig.wait_until(lambda: all(dev.is_acked(m) for _, m in sent), "PUBACKs")
        r.gatewayd.wait_status("backlog 0; in %d, out %d," % (
            len(sent), len(sent)), 30)
        rig.wait_until(lambda: len(set(viewer.payloads())) >= len(sent),
                       "%d messages in the cloud" % len(sent))
        got = [p for _, p in viewer.received]
        assert got == [p for p, _ in sent], "nothing comes twice"


def stopped_while_a_peer_hangs():
    """The cloud, then the local broker does not take a byte any more: what is
    stored stays stored."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#", clean=False)
        r.wait_up()
        dev = r.device("dev1").wait_up()
        big = [("dt/dev1/big", b"%d" % n + bytes(800000)) for n in range(40)]
        r.cloud.kill(signal.SIGSTOP)
        dev.publish_all(big)
        r.gatewayd.wait_status("backlog 40;")
        stop(r)
        assert "warning: stopping without a goodbye" in r.gatewayd.log()
        r.cloud.kill(signal.SIGCONT)
        r.gatewayd.start()
        r.gatewayd.wait_status("backlog 0; in 40, out 40", 30)
        rig.wait_until(lambda: len(set(viewer.received)) >= 40, "all in the "
                       "cloud")
        assert list(dict.fromkeys(viewer.received)) == big
        r.broker.kill(signal.SIGSTOP)
        stop(r)
        r.broker.kill(signal.SIGCONT)


def stopped_while_it_connects():
    """To where nobody answers, and to who says nothing after TCP."""
    hole, mute = Blackhole(), socket.create_server(("127.0.0.1", 0))
    with rig.Rig(serial=(), start=False) as r:
        r.broker.start()
        for port in (hole.port, mute.getsockname()[1]):
            r.uplink_port = port
            r.write_gatewayd()
            r.gatewayd.start()
            r.gatewayd.wait_status("uplink connecting to localhost:%d" % port)
            dev = r.device("dev1").wait_up()
            dev.publish_all([("dt/dev1/x", b"x")])
            used = r.gatewayd.cpu_seconds()
            time.sleep(0.5)
            assert r.gatewayd.cpu_seconds() - used < 0.2, "it spins"
            assert stop(r) < STOP_SECONDS
            assert "without a goodbye" not in r.gatewayd.log()
            dev.close()
        r.gatewayd.start()
        r.gatewayd.wait_status("backlog 2;")
        stop(r)
    hole.close()
    mute.close()


def reload_takes_routes_and_ports():
    with rig.Rig(serial=("s1", "s2"), start=False) as r:
        port = r.ttys["s2"].port
        del r.ttys["s2"]
        r.write_gatewayd()
        r.start()
        spare = rig.Cable(r, "tty-spare", (port, port + "-device"))
        spare.start()
        try:
            viewer = r.viewer("#")
            r.wait_up()
            mark = len(r.gatewayd.log())
            r.drop_in("60-more.conf", """
                routes : { alarms : { direction = "up"; filter = "alarm/#"; };
                           telemetry : { cloud_prefix = "p/"; };
                           config : { direction = "down";
                                      filter = "config/{device}"; }; };
                serial : { s2 : { device = "%s"; }; };""" % port)
            r.gatewayd.reload()
            r.gatewayd.wait_log("info: reload: .* is in force", start=mark)
            r.gatewayd.wait_log("serial s2: .* is open\n", start=mark)
            tty = rig.TtyDevice(port + "-device")
            tty.send(b"from s2\n")
            assert viewer.wait_payload(b"from s2") == "p/dt/s2/line"
            subprocess.run(["mosquitto_pub", "--unix", r.path("run/mqtt.sock"),
                            "-t", "alarm/fire", "-m", "!", "-q", "1"],
                           check=True)
            assert viewer.wait_payload(b"!") == "alarm/fire"
            viewer.publish("config/s2", b"to s2")
            assert tty.wait_line() == b"to s2\n"
            # And back: what is no longer routed is not subscribed to.
            os.unlink(r.path("etc/conf.d/60-more.conf"))
            r.gatewayd.reload()
            r.gatewayd.wait_log("local: no longer subscribed to 'alarm/#'")
            r.gatewayd.wait_log("uplink: no longer subscribed to 'config/\\+'")
            subprocess.run(["mosquitto_pub", "--unix", r.path("run/mqtt.sock"),
                            "-t", "alarm/fire", "-m", "no", "-q", "1"],
                           check=True)
            tty.send(b"nobody listens\n")
            r.device("dev1").wait_up().publish_all([("dt/dev1/x", b"end")])
            assert viewer.wait_payload(b"end") == "dt/dev1/x"
            assert viewer.payloads("alarm/") == ["!"]
            assert "nobody listens" not in viewer.payloads()
            # Nobody was thrown out by any of it.
            assert r.cloud.log().count("as gateway-1 ") == 1
            assert r.broker.log().count("as gatewayd-") == 1
            assert r.gatewayd.log().count("s1 is open") == 1
            tty.close()
        finally:
            spare.stop()


def reload_changes_the_uplink():
    """To another cloud; also while the old one hangs with a full socket."""
    with rig.Rig(serial=()) as r:
        dev = r.device("dev1").wait_up()
        r.wait_up()
        first, r.cloud_port = r.cloud_port, rig.free_port()
        os.makedirs(r.path("state-cloud2"))
        with open(r.path("cloud/cloud.conf")) as f:
            r.write("cloud/cloud2.conf", f.read().replace(
                str(first), str(r.cloud_port)).replace(
                    "state-cloud", "state-cloud2"))
        second = rig.Broker(r, "cloud2", r.path("cloud/cloud2.conf"),
                            ("127.0.0.1", r.cloud_port))
        second.start()
        try:
            viewer = r.viewer("#")
            r.cloud.kill(signal.SIGSTOP)
            big = [("dt/dev1/big", b"%d" % n + bytes(1000000))
                   for n in range(20)]
            dev.publish_all(big)
            r.gatewayd.wait_status("backlog 20;")
            r.drop_in("90.conf", "uplink : { port = %d; };" % r.cloud_port)
            r.gatewayd.reload()
            r.gatewayd.wait_status("uplink connected to localhost:%d"
                                   % r.cloud_port)
            r.gatewayd.wait_status("backlog 0; in 20, out 20")
            rig.wait_until(lambda: len(viewer.received) >= 20, "all of them")
            assert viewer.received == big
            assert r.broker.log().count("as gatewayd-") == 1, "local was hit"
        finally:
            second.stop()


def two_reloads_in_quick_succession():
    """The uplink is switched off and on again while its goodbye is stuck: it
    comes back by itself."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("dt/#", clean=False)
        dev = r.device("dev1").wait_up()
        r.wait_up()
        r.cloud.kill(signal.SIGSTOP)
        dev.publish_all([("dt/dev1/n", b"out")])
        r.gatewayd.wait_status("backlog 1;")
        r.drop_in("90.conf", 'uplink : { host = ""; };')
        r.gatewayd.reload()
        os.unlink(r.path("etc/conf.d/90.conf"))
        r.gatewayd.reload()
        r.cloud.kill(signal.SIGCONT)
        r.gatewayd.wait_status("uplink connected to .*; backlog 0; in 1, out 1")
        dev.publish_all([("dt/dev1/n", b"after")])
        viewer.wait_payload(b"after")
        r.gatewayd.wait_status("uplink connected to .*; backlog 0; in 2, out 2")
        # And with nothing out.
        r.cloud.kill(signal.SIGSTOP)
        r.drop_in("90.conf", 'uplink : { host = ""; };')
        r.gatewayd.reload()
        os.unlink(r.path("etc/conf.d/90.conf"))
        r.gatewayd.reload()
        r.cloud.kill(signal.SIGCONT)
        dev.publish_all([("dt/dev1/n", b"end")])
        viewer.wait_payload(b"end")
        r.gatewayd.wait_status("uplink connected to .*; backlog 0; in 3, out 3")
        assert list(dict.fromkeys(viewer.payloads())) == [
            "out", "after", "end"], viewer.payloads()


def a_wrong_configuration_changes_nothing():
    with rig.Rig() as r:
        viewer = r.viewer("#")
        r.wait_up()
        mark = len(r.gatewayd.log())
        r.drop_in("90-wrong.conf", 'uplink : { prot = 1; inflight = 5000; };\n'
                  'routes : { telemetry : { cloud_prefix = "new/"; }; };\n'
                  'spool : { max_size = 7; };\n')
        r.gatewayd.reload()
        r.gatewayd.wait_log("error: reload: the old configuration stays in "
                            "force; correct .*gatewayd.conf", start=mark)
        log = r.gatewayd.log()[mark:]
        for text in (r"/90-wrong.conf:1: uplink\.prot: unknown key",
                     r"/90-wrong.conf:1: uplink\.inflight: .*out of range",
                     r"/90-wrong.conf:3: spool\.max_size: .*write"):
            assert re.search("error: .*" + text, log), (text, log)
        r.drop_in("90-wrong.conf", 'uplink : { port = "')
        r.gatewayd.reload()
        r.gatewayd.wait_log("error: .*/90-wrong.conf:1: syntax: ", start=mark)
        os.rename(r.path("etc/gatewayd.conf"), r.path("etc/away"))
        r.gatewayd.reload()
        r.gatewayd.wait_log("error: .*/gatewayd.conf:0: file: cannot be read",
                            start=mark)
        tty = r.ttys["s1"].open_device()
        tty.send(b"as before\n")
        assert viewer.wait_payload(b"as before") == "dt/s1/line"
        assert r.cloud.log().count("as gateway-1 ") == 1
        assert r.broker.log().count("as gatewayd-") == 1
        assert r.gatewayd.log().count("s1 is open") == 1
        os.rename(r.path("etc/away"), r.path("etc/gatewayd.conf"))
        os.unlink(r.path("etc/conf.d/90-wrong.conf"))
        r.gatewayd.reload()
        r.gatewayd.wait_log("info: reload: .* is in force", start=mark)
        # A storm of reloads is no harm either.
        for _ in range(30):
            r.gatewayd.kill(signal.SIGHUP)
        tty.send(b"after the storm\n")
        viewer.wait_payload(b"after the storm")
        assert r.cloud.log().count("as gateway-1 ") == 1
        tty.close()


def a_second_gatewayd_is_refused():
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        done = subprocess.run(r.gatewayd.argv, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, check=False,
                              timeout=20 * rig.SLOW)
        assert done.returncode == 1, done
        assert re.search(r"error: spool: \S+/state/spool.db is in use by "
                         "another process, most likely a second gatewayd: "
                         "stop that one first", done.stderr), done.stderr
        r.device("dev1").wait_up().publish_all([("dt/dev1/x", b"goes on")])
        viewer.wait_payload(b"goes on")
        assert r.broker.log().count("as gatewayd-") == 1, "it even connected"


if __name__ == "__main__":
    rig.main([
        ready_with_everything_down,
        the_status_line_tells_how_things_are,
        the_watchdog_is_fed_from_the_loop,
        a_clean_stop_says_goodbye_to_both_sides,
        stopped_under_load_nothing_is_lost_or_comes_twice,
        stopped_while_a_peer_hangs,
        stopped_while_it_connects,
        reload_takes_routes_and_ports,
        reload_changes_the_uplink,
        two_reloads_in_quick_succession,
        a_wrong_configuration_changes_nothing,
        a_second_gatewayd_is_refused,
    ])
