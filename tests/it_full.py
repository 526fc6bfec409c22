#!/usr/bin/python3
"""No room: spool.max_size is reached, or the file system is full to the last
byte.  Nothing is acknowledged that is not stored, what waits still leaves, and
all goes on when there is room."""
import contextlib
import os
import shutil
import signal
import subprocess

import rig

SMALL = 'spool : { max_size = "1M"; };'


def check(viewer, sent, doubles):
    rig.wait_until(lambda: len(set(viewer.payloads("dt/"))) >= len(sent),
                   lambda: "%d messages; there are %d" % (
                       len(sent), len(set(viewer.payloads("dt/")))), 60)
    got = [p for t, p in viewer.received if t.startswith("dt/")]
    assert list(dict.fromkeys(got)) == sent, "not in order, or others"
    assert len(got) - len(sent) <= doubles, len(got) - len(sent)


def fill(r, dev, name="full", size=500):
    """Publish until the intake is held, and half as much more."""
    sent = []

    def more():
        for _ in range(100):
            sent.append(b"%s %d " % (name.encode(), len(sent)) + bytes(size))
            dev.publish("dt/dev1/n", sent[-1])
        return "intake held" in r.gatewayd.status()
    rig.wait_until(more, "the spool is full", 30)
    dev.publish_all([("dt/dev1/n", b"last " + name.encode())])
    sent.append(b"last " + name.encode())
    return sent


def a_full_spool_holds_the_intake_and_loses_nothing():
    with rig.Rig(serial=(), extra_config=SMALL) as r:
        viewer = r.viewer("dt/#", clean=False)
        r.wait_up()
        dev = r.device("dev1").subscribe("cmd/dev1/#")
        r.cloud.stop()
        sent = fill(r, dev)
        r.gatewayd.wait_log("error: spool: full: the intake is held until "
                            "messages have left for the cloud.*; free disk "
                            "space, or raise spool.max_size")
        before = r.gatewayd.counters()
        assert 0 < before["in"] < len(sent), before
        used = r.gatewayd.cpu_seconds()
        # Restarted, and killed, while it is full.
        assert r.gatewayd.stop() == 0
        r.gatewayd.start()
        r.gatewayd.wait_status("SPOOL FULL, intake held; backlog ")
        assert before["backlog"] <= r.gatewayd.counters()["backlog"] < len(sent)
        r.gatewayd.kill()
        r.gatewayd.start()
        r.gatewayd.wait_status("SPOOL FULL, intake held; backlog ")
        assert before["backlog"] <= r.gatewayd.counters()["backlog"] < len(sent)
        size = os.path.getsize(r.path("state/spool.db"))
        assert size <= 1 << 20, "%d bytes" % size
        r.cloud.start()
        r.gatewayd.wait_log("info: spool: there is room again, the intake "
                            "goes on", 40)
        r.gatewayd.wait_status("connected.*; backlog 0; in %d, out %d, "
                               "down 0, dropped 0;" % (len(sent), len(sent)),
                               60)
        check(viewer, sent, 0)
        # And the other way round: commands get in all the while.
        r.cloud.kill(signal.SIGSTOP)
        sent += fill(r, dev, "again")
        r.cloud.kill(signal.SIGCONT)
        check(viewer, sent, 100)
        assert used < 5, used


def commands_come_down_while_the_spool_is_full():
    """The cloud takes nothing (a window of unacknowledged messages), but
    sends: there is room kept for that."""
    with rig.Rig(extra_config=SMALL) as r:
        viewer = r.viewer("dt/#", clean=False)
        tty = r.ttys["s1"].open_device()
        r.wait_up()
        dev = r.device("dev1").wait_up()
        r.cloud.stop()
        sent = fill(r, dev)
        # Records wait in the tty.
        tty.send(b"s1: a\ns1: b\n")
        r.cloud.start()
        viewer.wait_up().publish_all([("cmd/s1/x", b"%d" % n)
                                      for n in range(50)])
        for n in range(50):
            assert tty.wait_line() == b"%d\n" % n
        rig.wait_until(lambda: len(viewer.payloads("dt/s1/")) >= 2,
                       "the lines of the tty", 40)
        rig.wait_until(lambda: len(set(viewer.payloads("dt/dev1"))) >=
                       len(sent), "all of dev1", 60)
        assert viewer.payloads("dt/s1/") == ["s1: a", "s1: b"]
        tty.close()


def what_never_fits_is_dropped_and_holds_nobody_up():
    with rig.Rig(serial=(), extra_config=SMALL) as r:
        viewer = r.viewer("dt/#")
        r.wait_up()
        dev = r.device("dev1").wait_up()
        dev.publish_all([("dt/dev1/x", bytes(1000000)), ("dt/dev1/x", b"1"),
                         ("dt/dev1/x", bytes(600000)),
                         ("dt/dev1/x", bytes(400000)), ("dt/dev1/x", b"2")])
        r.gatewayd.wait_status("backlog 0; in 3, out 3, down 0, dropped 2;")
        rig.wait_until(lambda: len(viewer.received) == 3, "three messages")
        assert [len(p) for _, p in viewer.received] == [1, 400000, 1]
        assert "local: message on 'dt/dev1/x' is dropped: it is larger than " \
            "half of spool.max_size" in r.gatewayd.log()


# ---- a file system without a byte left ----


@contextlib.contextmanager
def mounted(r, kind):
    """A small file system at state/; False where that cannot be had."""
    folder = r.path("state")
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs"]
    else:
        image = r.path("image")
        with open(image, "wb") as f:
            f.truncate(16 << 20)
        # Blocks of 1 KiB: mkfs's choice for small ones, the worst for SQLite.
        done = subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "1024",
                               image], check=False) \
            if shutil.which("mkfs.ext4") else None
        if not done or done.returncode:
            yield False
            return
        command = ["mount", "-o", "loop", image]
    done = subprocess.run(command + [folder], stderr=subprocess.DEVNULL,
                          check=False)
    if done.returncode:
        yield False
        return
    try:
        yield True
    finally:
        r.gatewayd.kill()  # of a failed test; it holds files there
        subprocess.run(["umount", folder], check=True)


def hog(r):
    """Take every byte; the file to remove."""
    path = r.path("state/hog")
    with open(path, "wb", buffering=0) as f:
        for size in (65536, 1024, 1):
            with contextlib.suppress(OSError):
                while True:
                    f.write(bytes(size))
    room = os.statvfs(r.path("state"))
    assert room.f_bavail == 0, "%d blocks are free" % room.f_bavail
    return path


def full_file_system(kind):
    with contextlib.ExitStack() as stack:
        r = stack.enter_context(rig.Rig(serial=(), start=False))
        if not stack.enter_context(mounted(r, kind)):
            print("skipped: %s cannot be mounted here" % kind)
            return
        r.start()
        viewer = r.viewer("dt/#", clean=False)
        r.wait_up()
        dev = r.device("dev1").wait_up()
        r.cloud.stop()
        sent = [b"before %d" % n for n in range(500)]
        dev.publish_all([("dt/dev1/n", p) for p in sent])
        r.gatewayd.wait_status("backlog 500;")
        path = hog(r)
        sent += fill(r, dev, size=2000)
        held = r.gatewayd.counters()["in"]
        assert held < len(sent), held
        # What it acknowledged survives a kill, and it starts without room.
        r.gatewayd.kill()
        r.gatewayd.start()
        assert r.gatewayd.counters()["in"] >= held
        r.cloud.start()
        # It drains with nothing free, and takes in what there is room for.
        r.gatewayd.wait_status("connected.*; backlog 0;", 60)
        assert os.path.exists(path)
        os.unlink(path)
        r.gatewayd.wait_status("connected.*; backlog 0; in %d, out %d, "
                               "down 0, dropped 0;" % (len(sent), len(sent)),
                               90)
        check(viewer, sent, 200)
        dev.publish_all([("dt/dev1/n", b"goes on")])
        viewer.wait_payload(b"goes on")
        assert r.gatewayd.stop() == 0


def lines_of_a_tty_on_a_full_disk(kind):
    """A line that is read cannot come again: what does not get onto the disk is
    counted, and the others wait in the tty."""
    with contextlib.ExitStack() as stack:
        r = stack.enter_context(rig.Rig(start=False))
        if not stack.enter_context(mounted(r, kind)):
            print("skipped: %s cannot be mounted here" % kind)
            return
        r.start()
        viewer = r.viewer("dt/#", clean=False)
        r.wait_up()
        tty = r.ttys["s1"].open_device()
        r.cloud.stop()
        path = hog(r)
        sent = []

        def more():
            for _ in range(5):
                sent.append("%d " % len(sent) + "x" * 500)
                tty.send(sent[-1].encode() + b"\n")
            return "intake held" in r.gatewayd.status()
        rig.wait_until(more, "the disk is full", 30)
        for _ in range(3):  # these fit into the tty
            sent.append("%d" % len(sent))
            tty.send(sent[-1].encode() + b"\n")
        os.unlink(path)
        r.cloud.start()
        r.gatewayd.wait_log("the intake goes on", 60)
        rig.wait_until(lambda: sent[-1] in viewer.payloads(), "the last line",
                       30)
        r.gatewayd.wait_status("connected.*; backlog 0;", 30)
        got = list(dict.fromkeys(viewer.payloads()))
        assert got == [s for s in sent if s in set(got)], "not in order"
        dropped = r.gatewayd.counters()["dropped"]
        assert len(got) + dropped == len(sent), (len(got), dropped, len(sent))
        assert dropped > 0, "the disk was not full"
        r.gatewayd.wait_log("lines are dropped: the disk is full")
        tty.close()
        assert r.gatewayd.stop() == 0


def lines_on_a_full_tmpfs():
    lines_of_a_tty_on_a_full_disk("tmpfs")


def lines_on_a_full_ext4():
    lines_of_a_tty_on_a_full_disk("ext4")


def a_full_tmpfs():
    full_file_system("tmpfs")


def a_full_ext4():
    full_file_system("ext4")


if __name__ == "__main__":
    rig.main([
        a_full_spool_holds_the_intake_and_loses_nothing,
        commands_come_down_while_the_spool_is_full,
        what_never_fits_is_dropped_and_holds_nobody_up,
        a_full_tmpfs,
        a_full_ext4,
        lines_on_a_full_tmpfs,
        lines_on_a_full_ext4,
    ])
