#!/usr/bin/python3
"""Serial devices on real ttys: several with settings of their own, garbage in
any form, and devices that come and go."""
import os
import termios
import time

import rig


def dropped(r):
    return r.gatewayd.counters().get("dropped")


def several_ttys_each_with_its_settings():
    with rig.Rig(serial=("s1", "s2", "s3"), start=False) as r:
        r.drop_in("60-serial.conf", """serial : {
            s1 : { baud = 300; };
            s2 : { baud = 57600; line_end = "crlf"; stop_bits = 2;
                   flow = "xonxoff"; topic = "dt/meter/a/b"; };
            s3 : { baud = 4000000; flow = "rtscts"; max_line = "20B"; };
        };""")
        r.start()
        viewer = r.viewer("#")
        r.wait_up()
        devices = {n: t.open_device() for n, t in r.ttys.items()}
        for name, speed in (("s1", termios.B300), ("s2", termios.B57600),
                            ("s3", termios.B4000000)):
            fd = os.open(r.ttys[name].port, os.O_RDWR | os.O_NOCTTY)
            iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(fd)
            os.close(fd)
            assert (ispeed, ospeed) == (speed, speed), (name, ospeed)
            assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)
            assert not oflag & termios.OPOST
            assert bool(cflag & termios.CSTOPB) == (name == "s2"), name
            assert bool(cflag & termios.CRTSCTS) == (name == "s3"), name
            assert bool(iflag & termios.IXON) == (name == "s2"), name
        devices["s1"].send(b"one\n\ntwo\r\nthr")
        devices["s2"].send(b"lf\nwithin\r\n\r\ncr\rwithin\r\n")
        devices["s3"].send(b"x" * 20 + b"\n" + b"y" * 21 + b"\n")
        devices["s1"].send(b"ee\n")
        rig.wait_until(lambda: len(viewer.received) == 6, "6 lines")
        got = {}
        for topic, payload in viewer.received:
            got.setdefault(topic, []).append(payload)
        assert got == {"dt/s1/line": [b"one", b"two\r", b"three"],
                       "dt/meter/a/b": [b"lf\nwithin", b"cr\rwithin"],
                       "dt/s3/line": [b"x" * 20]}, got
        r.gatewayd.wait_status("in 6, out 6, down 0, dropped 1;")


def garbage_is_counted_and_never_fatal():
    with rig.Rig() as r:
        viewer = r.viewer("#")
        tty = r.ttys["s1"].open_device()
        r.wait_up()
        mark = len(r.gatewayd.log())
        used = r.gatewayd.cpu_seconds()
        # Any bytes are a line, as they are.
        line = bytes(b for b in range(256) if b != 10)
        tty.send(line + b"\n")
        viewer.wait_payload(line)
        assert dropped(r) == 0
        # Too long, and the good one right behind it.
        tty.send(b"z" * 5000 + b"\ngood 1\n")
        viewer.wait_payload(b"good 1")
        r.gatewayd.wait_log("serial s1: a line of more than 1024 bytes is "
                            "dropped: check baud", start=mark)
        r.gatewayd.wait_status("dropped 1;")
        # No end at all: told and counted while it goes on.
        for _ in range(50):
            tty.send(b"\xaa\x55\x00\xff" * 1024)
        r.gatewayd.wait_status("dropped 2;")
        tty.send(b"tail\ngood 2\n")
        viewer.wait_payload(b"good 2")
        # Nothing but line ends, and a flood of lines that are too long.
        tty.send(b"\n" * 20000)
        tty.send((b"w" * 1100 + b"\n") * 100 + b"good 3\n")
        viewer.wait_payload(b"good 3")
        r.gatewayd.wait_status("in 4, out 4, down 0, dropped 102;")
        lines = r.gatewayd.log()[mark:].splitlines()
        assert len(lines) < 12, "the log is flooded: %d lines" % len(lines)
        assert r.gatewayd.cpu_seconds() - used < 1.5
        tty.close()


def unplugged_and_back():
    """By inotify: the timer alone would take half a second at least."""
    with rig.Rig() as r:
        viewer = r.viewer("#")
        r.wait_up()
        times = []
        for n in range(6):
            mark = len(r.gatewayd.log())
            if n % 2:
                r.ttys["s1"].pull_out()
            else:
                r.ttys["s1"].part.kill()  # its name stays and leads nowhere
            r.gatewayd.wait_log("serial s1: .*: hung up; waiting for it to "
                                "come back|serial s1: .*Input/output error",
                                start=mark)
            begin = time.monotonic()
            r.ttys["s1"].plug_in()
            r.gatewayd.wait_log("serial s1: .* is open\n", start=mark)
            times.append(time.monotonic() - begin)
            tty = r.ttys["s1"].open_device()
            tty.send(b"back %d\n" % n)
            viewer.wait_payload(b"back %d" % n)
            # What is cut off by the unplugging is no line.
            tty.send(b"half a li")
            tty.close()
        assert min(times) < 0.4, "opened again after %s s" % times
        assert len(viewer.received) == 6, viewer.received


def an_absent_device_costs_nothing():
    with rig.Rig(serial=("s1", "s2")) as r:
        viewer = r.viewer("#")
        r.wait_up()
        r.ttys["s1"].pull_out()
        r.gatewayd.wait_log("serial s1: .*waiting for it to come back")
        used, begin = r.gatewayd.cpu_seconds(), time.monotonic()
        tty = r.ttys["s2"].open_device()
        while time.monotonic() < begin + 2:
            tty.send(b"still here\n")
            viewer.wait_payload(b"still here")
            viewer.received.clear()
            time.sleep(0.2)
        assert r.gatewayd.cpu_seconds() - used < 0.5, \
            r.gatewayd.cpu_seconds() - used
        said = r.gatewayd.log().count("not there; it is opened when it comes")
        assert said == 1, "said %d times" % said
        tty.close()


def a_device_that_is_missing_at_the_start():
    """Neither it nor its folder is there, as with /dev/serial/by-id."""
    with rig.Rig(start=False) as r:
        folder = r.path("tty/by-id/usb")
        r.drop_in("60-late.conf", """serial : { late : { device = "%s/late";
            }; };""" % folder)
        r.start()
        r.gatewayd.wait_log("serial late: .*/late: not there; it is opened "
                            "when it comes")
        viewer = r.viewer("#")
        r.wait_up()
        os.makedirs(folder)
        os.symlink(os.path.realpath(r.ttys["s1"].port), folder + "/other")
        os.symlink("/nowhere", folder + "/late")
        # s1 has the tty: with a lock, so that nobody shares it.
        os.unlink(folder + "/late")
        os.symlink(r.ttys["s1"].port, folder + "/late")
        r.gatewayd.wait_log("serial late: .*in use by another program")
        r.drop_in("60-late.conf", """serial : { late : { device = "%s/late";
            }; s1 : { device = "/dev/not-there"; }; };""" % folder)
        r.gatewayd.reload()
        r.gatewayd.wait_log("serial late: .* is open\n", 40)
        tty = r.ttys["s1"].open_device()
        tty.send(b"hello\n")
        assert viewer.wait_payload(b"hello") == "dt/late/line"
        tty.close()


def a_path_that_is_no_tty():
    with rig.Rig(start=False) as r:
        r.write("file", "not a tty\n")
        os.mkfifo(r.path("fifo"))
        r.drop_in("60-wrong.conf", """serial : {
            file : { device = "%s"; }; folder : { device = "%s"; };
            fifo : { device = "%s"; }; null : { device = "/dev/null"; };
        };""" % (r.path("file"), r.path("log"), r.path("fifo")))
        r.start()
        viewer = r.viewer("#")
        for name in ("file", "fifo", "null"):
            r.gatewayd.wait_log("serial %s: .*: this is no serial device; "
                                "correct `device`" % name)
        r.gatewayd.wait_log("serial folder: .*: ")
        tty = r.ttys["s1"].open_device()
        tty.send(b"the others work\n")
        viewer.wait_payload(b"the others work")
        with open(r.path("file")) as f:
            assert f.read() == "not a tty\n"
        tty.close()


def a_second_gateway_does_not_get_the_tty():
    with rig.Rig() as r:
        viewer = r.viewer("#")
        r.wait_up()
        os.makedirs(r.path("second"))
        with open(r.path("etc/gatewayd.conf")) as f:
            r.write("second/gatewayd.conf", f.read())
        os.makedirs(r.path("second/conf.d"))
        r.write("second/conf.d/local.conf", """
            local : { socket = "%s"; client_id = "second"; };
            gateway : { name = "second"; };
            serial : { s1 : { device = "%s"; }; };
            """ % (r.path("run/mqtt.sock"), r.ttys["s1"].port))
        second = rig.Part(r, "second", [
            rig.GATEWAYD, "--config", r.path("second/gatewayd.conf"),
            "--state-dir", r.path("second/state")], lambda: True)
        second.start()
        try:
            second.wait_log("serial s1: .*: in use by another program")
            tty = r.ttys["s1"].open_device()
            for n in range(20):
                tty.send(b"line %d\n" % n)
            rig.wait_until(lambda: len(viewer.received) >= 20, "20 lines")
            assert viewer.payloads() == ["line %d" % n for n in range(20)]
            # The other one goes away with SIGKILL: the lock goes with it.
            r.gatewayd.kill()
            second.wait_log("serial s1: .* is open\n", 40)
            tty.close()
        finally:
            second.stop()


def a_device_that_does_not_read_holds_nobody_up():
    with rig.Rig(serial=("s1", "s2")) as r:
        viewer = r.viewer("#")
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        r.wait_up()
        slow, quick = (r.ttys[n].open_device() for n in ("s1", "s2"))
        lines = [b"%d " % n + b"x" * 3000 for n in range(40)]
        viewer.publish_all([("cmd/s1/x", p) for p in lines])
        viewer.publish_all([("cmd/s2/x", b"quick"), ("cmd/dev1/x", b"dev1")])
        assert quick.wait_line() == b"quick\n"
        dev1.wait_payload(b"dev1")
        quick.send(b"up\n")
        viewer.wait_payload(b"up")
        used = r.gatewayd.cpu_seconds()
        time.sleep(1)
        assert r.gatewayd.cpu_seconds() - used < 0.3, "it spins"
        for want in lines:
            assert slow.wait_line() == want + b"\n"
        r.gatewayd.wait_status("down 42,")
        slow.close()
        quick.close()


if __name__ == "__main__":
    rig.main([
        several_ttys_each_with_its_settings,
        garbage_is_counted_and_never_fatal,
        unplugged_and_back,
        an_absent_device_costs_nothing,
        a_device_that_is_missing_at_the_start,
        a_path_that_is_no_tty,
        a_second_gateway_does_not_get_the_tty,
        a_device_that_does_not_read_holds_nobody_up,
    ])
