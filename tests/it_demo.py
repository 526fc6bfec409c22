#!/usr/bin/python3
"""The demo as people and programs use it: the story itself, its exit status when
something breaks, and what `--keep` and `--stop` promise."""

import concurrent.futures
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time

import rig

DEMO = os.path.join(rig.SRC, "demo/demo.py")
COUNT = re.compile(r"^published (\d+), received by the cloud (\d+), lost (\d+), "
                   r"duplicates (\d+)$", re.M)
STEPS = 8


def environment(**more):
    return dict(os.environ, srcdir=rig.SRC, builddir=rig.BUILD,
                GATEWAYD=rig.GATEWAYD, **more)


class Folder:
    """A folder of our own; no process may work there at the end."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="gwdemo-")
        return self.path

    def __exit__(self, kind, *_):
        left = processes_in(self.path)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.path, ignore_errors=True)
        if kind is None:
            assert not left, "processes are left: %s" % left


def processes_in(folder):
    """Pids of the processes whose working folder is in this one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/cwd" % pid).startswith(folder + "/"):
                found.append(int(pid))
        except OSError:
            pass
    return found


class Story:
    """A demo that runs without a terminal, its parts in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.output_path = os.path.join(folder, "output")
        with open(self.output_path, "w") as out:
            self.process = subprocess.Popen(
                [DEMO], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, cwd="/",
                env=environment(TMPDIR=folder))

    def output(self):
        with open(self.output_path, errors="replace") as f:
            return f.read()

    def wait_step(self, number):
        rig.wait_until(lambda: "-- %d." % number in self.output(),
                       "step %d" % number, 60)

    def place(self):
        """The folder that the demo has made."""
        name, = [n for n in os.listdir(self.folder)
                 if n.startswith("gatewayd-demo-")]
        return os.path.join(self.folder, name)

    def end(self):
        """Its exit status."""
        try:
            return self.process.wait(120 * rig.SLOW)
        finally:
            self.process.kill()

    def is_cleaned_up(self):
        return (not processes_in(self.folder)
                and os.listdir(self.folder) == ["output"])


def the_story_ends_with_nothing_lost():
    with Folder() as folder:
        story = Story(folder)
        status = story.end()
        output = story.output()
        assert status == 0, output
        assert "\x1b" not in output, "escape codes without a terminal"
        count = COUNT.search(output)
        assert count, output
        published, received, lost, _ = map(int, count.groups())
        assert published == received > 1000 and lost == 0, count.group(0)
        for number in range(1, STEPS + 1):
            assert "-- %d. " % number in output, output
        spooled = [int(n) for n in re.findall(r"in spool (\d+)", output)]
        assert max(spooled) > 500 and spooled[-1] == 0, spooled
        assert output.count("   answered in ") == 2, output
        assert story.is_cleaned_up(), os.listdir(folder)


def read_all(fd, seconds):
    """What comes from a terminal until its program ends."""
    data = b""
    end = time.monotonic() + seconds * rig.SLOW
    while time.monotonic() < end:
        try:
            data += os.read(fd, 65536)
        except OSError:  # EIO: nobody has it open any more
            return data.decode()
    raise rig.Failed("the demo does not end: %r" % data[-2000:])


def on_a_terminal_the_table_is_redrawn_in_place():
    with Folder() as folder:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ,
                    struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen(
            [DEMO], stdin=theirs, stdout=theirs, stderr=theirs, cwd="/",
            env=environment(TMPDIR=folder, TERM="xterm", NO_COLOR="1",
                            PYTHONIOENCODING="utf-8"))
        os.close(theirs)
        output = read_all(ours, 120)
        os.close(ours)
        assert process.wait(10) == 0, output[-3000:]
        ups = set(re.findall(r"\x1b\[(\d+)A", output))
        assert len(ups) == 1 and int(ups.pop()) < 24, "the table's height"
        assert not re.search(r"\x1b\[[0-9;]*m", output), "NO_COLOR"
        lines = re.sub(r"\x1b\[[0-9]*[AK]", "", output).split("\r\n")
        assert max(map(len, lines)) <= 80, max(lines, key=len)
        assert output.count("GATEWAYD") > 100, "it was redrawn"
        assert COUNT.search(output.replace("\r", "")).group(3) == "0"


def interrupted_it_leaves_nothing():
    with Folder() as folder:
        story = Story(folder)
        story.wait_step(2)
        story.process.send_signal(signal.SIGINT)
        assert story.end() == 130, story.output()
        assert story.is_cleaned_up(), os.listdir(folder)


def a_part_that_breaks_is_named_and_the_logs_are_kept():
    with Folder() as folder:
        story = Story(folder)
        story.wait_step(2)
        place = story.place()
        with open(os.path.join(place, "run/broker.pid")) as f:
            os.kill(int(f.read()), signal.SIGKILL)
        assert story.end() == 1, story.output()
        assert "broker has ended by itself" in story.output(), story.output()
        logs = re.search(r"the logs are in (\S+)", story.output()).group(1)
        assert "gatewayd.log" in os.listdir(logs)
        assert not processes_in(folder)


def a_message_that_is_lost_makes_it_fail():
    """gatewayd comes back with a configuration that takes no more readings of
    one device: the demo has to see that they are missing."""
    with Folder() as folder:
        story = Story(folder)
        story.wait_step(3)
        with open(os.path.join(story.place(),
                               "etc/conf.d/90-lossy.conf"), "w") as f:
            f.write('routes : { telemetry : { filter = ["dt/{device}/answer", '
                    '"dt/{device}/line", "dt/boiler/reading", '
                    '"dt/pump/reading"]; }; };\n')
        assert story.end() == 1, story.output()
        count = COUNT.search(story.output())
        assert count, story.output()
        published, received, lost, _ = map(int, count.groups())
        assert lost > 0 and published == received + lost, count.group(0)
        assert "lost: " in story.output()


def stories():
    """All of the above at the same time: each waits most of its time."""
    cases = (the_story_ends_with_nothing_lost,
             on_a_terminal_the_table_is_redrawn_in_place,
             interrupted_it_leaves_nothing,
             a_part_that_breaks_is_named_and_the_logs_are_kept,
             a_message_that_is_lost_makes_it_fail)
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        running = [(case, pool.submit(case)) for case in cases]
    failures = ["%s: %r" % (case.__name__, future.exception())
                for case, future in running if future.exception()]
    if failures:
        raise rig.Failed("\n".join(failures))


# ---- --keep and --stop ----

def run_demo(*args, prefix=(), seconds=120):
    """(status, all that it printed)"""
    r = subprocess.run(list(prefix) + [DEMO] + list(args), text=True, cwd="/",
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, env=environment(),
                       timeout=seconds * rig.SLOW)
    return r.returncode, r.stdout


class Kept:
    """`demo --keep` in a folder, and `--stop` at the end."""

    def __init__(self, folder, prefix=()):
        self.dir = os.path.join(folder, "kept")
        self.prefix = prefix
        self.clients = []

    def __enter__(self):
        status, self.text = run_demo("--keep", self.dir, prefix=self.prefix)
        assert status == 0, self.text
        with open(os.path.join(self.dir, "demo.json")) as f:
            self.json = json.load(f)
        return self

    def __exit__(self, kind, *_):
        for client in self.clients:
            client.close()
        status, text = run_demo("--stop", self.dir, prefix=self.prefix)
        if kind is None:
            assert status == 0, text

    def pid(self, name):
        with open(os.path.join(self.dir, "run", name + ".pid")) as f:
            return int(f.read())

    def client(self, name, port, ca, cert, key, **options):
        client = rig.Client(name, port, ca, cert, key, **options)
        self.clients.append(client)
        return client.wait_up()

    def device(self, index):
        d, local = self.json["devices"][index], self.json["local"]
        return self.client(d["name"], local["port"], local["ca"], d["cert"],
                           d["key"])

    def cloud(self, *filters, **options):
        c = self.json["cloud"]
        return self.client("tester", c["port"], c["ca"], c["cert"], c["key"],
                           **options).subscribe(*filters)

    def kill_and_wait(self, name, sig=signal.SIGKILL):
        """Until another process has taken its place."""
        old = self.pid(name)
        os.kill(old, sig)
        rig.wait_until(lambda: self.pid(name) != old,
                       "%s is started again within a second" % name, 1)


def demo_json_says_all_that_a_program_needs():
    with Folder() as folder, Kept(folder) as kept:
        j = kept.json
        assert set(j) == {"cloud", "local", "devices", "device_ca", "serial",
                          "pidfiles", "config", "state_dir", "control"}, j
        assert set(j["cloud"]) == {"host", "port", "ca", "cert", "key"}
        assert set(j["local"]) == {"host", "port", "ca"}
        assert set(j["device_ca"]) == {"cert", "key"}
        assert set(j["pidfiles"]) == {"gatewayd", "broker", "cloud"}
        assert type(j["cloud"]["port"]) is type(j["local"]["port"]) is int
        assert len(j["devices"]) >= 8 and len(j["serial"]) >= 2
        paths = [j["cloud"][k] for k in ("ca", "cert", "key")]
        paths += [j["local"]["ca"], j["config"], j["state_dir"]]
        paths += list(j["device_ca"].values()) + list(j["pidfiles"].values())
        for d in j["devices"]:
            assert set(d) == {"name", "cert", "key"}
            paths += [d["cert"], d["key"]]
        for s in j["serial"]:
            assert set(s) == {"name", "tty"}
            paths.append(s["tty"])
        for path in paths + [os.path.dirname(j["control"])]:
            assert os.path.isabs(path) and os.path.exists(path), path
        for path in j["pidfiles"].values():
            with open(path) as f:
                os.kill(int(f.read()), 0)


def the_printed_commands_work():
    """Those that publish, as they stand in the text."""
    with Folder() as folder, Kept(folder) as kept:
        cloud = kept.cloud("dt/#")
        dev2 = kept.device(1).subscribe("cmd/dev2/#",
                                        "$aws/things/dev2/shadow/#")
        tty = rig.TtyDevice(kept.json["serial"][0]["tty"])
        commands = [c.strip() for c in kept.text.splitlines()
                    if re.match("  (mosquitto_pub|echo)", c)]
        assert len(commands) == 5, kept.text
        for command in commands:
            subprocess.run(["/bin/sh", "-c", command], check=True, timeout=20)
        assert cloud.wait_payload(b'{"celsius": 21.5}') == "dt/dev1/reading"
        assert cloud.wait_payload(b"volts=230.1") == "dt/meter1/line"
        assert dev2.wait_payload(b"now") == "cmd/dev2/restart"
        assert dev2.wait_payload(b'{"state": {"period": 5}}') == (
            "$aws/things/dev2/shadow/update/delta")
        assert tty.wait_line() == b"READ 1\n"
        tty.close()
        with open(os.path.join(kept.dir, "run/status")) as f:
            assert "uplink connected" in f.read()


def what_dies_is_started_again_unless_it_is_held():
    with Folder() as folder, Kept(folder) as kept:
        for name in ("gatewayd", "broker", "cloud", "tty-meter1"):
            kept.kill_and_wait(name)
        hold = os.path.join(kept.dir, "hold-cloud")
        open(hold, "w").close()
        old = kept.pid("cloud")
        os.kill(old, signal.SIGTERM)
        rig.wait_until(lambda: not os.path.exists("/proc/%d" % old),
                       "the cloud is gone")
        kept.kill_and_wait("gatewayd")  # the supervisor is at work meanwhile
        kept.kill_and_wait("gatewayd")
        assert kept.pid("cloud") == old
        os.unlink(hold)
        rig.wait_until(lambda: kept.pid("cloud") != old, "the cloud is back", 1)
        cloud = kept.cloud("dt/#")
        kept.device(0).publish_all([("dt/dev1/x", b"after all that")])
        cloud.wait_payload(b"after all that")
        tty = rig.TtyDevice(kept.json["serial"][0]["tty"])

        def line_arrives():
            tty.send(b"plugged in\n")
            return b"plugged in" in [p for _, p in cloud.received]
        rig.wait_until(line_arrives, "a line through the new pty")
        tty.close()


def gatewayd_killed_under_load_loses_nothing():
    with Folder() as folder, Kept(folder) as kept:
        cloud = kept.cloud("dt/#", clean=False)
        device = kept.device(0)
        mids = []
        for i in range(1500):
            mids.append(device.publish("dt/dev1/n", b"%d" % i))
            time.sleep(0.001)
            if i in (300, 700, 1100):
                kept.kill_and_wait("gatewayd")
        rig.wait_until(lambda: all(map(device.is_acked, mids)), "PUBACKs", 30)
        want = {b"%d" % i for i in range(1500)}
        rig.wait_until(lambda: {p for _, p in cloud.received} >= want,
                       "all messages at the cloud", 30)


def stop_works_without_the_supervisor_and_keep_works_again():
    with Folder() as folder:
        with Kept(folder) as kept:
            status, text = run_demo("--keep", kept.dir)
            assert status == 1 and "stop it first" in text, text
            names = ("gatewayd", "broker", "cloud", "tty-meter1", "tty-meter2")
            os.kill(kept.pid("supervisor"), signal.SIGKILL)
            status, text = run_demo("--keep", kept.dir)
            assert status == 1 and "stop it first" in text, text
            for name in names:
                os.kill(kept.pid(name), 0)
        assert not processes_in(folder)
        status, text = run_demo("--stop", kept.dir)
        assert status == 1 and "nothing runs" in text, text
        # A pid of somebody else in the file is left alone.
        with open(os.path.join(kept.dir, "run/gatewayd.pid"), "w") as f:
            f.write("%d\n" % os.getpid())
        status, text = run_demo("--stop", kept.dir)
        assert status == 1 and "nothing runs" in text, text
        open(os.path.join(kept.dir, "hold-gatewayd"), "w").close()
        with Kept(folder) as kept:
            cloud = kept.cloud("dt/#")
            kept.device(7).publish_all([("dt/dev8/x", b"again")])
            cloud.wait_payload(b"again")


def folders_that_cannot_be_used_are_refused():
    with Folder() as folder:
        status, text = run_demo("--keep", os.path.join(folder, "x" * 100))
        assert status == 1 and "too long for the unix sockets" in text, text
        os.makedirs(os.path.join(folder, "mine/etc"))
        status, text = run_demo("--keep", os.path.join(folder, "mine"))
        assert status == 1 and "'etc' that is not of a demo" in text, text
        assert os.listdir(os.path.join(folder, "mine")) == ["etc"]


def nothing_there_needs_root():
    """As root this is tried as nobody; else every test here has shown it."""
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if os.geteuid() != 0:
        return
    with Folder() as folder:
        os.chmod(folder, 0o755)
        strange = os.path.join(folder, "a b,c:d'e")
        os.mkdir(strange)
        os.chown(strange, 65534, 65534)
        for path in (DEMO, rig.GATEWAYD):
            if subprocess.run(as_nobody + ["test", "-r", path]).returncode:
                print("        not tried: nobody cannot read %s" % path)
                return
        with Kept(strange, as_nobody) as kept:
            assert os.stat("/proc/%d" % kept.pid("gatewayd")).st_uid == 65534
            cloud = kept.cloud("dt/#")
            kept.device(0).publish_all([("dt/dev1/x", b"no root")])
            cloud.wait_payload(b"no root")


if __name__ == "__main__":
    rig.main([
        stories,
        demo_json_says_all_that_a_program_needs,
        the_printed_commands_work,
        what_dies_is_started_again_unless_it_is_held,
        gatewayd_killed_under_load_loses_nothing,
        stop_works_without_the_supervisor_and_keep_works_again,
        folders_that_cannot_be_used_are_refused,
        nothing_there_needs_root,
    ])
