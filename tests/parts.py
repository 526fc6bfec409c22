"""The processes of the stand: brokers, gatewayd, and cables between ptys."""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

from waiting import SLOW, Failed, wait_until

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get(
    "PATH", "") + ":/usr/sbin:/sbin") or "/usr/sbin/mosquitto"


class Part:
    """One process: started, ended and started again."""

    def __init__(self, rig, name, argv, is_ready, env=None):
        self.rig, self.name, self.argv = rig, name, argv
        self.is_ready, self.env = is_ready, env
        self.process = None
        self.log_path = os.path.join(rig.dir, "log", name + ".log")
        self.pidfile = os.path.join(rig.dir, "run", name + ".pid")

    def start(self, wait=True, seconds=20):
        """Start it; wait until it serves."""
        self.before_start()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=dict(os.environ, **(self.env or {})), cwd=self.rig.dir)
        with open(self.pidfile + ".new", "w") as f:
            f.write("%d\n" % self.process.pid)
        os.rename(self.pidfile + ".new", self.pidfile)
        if wait:
            self.wait_ready(seconds)

    def before_start(self):
        """What must be done each time."""

    def wait_ready(self, seconds=20):
        def ready():
            if not self.is_running():
                raise Failed("%s ended with status %s:\n%s" % (
                    self.name, self.process.returncode, self.log()[-2000:]))
            return self.is_ready()
        wait_until(ready, lambda: "%s ready; its log:\n%s"
                   % (self.name, self.log()[-2000:]), seconds)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def cpu_seconds(self):
        """User and system time that it has used."""
        with open("/proc/%d/stat" % self.pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self, sig=signal.SIGKILL):
        """Send a signal; for SIGKILL wait until it is gone."""
        if self.is_running():
            self.process.send_signal(sig)
            if sig == signal.SIGKILL:
                self.process.wait()

    def stop(self, seconds=15):
        """SIGTERM and wait; its exit status.  None: it did not run."""
        if not self.is_running():
            return None
        self.process.terminate()
        try:
            return self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("%s did not stop within %g s of SIGTERM"
                         % (self.name, seconds * SLOW)) from None

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern, seconds=20, start=0):
        """Until the log, from character `start` on, matches; the match."""
        return wait_until(
            lambda: re.search(pattern, self.log()[start:]),
            lambda: "%s says /%s/; it said:\n%s" % (
                self.name, pattern, self.log()[start:][-3000:]), seconds)


class Broker(Part):
    """A mosquitto; ready when its address takes connections."""

    def __init__(self, rig, name, config, address):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET

        def listens():
            with socket.socket(family) as s:
                s.settimeout(1)
                return s.connect_ex(address) == 0
        super().__init__(rig, name, [MOSQUITTO, "-c", config], listens)


class LocalBroker(Broker):
    """As its unit runs it: when it says READY=1 it gets a SIGHUP, see
    ExecStartPost in gatewayd-broker.service."""

    def __init__(self, rig, config, address):
        super().__init__(rig, "broker", config, address)
        path = rig.path("run/broker.sock")
        if os.path.exists(path):
            os.unlink(path)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        self.env = {"NOTIFY_SOCKET": path}
        self.starting = threading.Lock()
        self.is_reloaded = False
        listens, self.is_ready = self.is_ready, lambda: (
            self.is_reloaded and listens())
        threading.Thread(target=self.reload_when_ready, daemon=True).start()

    def start(self, wait=True, seconds=20):
        with self.starting:
            self.is_reloaded = False
            super().start(wait=False)
        if wait:
            self.wait_ready(seconds)

    def reload_when_ready(self):
        while True:
            if b"READY=1" in self.notify.recv(4096):
                with self.starting:
                    self.kill(signal.SIGHUP)
                    self.is_reloaded = True


class Gatewayd(Part):
    """gatewayd; ready when it says so to its (our) service manager."""

    def __init__(self, rig, argv, env, name="gatewayd"):
        self.notify_path = os.path.join(rig.dir, "run", "notify.sock" if
                                        name == "gatewayd" else name + ".sock")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.setblocking(False)
        if os.path.exists(self.notify_path):
            os.unlink(self.notify_path)
        self.notify.bind(self.notify_path)
        self.messages = []   # all that it notified, in order
        self.status_text = ""
        self.reading = threading.Lock()
        super().__init__(rig, name, argv, self.said_ready,
                         dict(env, NOTIFY_SOCKET=self.notify_path))

    def before_start(self):
        self.read_notify()
        self.log_start = len(self.log())  # of this process
        self.messages = []
        self.status_text = ""
        if not any(t.name == self.notify_path for t in threading.enumerate()):
            threading.Thread(target=self.keep_reading, name=self.notify_path,
                             daemon=True).start()

    def keep_reading(self):
        """A full socket would block gatewayd, as a hung systemd would."""
        while select.select([self.notify], [], [])[0]:
            self.read_notify()

    def read_notify(self):
        with self.reading:
            while True:
                try:
                    text = self.notify.recv(65536).decode(errors="replace")
                except BlockingIOError:
                    return
                for line in text.splitlines():
                    self.messages.append(line)
                    if line.startswith("STATUS="):
                        self.status_text = line[7:]

    def said_ready(self):
        self.read_notify()
        return "READY=1" in self.messages

    def reload(self):
        """SIGHUP, and wait until it is done with that."""
        def is_done():
            self.read_notify()
            news = self.messages[seen:]
            return "RELOADING=1" in news and "READY=1" in news
        self.read_notify()
        seen = len(self.messages)
        self.kill(signal.SIGHUP)
        wait_until(is_done, "the reload is done; notified: %s"
                   % self.messages[seen:])

    def status(self):
        """The STATUS line that systemctl would show."""
        self.read_notify()
        return self.status_text

    def counters(self):
        """The numbers in it: backlog, in, out, down, dropped."""
        return {k: int(v) for k, v in re.findall(
            r"\b(backlog|in|out|down|dropped) (\d+)", self.status())}

    def wait_status(self, pattern, seconds=20):
        return wait_until(lambda: re.search(pattern, self.status()),
                          lambda: "status matches /%s/; it is: %s; log:\n%s" % (
                              pattern, self.status(), self.log()[-2000:]),
                          seconds)


class Cable(Part):
    """socat between two ptys; ready when both have their names."""

    def __init__(self, rig, name, ends):
        self.ends = ends
        quoted = [re.sub(r"([^\w/.-])", r"\\\1", e) for e in ends]
        super().__init__(
            rig, name,
            ["socat"] + ["PTY,link=%s,raw,echo=0" % q for q in quoted],
            lambda: all(os.path.exists(e) for e in ends))

    def before_start(self):
        # After SIGKILL its names stay and may lead to somebody else's pty.
        for end in self.ends:
            if os.path.lexists(end):
                os.unlink(end)


class Tty:
    """A serial line: gatewayd opens `port`, the device `device`.  socat is the
    cable; to kill it is to pull the plug."""

    def __init__(self, rig, name):
        self.port = os.path.join(rig.dir, "tty", name)
        self.device = self.port + "-device"
        self.part = Cable(rig, "tty-" + name, (self.port, self.device))

    def plug_in(self):
        self.part.start()

    def pull_out(self):
        self.part.stop()

    def open_device(self):
        """The device's end, to be used and closed by the caller."""
        return TtyDevice(self.device)


class TtyDevice:
    """What is at the far end of a serial line."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.bytes = b""  # received and not taken yet

    def send(self, data):
        """Write all of it, however slowly it is taken."""
        def write_more():
            nonlocal data
            try:
                data = data[os.write(self.fd, data):]
            except BlockingIOError:
                pass
            return not data
        wait_until(write_more, "the serial line takes what is written")

    def receive(self):
        """All that has come and was not taken by wait_line()."""
        try:
            self.bytes += os.read(self.fd, 65536)
        except BlockingIOError:
            pass
        return self.bytes

    def wait_line(self, seconds=15):
        """The next line, with its end."""
        wait_until(lambda: b"\n" in self.receive(),
                   "a line on the tty; there is: %r" % self.bytes, seconds)
        line, end, self.bytes = self.bytes.partition(b"\n")
        return line + end

    def close(self):
        os.close(self.fd)
