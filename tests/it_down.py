#!/usr/bin/python3
"""The way down: commands and shadow deltas of the cloud reach the device that
they name, MQTT or serial, also when a part was away; and a hostile cloud."""
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading

import rig


def mqtt_string(data):
    return struct.pack(">H", len(data)) + data


class StubCloud:
    """A cloud that sends what mosquitto never would: MQTT 3.1.1 over mutual
    TLS, one client at a time, byte by byte as the test wants it."""

    def __init__(self, r):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(r.path("cloud/server.pem"),
                                     r.path("cloud/server.key"))
        self.context.load_verify_locations(r.path("cloud/ca.pem"))
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", r.cloud_port))
        self.session_present = False
        self.connection = None
        self.connects = 0
        self.filters = set()
        self.pubacks = []
        self.published = []  # by gatewayd: (topic, payload)
        self.lock = threading.Lock()
        self.next_mid = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            try:
                self.serve_client(self.context.wrap_socket(
                    raw, server_side=True))
            except (OSError, EOFError):
                pass
            self.connection = None

    def serve_client(self, tls):
        stream = tls.makefile("rb")
        while True:
            kind, body = self.read_packet(stream)
            if kind == 1:  # CONNECT
                tls.sendall(bytes([0x20, 2, self.session_present, 0]))
                self.connects += 1
                self.connection = tls
            elif kind == 8:  # SUBSCRIBE
                size = struct.unpack_from(">H", body, 2)[0]
                self.filters.add(body[4:4 + size].decode())
                tls.sendall(b"\x90\x03" + body[:2] + b"\x01")
            elif kind == 12:  # PINGREQ
                tls.sendall(b"\xd0\x00")
            elif kind == 4:  # PUBACK
                self.pubacks.append(struct.unpack(">H", body)[0])
            elif kind == 3:  # PUBLISH with QoS 1
                size = struct.unpack_from(">H", body)[0]
                self.published.append((body[2:2 + size].decode(),
                                       body[4 + size:]))
                tls.sendall(b"\x40\x02" + body[2 + size:4 + size])
            elif kind == 14:  # DISCONNECT
                return

    @staticmethod
    def read_packet(stream):
        def take(n):
            data = stream.read(n)
            if len(data) < n:
                raise EOFError
            return data
        kind, size, shift = take(1)[0] >> 4, 0, 0
        while True:
            byte = take(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return kind, take(size)

    def wait_up(self):
        rig.wait_until(lambda: self.connection and len(self.filters) >= 9,
                       "gatewayd connected to the stub and subscribed")

    def send(self, first_byte, body):
        size, head = len(body), bytearray([first_byte])
        while True:
            head.append(size & 127 | (128 if size > 127 else 0))
            size >>= 7
            if not size:
                break
        self.connection.sendall(bytes(head) + body)

    def publish(self, topic, payload=b"hostile", mid=None, dup=False):
        """Send a PUBLISH with QoS 1; topic as bytes.  Its mid."""
        if mid is None:
            self.next_mid += 1
            mid = self.next_mid
        self.send(0x3a if dup else 0x32,
                  mqtt_string(topic) + struct.pack(">H", mid) + payload)
        return mid

    def deliver(self, topic, payload=b"hostile", **options):
        """publish(), and wait until gatewayd says that it has stored it."""
        before = len(self.pubacks)
        mid = self.publish(topic, payload, **options)
        rig.wait_until(lambda: mid in self.pubacks[before:],
                       "PUBACK %d" % mid)
        return mid

    def hang_up(self):
        """End the connection as a broken network does."""
        connects = self.connects
        self.connection.shutdown(socket.SHUT_RDWR)
        return connects

    def wait_reconnect(self, connects):
        rig.wait_until(lambda: self.connects > connects and self.connection,
                       "gatewayd has connected again")

    def close(self):
        self.listener.close()


class LocalWatcher:
    """All that anybody could get on the local broker."""

    def __init__(self, r):
        self.rig, self.path = r, r.path("log/watcher.txt")
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(
                ["mosquitto_sub", "--unix", r.path("run/mqtt.sock"),
                 "-t", "#", "-t", "$aws/#", "-t", "$share/#", "-q", "1",
                 "-F", "%t %x"], stdin=subprocess.DEVNULL, stdout=out)
        r.clients.append(self)  # so it is ended with them
        rig.wait_until(self.hears, "the watcher hears something")

    def hears(self):
        subprocess.run(["mosquitto_pub", "--unix", self.rig.path(
            "run/mqtt.sock"), "-t", "watcher", "-m", "x"], check=True)
        return self.lines(b"watcher")

    def lines(self, prefix=b""):
        with open(self.path, "rb") as f:
            return [line for line in f.read().split(b"\n")
                    if line.startswith(prefix)]

    def messages(self):
        return [line for line in self.lines()
                if line and not line.startswith(b"watcher ")]

    def close(self):
        self.process.terminate()
        self.process.wait()


def deltas_and_commands_reach_the_device_named():
    with rig.Rig() as r:
        viewer = r.viewer("#", "$aws/#")
        tty = r.ttys["s1"].open_device()
        r.wait_up()
        dev1 = r.device("dev1").subscribe("$aws/things/dev1/shadow/#",
                                          "cmd/dev1/#")
        dev2 = r.device("dev2").subscribe("$aws/things/dev2/shadow/#",
                                          "cmd/dev2/#")
        delta = "$aws/things/dev1/shadow/update/delta"
        named = "$aws/things/dev1/shadow/name/n/update/delta"
        viewer.publish_all([(delta, b'{"state":{"a":1}}'),
                            (named, b'{"state":{"b":2}}'),
                            ("cmd/dev1/x", bytes(range(256))),
                            ("cmd/dev1/empty", b""),
                            ("cmd/dev1/end", b"end")])
        dev1.wait_payload(b"end")
        assert dev1.received == [
            (delta, b'{"state":{"a":1}}'), (named, b'{"state":{"b":2}}'),
            ("cmd/dev1/x", bytes(range(256))), ("cmd/dev1/empty", b""),
            ("cmd/dev1/end", b"end")], dev1.received
        assert not dev2.received, dev2.received
        # The answers: the device's shadow, and what it says.
        update = "$aws/things/dev1/shadow/update"
        dev1.publish_all([(update, b'{"state":{"reported":{"a":1}}}')])
        assert viewer.wait_payload(
            b'{"state":{"reported":{"a":1}}}') == update
        # The serial device: one line each, whatever is in the payload.
        viewer.publish_all([("cmd/s1/x", b"read 1"),
                            ("cmd/s1/x", b"two\nlines\r\nand\0nul"),
                            ("cmd/s1/x", b"")])
        assert tty.wait_line() == b"read 1\n"
        assert tty.wait_line() == b"two lines  and nul\n"
        assert tty.wait_line() == b"\n"
        tty.send(b"answer 1\n")
        assert viewer.wait_payload(b"answer 1") == "dt/s1/line"
        r.gatewayd.wait_status("backlog 0; in 2, out 2, down 8, dropped 0")
        tty.close()


def a_line_may_carry_its_topic():
    with rig.Rig(start=False) as r:
        r.drop_in("60-s1.conf", 'serial : { s1 : { down = "topic"; line_end = '
                  '"crlf"; topic = "dt/s1/answer"; }; };')
        r.start()
        viewer = r.viewer("#")
        tty = r.ttys["s1"].open_device()
        r.wait_up()
        viewer.publish_all([("cmd/s1/set/speed", b"7"), ("cmd/s1/x", b"")])
        assert tty.wait_line() == b"cmd/s1/set/speed 7\r\n"
        assert tty.wait_line() == b"cmd/s1/x \r\n"
        tty.send(b"ok\r\n")
        assert viewer.wait_payload(b"ok") == "dt/s1/answer"
        tty.close()


def a_command_waits_for_an_unplugged_tty():
    with rig.Rig() as r:
        viewer = r.viewer("#")
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.wait_up()
        r.ttys["s1"].pull_out()
        r.gatewayd.wait_log("serial s1: .*waiting for it to come back")
        viewer.publish_all([("cmd/s1/x", b"line %d" % n) for n in range(20)])
        # Its waiting holds nobody up.
        viewer.publish_all([("cmd/dev1/x", b"others go on")])
        dev1.wait_payload(b"others go on")
        r.gatewayd.kill()  # and it lasts over a kill
        r.gatewayd.start()
        r.ttys["s1"].plug_in()
        tty = r.ttys["s1"].open_device()
        got = [tty.wait_line() for _ in range(20)]
        assert got == [b"line %d\n" % n for n in range(20)], got
        r.gatewayd.wait_status("down 21,")
        assert not tty.receive(), tty.bytes
        tty.close()


def commands_wait_in_the_cloud_while_gatewayd_is_away():
    """Stopped, killed, or cut off: each command comes once, in order."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer()
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.wait_up()
        sent = []

        def send(what):
            sent.extend(b"%s %d" % (what, n) for n in range(150))
            viewer.publish_all([("cmd/dev1/x", p) for p in sent[-150:]])

        assert r.gatewayd.stop() == 0
        send(b"stopped")
        r.gatewayd.start()
        r.gatewayd.wait_status("down 150,")
        r.gatewayd.kill()
        send(b"killed")
        r.gatewayd.start()
        dev1.wait_payload(sent[-1])
        mark = len(r.gatewayd.log())
        r.drop_in("90-cut.conf", "uplink : { port = %d; };" % rig.free_port())
        r.gatewayd.reload()
        r.gatewayd.wait_log("uplink: .*Connection refused", start=mark)
        send(b"cut off")
        r.drop_in("90-cut.conf", "uplink : { port = %d; };" % r.cloud_port)
        r.gatewayd.reload()
        dev1.wait_payload(sent[-1])
        r.gatewayd.wait_status("down 450, dropped 0")
        got = [p for _, p in dev1.received]
        assert got == sent, [(g, s) for g, s in zip(got, sent) if g != s][:3]


def the_same_with_mqtt_311():
    with rig.Rig(serial=(), uplink='mqtt_version = "3.1.1";') as r:
        viewer = r.viewer()
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.wait_up()
        r.gatewayd.kill()
        sent = [b"%d" % n for n in range(150)]
        viewer.publish_all([("cmd/dev1/x", p) for p in sent])
        r.gatewayd.start()
        dev1.wait_payload(sent[-1])
        r.gatewayd.wait_status("down 150, dropped 0")
        assert [p for _, p in dev1.received] == sent


def stub_rig(**options):
    """A rig whose cloud is the stub; a smaller session than in MQTT 5."""
    r = rig.Rig(serial=("s1",), start=False,
                uplink='mqtt_version = "3.1.1";', **options)
    r.stub = StubCloud(r)
    r.broker.start()
    r.ttys["s1"].plug_in()
    r.gatewayd.start()
    r.stub.wait_up()
    return r


def what_is_acknowledged_to_the_cloud_is_delivered():
    """With the local broker down and gatewayd killed after its PUBACK."""
    with stub_rig() as r:
        dev1 = r.device("dev1", clean=False).subscribe("cmd/dev1/#")
        r.broker.stop()
        r.gatewayd.wait_log("local: .*is the broker running")
        for n in range(10):
            r.stub.deliver(b"cmd/dev1/x", b"stored %d" % n)
        r.gatewayd.kill()
        r.gatewayd.start()
        r.broker.start()
        dev1.wait_payload(b"stored 9")
        r.gatewayd.wait_status("down 10,")
        assert [p for _, p in dev1.received] == [
            b"stored %d" % n for n in range(10)], dev1.received
        r.stub.close()


def a_repetition_is_delivered_once():
    """The cloud did not get our PUBACKs and sends again; and a kill of
    gatewayd in between.  In a new session equal messages are new ones."""
    with stub_rig() as r:
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.gatewayd.wait_log("local: connected")
        mids = [r.stub.deliver(b"cmd/dev1/x", b"%d" % n) for n in range(5)]
        r.stub.deliver(b"cmd/../x")
        r.stub.session_present = True
        for again in ("hang up", "kill"):
            connects = r.stub.connects
            if again == "kill":
                r.gatewayd.kill()
                r.gatewayd.start()
            else:
                r.stub.hang_up()
            r.stub.wait_reconnect(connects)
            for n, mid in enumerate(mids):
                r.stub.deliver(b"cmd/dev1/x", b"%d" % n, mid=mid, dup=True)
            r.stub.deliver(b"cmd/../x", mid=mids[-1] + 1, dup=True)
        r.stub.deliver(b"cmd/dev1/x", b"new", mid=mids[-1] + 2)
        dev1.wait_payload(b"new")
        assert dev1.payloads() == ["0", "1", "2", "3", "4", "new"], \
            dev1.payloads()
        r.gatewayd.wait_status("down 6, dropped 1;")
        r.stub.session_present = False
        r.stub.wait_reconnect(r.stub.hang_up())
        r.stub.deliver(b"cmd/dev1/x", b"0", mid=mids[0])
        rig.wait_until(lambda: len(dev1.received) == 7, "the new 0")
        r.stub.close()


# Refused by our routes: counted, logged, acknowledged so that it ends.
HOSTILE = [
    b"$SYS/x", b"$SYS", b"$CONTROL/dynamic-security/v1", b"$share/g/cmd/dev1/x",
    b"$share/cmd/dev1/x", b"cmd/", b"cmd//x", b"cmd/../x", b"cmd/./x", b"/",
    b"cmd", b"cmd/dev1\xc2\xa0/x", b"cmd/ dev1/x", b"cmd/{device}/x",
    b"cmd/dev%31/x", b"cmd/" + b"d" * 65 + b"/x", b"dt/dev1/x", b"CMD/dev1/x",
    b"cmd/dev1\xe2\x80\xae/x", b"xcmd/dev1/x", b"/cmd/dev1/x",
    b"$aws/things/dev1/shadow/update", b"$aws/things/dev1/jobs/notify",
    b"$aws/things/../shadow/update/delta", b"$aws/things//shadow/get/accepted",
    b"$aws/things/dev1/shadow/name/a/b/update/delta", b"aws", b" ", b"#x",
    b"cmd/+/x", b"cmd/#", b"cmd/dev1/+", b"cmd/dev1/#", b"cmd/dev1/a+b",
    b"+/dev1/x", b"#", b"+", b"cmd/../%n%s",
]
# No topics at all: libmosquitto ends the connection over them, as MQTT asks.
MALFORMED = [b"", b"cmd/dev1/\0x", b"cmd/dev1\0/x", b"cmd/dev1/\xff\xfe",
             b"cmd/dev1/\xed\xa0\x80", b"cmd/dev1/\xef\xbf\xbf", b"cmd/dev1/\xc0\xaf",
             b"cmd/dev1/\x1b[2J", b"cmd/dev1/x\nerror: forged line"]


def check_log_is_clean(text):
    """No control character got into the log, and no forged line."""
    for line in text.split("\n")[:-1]:
        assert line.split(": ")[0] in ("info", "warning", "error"), line
        assert line.isprintable() or "\u202e" in line \
            or "\ufffd" in line, ascii(line)


def a_hostile_cloud_gets_nothing_through():
    with stub_rig() as r:
        tty = r.ttys["s1"].open_device()
        watcher = LocalWatcher(r)
        r.gatewayd.wait_log("local: connected")
        for topic in HOSTILE:
            r.stub.deliver(topic)
        r.gatewayd.wait_status("dropped %d;" % len(HOSTILE))
        log = r.gatewayd.log()
        assert "cloud: message on '$SYS/x' is dropped: such a topic may " \
            "not pass" in log, log
        for topic in MALFORMED:
            mark, connects = len(r.gatewayd.log()), r.stub.connects
            r.stub.publish(topic)
            r.stub.wait_reconnect(connects)
            r.gatewayd.wait_log("does not speak MQTT as it should",
                                start=mark)
        r.stub.wait_up()
        r.stub.deliver(b"cmd/dev1/ok", b"ok")
        r.stub.deliver(b"cmd/s1/ok", b"ok")
        rig.wait_until(watcher.messages, "the good message")
        assert watcher.messages() == [b"cmd/dev1/ok 6f6b"], watcher.messages()
        assert tty.wait_line() == b"ok\n"
        assert not tty.receive(), tty.bytes
        check_log_is_clean(r.gatewayd.log())
        tty.close()
        r.stub.close()


def what_the_local_broker_would_refuse_holds_nobody_up():
    """More levels than it takes, or more bytes.  A topic of 64 KB is a right
    one of dev1: it goes there and nowhere else."""
    with stub_rig() as r:
        watcher = LocalWatcher(r)
        r.gatewayd.wait_log("local: connected")
        long_topic = b"cmd/dev1/" + b"x" * (65535 - 9)
        for topic in (b"cmd/dev2/" + b"/" * 300,
                      b"cmd/" + b"x" * (65535 - 4), long_topic):
            r.stub.deliver(topic, b"1")
        r.stub.deliver(b"cmd/dev1/large", bytes(3 << 19))
        r.stub.deliver(b"cmd/dev1/ok", b"2")
        rig.wait_until(lambda: watcher.lines(b"cmd/dev1/ok"), "what follows")
        assert watcher.messages() == [long_topic + b" 31",
                                      b"cmd/dev1/ok 32"], [
            m[:50] for m in watcher.messages()]
        r.gatewayd.wait_status("down 2, dropped 3;")
        r.stub.close()


def a_route_for_one_device_is_for_that_one():
    """A filter that names a device instead of {device}, by a drop-in; the
    cloud sends what was not subscribed to."""
    with stub_rig() as r:
        watcher = LocalWatcher(r)
        r.gatewayd.wait_log("local: connected")
        r.drop_in("60-one.conf",
                  'routes : { commands : { filter = "cmd/dev1/#"; }; };')
        r.gatewayd.reload()
        rig.wait_until(lambda: "cmd/dev1/#" in r.stub.filters, "subscribed")
        refused = [b"cmd/dev2/x", b"cmd/dev10/x", b"cmd/dev/x", b"cmd/s1/x",
                   b"cmd/dev1x", b"cmd/"]
        for topic in refused + [b"cmd/dev1/x", b"cmd/dev1"]:
            r.stub.deliver(topic, b"1")
        rig.wait_until(lambda: len(watcher.messages()) == 2, "dev1's two")
        assert watcher.messages() == [b"cmd/dev1/x 31", b"cmd/dev1 31"]
        r.gatewayd.wait_status("dropped %d;" % len(refused))
        r.drop_in("60-one.conf",
                  'routes : { commands : { filter = "cmd/dev1/+/go"; }; };')
        r.gatewayd.reload()
        rig.wait_until(lambda: "cmd/dev1/+/go" in r.stub.filters, "subscribed")
        for topic in (b"cmd/dev1", b"cmd/dev1/x", b"cmd/dev1//go/",
                      b"cmd/dev1/go", b"cmd/dev1/x/y/go"):
            refused.append(topic)
            r.stub.deliver(topic, b"2")
        r.stub.deliver(b"cmd/dev1/x/go", b"2")
        rig.wait_until(lambda: len(watcher.messages()) == 3, "the third")
        assert watcher.messages()[2] == b"cmd/dev1/x/go 32"
        r.gatewayd.wait_status("dropped %d;" % len(refused))
        r.stub.close()


def a_cloud_gone_wrong_cannot_fill_the_disk():
    """10,000 messages wait for the local broker at most; the rest is dropped,
    and the way up goes on."""
    with stub_rig() as r:
        tty = r.ttys["s1"].open_device()
        r.gatewayd.wait_log("serial s1: .* is open")
        r.broker.stop()
        r.gatewayd.wait_log("local: .*is the broker running")
        for n in range(10050):
            r.stub.publish(b"cmd/dev1/x", b"%d" % n, mid=n + 1)
        rig.wait_until(lambda: len(r.stub.pubacks) >= 10050, "all PUBACKs", 30)
        r.gatewayd.wait_status("dropped 50;")
        r.gatewayd.wait_log("too many messages wait for this device")
        tty.send(b"still up\n")
        rig.wait_until(lambda: r.stub.published == [
            ("dt/s1/line", b"still up")], "the way up")
        tty.close()
        r.stub.close()


def a_serial_device_that_is_away_stops_nobody():
    """1,000 lines wait for it; further ones are dropped.  When it is removed
    from the configuration those that wait are dropped too."""
    with stub_rig() as r:
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.gatewayd.wait_log("local: subscribed")
        r.ttys["s1"].pull_out()
        r.gatewayd.wait_log("serial s1: .*waiting for it to come back")
        for n in range(1050):
            r.stub.publish(b"cmd/s1/x", b"%d" % n, mid=n + 1)
        rig.wait_until(lambda: len(r.stub.pubacks) >= 1050, "all PUBACKs")
        r.gatewayd.wait_status("down 0, dropped 50;")
        r.gatewayd.wait_log("cloud: message on 'cmd/s1/x' is dropped: too many "
                            "messages wait for this device")
        sent = [b"to dev1: %d" % n for n in range(50)]
        for n, payload in enumerate(sent):
            r.stub.deliver(b"cmd/dev1/x", payload, mid=2000 + n)
        dev1.wait_payload(sent[-1])
        assert [p for _, p in dev1.received] == sent, dev1.received
        r.gatewayd.wait_status("down 50, dropped 50;")
        # A reload that leaves it there keeps them.
        r.gatewayd.reload()
        assert r.gatewayd.counters()["dropped"] == 50, r.gatewayd.status()
        cable = r.ttys.pop("s1")
        r.write_gatewayd('mqtt_version = "3.1.1";')
        r.gatewayd.reload()
        r.gatewayd.wait_log("serial: 1000 messages for devices that are no "
                            "longer configured are dropped")
        r.gatewayd.wait_status("down 50, dropped 1050;")
        # Once is enough, also when it comes back.
        r.ttys["s1"] = cable
        cable.plug_in()
        r.write_gatewayd('mqtt_version = "3.1.1";')
        r.gatewayd.reload()
        tty = cable.open_device()
        r.stub.deliver(b"cmd/s1/x", b"new", mid=3000)
        assert tty.wait_line() == b"new\n"
        r.gatewayd.wait_status("down 51, dropped 1050;")
        tty.close()
        r.stub.close()


def high_water_mb(r):
    """The most memory that gatewayd has had."""
    with open("/proc/%d/status" % r.gatewayd.pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1)) / 1024


def a_command_too_large_is_dropped_and_holds_nobody_up():
    """MQTT 3.1.1 has no way to tell the cloud what we take."""
    with rig.Rig(serial=(), uplink='mqtt_version = "3.1.1";',
                 extra_config='spool : { max_size = "8M"; };') as r:
        viewer = r.viewer("dt/#")
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.wait_up()
        viewer.publish_all([("cmd/dev1/large", bytes(2 << 20)),
                            ("cmd/dev1/larger", bytes(10 << 20)),
                            ("cmd/dev1/ok", b"ok")])
        dev1.wait_payload(b"ok")
        r.gatewayd.wait_status("down 1, dropped 2;")
        for topic in ("large", "larger"):
            assert "cloud: message on 'cmd/dev1/%s' is dropped: it is larger " \
                "than 1 MiB" % topic in r.gatewayd.log()
        dev1.publish_all([("dt/dev1/n", b"%d" % n) for n in range(50)])
        r.gatewayd.wait_status("in 50, out 50, down 1, dropped 2;")
        assert "intake is held" not in r.gatewayd.log()
        assert len(dev1.received) == 1
        assert r.cloud.log().count("as gateway-1 ") == 1, "the uplink was cut"


def a_command_of_any_size_takes_no_memory_with_mqtt_5():
    """The cloud is told what we take, and keeps the rest."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer()
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.wait_up()
        fits = bytes((1 << 20) - 100)  # the local broker counts the topic
        viewer.publish_all([("cmd/dev1/large", bytes(2 << 20)),
                            ("cmd/dev1/larger", bytes(30 << 20)),
                            ("cmd/dev1/fits", fits),
                            ("cmd/dev1/ok", b"ok")])
        dev1.wait_payload(b"ok")
        assert [t for t, _ in dev1.received] == [
            "cmd/dev1/fits", "cmd/dev1/ok"], [t for t, _ in dev1.received]
        assert dev1.received[0][1] == fits
        r.gatewayd.wait_status("down 2,")
        assert r.cloud.log().count("as gateway-1 ") == 1, "the uplink was cut"
        assert high_water_mb(r) < 60, "%.0f MB" % high_water_mb(r)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    rig.main([
        deltas_and_commands_reach_the_device_named,
        a_line_may_carry_its_topic,
        a_command_waits_for_an_unplugged_tty,
        commands_wait_in_the_cloud_while_gatewayd_is_away,
        the_same_with_mqtt_311,
        what_is_acknowledged_to_the_cloud_is_delivered,
        a_repetition_is_delivered_once,
        a_hostile_cloud_gets_nothing_through,
        what_the_local_broker_would_refuse_holds_nobody_up,
        a_route_for_one_device_is_for_that_one,
        a_cloud_gone_wrong_cannot_fill_the_disk,
        a_serial_device_that_is_away_stops_nobody,
        a_command_too_large_is_dropped_and_holds_nobody_up,
        a_command_of_any_size_takes_no_memory_with_mqtt_5,
    ])
