"""A gateway and all that belongs to it, under one folder: two real mosquittos
(the local broker with the shipped configuration, and one that plays the cloud),
gatewayd, certificates made on the spot, and serial lines as pairs of ptys.

Nothing here needs root, and nothing outside the folder is touched.  Parts are
ended by the pid that they were started with.  The demo and the tests share it.
"""

import atexit
import functools
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import paho.mqtt.client as paho

SRC = os.path.abspath(os.environ.get("srcdir")
                      or os.path.join(os.path.dirname(__file__), ".."))
BUILD = os.path.abspath(os.environ.get("builddir") or os.getcwd())
GATEWAYD = os.environ.get("GATEWAYD") or os.path.join(BUILD, "gatewayd/gatewayd")
PKI = os.path.join(SRC, "localbus/gatewayd-pki")
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get(
    "PATH", "") + ":/usr/sbin:/sbin") or "/usr/sbin/mosquitto"
# How slow a machine may be: multiplies every time limit.
SLOW = float(os.environ.get("RIG_SLOW", "1"))
# What sockaddr_un takes, without the longest name of a socket in the folder.
PATH_MAX = 107 - len("/run/notify.sock")


class Failed(Exception):
    """Something did not come about; its text says what, and what was seen."""


def wait_until(condition, what, seconds=15):
    """Poll condition() until it is true and return its value.  what: a text, or
    a function that gives one when it is needed."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failed("not within %g s: %s" % (
                seconds * SLOW, what() if callable(what) else what))
        time.sleep(0.02)


def free_port(host="127.0.0.1"):
    """A TCP port that nobody listens on now, and that the kernel gives to no
    client: a broker that is away for a moment must get its port again."""
    while True:
        port = random.randint(12000, 31999)
        with socket.socket() as s:
            try:
                s.bind((host, port))
            except OSError:
                continue
            return port


def pki(folder, *args):
    """Run gatewayd-pki on the CA in folder."""
    result = subprocess.run([PKI, "--dir", folder] + list(args),
                            stderr=subprocess.PIPE, text=True)
    if result.returncode:
        raise Failed("no certificate: %s" % result.stderr.strip())


def check_path(folder):
    """Whether everything in this folder can be named in configuration files
    and in the addresses of unix sockets."""
    size = len(os.fsencode(folder))
    if size > PATH_MAX:
        raise Failed("the path %s is too long for the unix sockets in it: it "
                     "has %d bytes, %d are possible; choose a shorter one"
                     % (folder, size, PATH_MAX))
    if not folder.isprintable() or set(folder) & set("\"\\"):
        raise Failed("the path %a has a character that configuration files "
                     "do not take; choose another one" % folder)


@functools.lru_cache(maxsize=None)
def pki_folder():
    """The two CAs that all rigs of this process share, and what they have
    issued: made once, since openssl takes its time."""
    folder = tempfile.mkdtemp(prefix="gwpki-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "devices"))
    for ca in ("broker", "cloud"):
        pki(os.path.join(folder, ca), "init", "localhost", "127.0.0.1", "::1")
    for name in ("gateway-1", "viewer"):
        pki(os.path.join(folder, "cloud"), "device", name,
            os.path.join(folder, "cloud"))
    return folder


def certificates(devices):
    """The folder with all certificates, those of the devices among them."""
    folder = pki_folder()
    for name in devices:
        if not os.path.exists(os.path.join(folder, "devices", name + ".pem")):
            pki(os.path.join(folder, "broker"), "device", name,
                os.path.join(folder, "devices"))
    return folder


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


class Client:
    """An MQTT client over mutual TLS that notes all it gets and every PUBACK."""

    def __init__(self, name, port, ca, cert, key, clean=True, version=None,
                 host="127.0.0.1", host_name="localhost", window=100):
        self.received = []     # (topic, payload)
        self.properties = []   # MQTT 5: of each message in received
        self.acked = set()     # mids
        self.lock = threading.Lock()
        self.on_message = None  # called from the client's thread
        self.filters = []
        self.subscribed = threading.Event()
        self.up = threading.Event()
        args = {} if version == paho.MQTTv5 else {"clean_session": clean}
        self.paho = paho.Client(name, protocol=version or paho.MQTTv311, **args)
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(cert, key)
        context.check_hostname = False  # the address is ours
        self.paho.tls_set_context(context)
        self.paho.max_inflight_messages_set(window)
        self.paho.max_queued_messages_set(0)
        self.paho.reconnect_delay_set(1, 1)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = lambda *_: self.up.clear()
        self.paho.on_message = self._on_message
        self.paho.on_publish = self._on_publish
        self.paho.on_subscribe = lambda *_: self.subscribed.set()
        self.paho.connect_async(host, port, keepalive=20)
        self.paho.loop_start()

    def _on_connect(self, client, _userdata, _flags, rc, *_):
        if rc == 0:
            if self.filters:
                client.subscribe([(f, 1) for f in self.filters])
            self.up.set()

    def _on_message(self, _client, _userdata, m):
        with self.lock:
            self.received.append((m.topic, m.payload))
            self.properties.append(getattr(m, "properties", None))
        if self.on_message:
            self.on_message(m.topic, m.payload)

    def _on_publish(self, _client, _userdata, mid):
        with self.lock:
            self.acked.add(mid)

    def wait_up(self, seconds=20):
        if not self.up.wait(seconds * SLOW):
            raise Failed("client not connected within %g s" % (seconds * SLOW))
        return self

    def subscribe(self, *filters):
        """Subscribe, now and after each reconnect; wait for the SUBACK."""
        self.wait_up()
        self.filters += filters
        self.subscribed.clear()
        self.paho.subscribe([(f, 1) for f in filters])
        if not self.subscribed.wait(20 * SLOW):
            raise Failed("no SUBACK for %s" % (filters,))
        return self

    def publish(self, topic, payload, qos=1, retain=False):
        """Queue a message; is_acked() tells when the broker has it."""
        return self.paho.publish(topic, payload, qos, retain).mid

    def is_acked(self, mid):
        with self.lock:
            return mid in self.acked

    def publish_all(self, messages, seconds=30, qos=1):
        """Publish (topic, payload) pairs and wait for every PUBACK; QoS 0:
        until all are written."""
        mids = [self.publish(t, p, qos) for t, p in messages]
        wait_until(lambda: all(self.is_acked(m) for m in mids),
                   "PUBACKs for %d messages" % len(mids), seconds)

    def payloads(self, prefix=""):
        with self.lock:
            return [p.decode(errors="replace") for t, p in self.received
                    if t.startswith(prefix)]

    def wait_payload(self, payload, seconds=15):
        """Until a message with this payload has come; its topic."""
        def found():
            with self.lock:
                for t, p in self.received:
                    if p == payload:
                        return t
            return None
        return wait_until(found, "message %r; received: %s"
                          % (payload, self.received[-20:]), seconds)

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


class Rig:
    """All parts under one folder.  Use as a context: at its end everything is
    stopped, and a folder made by us removed if nothing failed.

    folder: what an earlier run has left there is used again.
    devices: their number, or their names."""

    def __init__(self, folder=None, devices=2, serial=("s1",), uplink="",
                 extra_config="", cloud_config="", start=True):
        self.is_ours = folder is None
        self.dir = os.path.abspath(folder or tempfile.mkdtemp(prefix="gwrig-"))
        check_path(self.dir)
        for d in ("etc/broker", "etc/conf.d", "cloud", "devices", "run", "log",
                  "tty", "state", "state-broker", "state-cloud"):
            os.makedirs(os.path.join(self.dir, d), mode=0o755, exist_ok=True)
        self.names = (["dev%d" % (i + 1) for i in range(devices)]
                      if isinstance(devices, int) else list(devices))
        self.cloud_port, self.local_port = free_port(), free_port()
        self.uplink_port = self.cloud_port  # a test may put a proxy between
        self.clients = []
        self.make_certificates()
        self.ttys = {name: Tty(self, name) for name in serial}
        self.write_broker()
        self.write_cloud(cloud_config)
        self.write_gatewayd(uplink, extra_config)
        self.broker = LocalBroker(self, self.path("etc/broker.conf"),
                                  self.path("run/mqtt.sock"))
        self.cloud = Broker(self, "cloud", self.path("cloud/cloud.conf"),
                            ("127.0.0.1", self.cloud_port))
        self.gatewayd = Gatewayd(self, [
            GATEWAYD, "--config", self.path("etc/gatewayd.conf"),
            "--state-dir", self.path("state")], {})
        if start:
            try:
                self.start()
            except Exception:
                self.show_logs()
                self.stop()
                raise

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    # ---- making ----

    def make_certificates(self):
        if os.path.exists(self.path("cloud/viewer.pem")):
            for name in self.names:
                if not os.path.exists(self.path("devices", name + ".pem")):
                    pki(self.path("etc/broker"), "device", name,
                        self.path("devices"))
            return
        made = certificates(self.names)
        for folder in ("etc/broker", "cloud"):
            shutil.copytree(os.path.join(made, os.path.basename(folder)),
                            self.path(folder), dirs_exist_ok=True)
        for name in self.names:
            for ending in (".pem", ".key"):
                shutil.copy(os.path.join(made, "devices", name + ending),
                            self.path("devices"))

    def write(self, name, text, mode=0o644):
        """Replace a file at once, so that no reader sees half of it."""
        with open(self.path(name + ".new"), "w") as f:
            f.write(text)
        os.chmod(self.path(name + ".new"), mode)
        os.rename(self.path(name + ".new"), self.path(name))

    def shipped(self, name):
        """A configuration file as installed, with its paths moved here."""
        with open(os.path.join(SRC, "etc", name)) as f:
            text = f.read()
        for old, new in (("/etc/gatewayd/", self.path("etc/")),
                         # relative: this one must have no blank
                         ("/run/gatewayd-broker/", "run/"),
                         ("/var/lib/gatewayd-broker/",
                          self.path("state-broker/")),
                         ("listener 8883", "listener %d 127.0.0.1"
                          % self.local_port)):
            text = text.replace(old, new)
        return text

    def as_root(self):
        # mosquitto would change to a user that may not read the folder.
        return "user root\n" if os.geteuid() == 0 else ""

    def write_broker(self):
        self.write("etc/broker.acl", self.shipped("broker.acl"), 0o600)
        self.write("etc/broker.conf",
                   self.as_root() + self.shipped("broker.conf"))

    def write_cloud(self, extra):
        self.write("cloud/cloud.conf", self.as_root() + """\
log_dest stderr
persistence true
persistence_location %s/
max_queued_messages 1000000
allow_anonymous true
listener %d 127.0.0.1
cafile %s
certfile %s
keyfile %s
require_certificate true
%s
""" % (self.path("state-cloud"), self.cloud_port, self.path("cloud/ca.pem"),
            self.path("cloud/server.pem"), self.path("cloud/server.key"),
            extra))

    def write_gatewayd(self, uplink="", extra=""):
        """The shipped configuration, and what is particular to this place in
        a drop-in.  uplink: more keys of that group; extra: more groups."""
        serial = "".join(
            "\t%s : { device = \"%s\"; baud = 115200; };\n" % (n, t.port)
            for n, t in self.ttys.items())
        self.write("etc/gatewayd.conf", self.shipped("gatewayd.conf"))
        self.write("etc/conf.d/50-local.conf", """\
gateway : { name = "gateway-1"; };
uplink :
{
	host = "localhost";
	port = %d;
	ca = "%s";
	certificate = "%s";
	key = "%s";
	retry_min = "200ms";
	retry_max = "1s";
	%s
};
local : { socket = "%s"; };
serial :
{
%s};
%s
""" % (self.uplink_port, self.path("cloud/ca.pem"),
            self.path("cloud/gateway-1.pem"),
            self.path("cloud/gateway-1.key"), uplink,
            self.path("run/mqtt.sock"), serial, extra))

    def drop_in(self, name, text):
        """A file in conf.d; the next start or reload takes it."""
        self.write("etc/conf.d/" + name, text)

    # ---- running ----

    def start(self):
        self.cloud.start()
        self.broker.start()
        for tty in self.ttys.values():
            tty.plug_in()
        self.gatewayd.start()

    def wait_up(self):
        """Until gatewayd is connected to both sides."""
        self.gatewayd.wait_status("uplink connected")
        self.gatewayd.wait_log("local: connected")

    def device(self, name, **options):
        """A device's MQTT client on the local broker."""
        client = Client(name, self.local_port, self.path("etc/broker/ca.pem"),
                        self.path("devices", name + ".pem"),
                        self.path("devices", name + ".key"), **options)
        self.clients.append(client)
        return client

    def viewer(self, *filters, **options):
        """A client of the cloud that may do everything."""
        client = Client("viewer", self.cloud_port, self.path("cloud/ca.pem"),
                        self.path("cloud/viewer.pem"),
                        self.path("cloud/viewer.key"), **options)
        self.clients.append(client)
        if filters:
            client.subscribe(*filters)
        return client

    def parts(self):
        return [self.gatewayd, self.broker, self.cloud] + [
            t.part for t in self.ttys.values()]

    def stop(self):
        """End everything, gatewayd first; the first failure is raised."""
        failure = None
        for client in self.clients:
            client.close()
        for part in self.parts():
            try:
                part.kill(signal.SIGCONT)
                status = part.stop()
                if part is self.gatewayd and status:
                    # A sanitizer's findings show here too.
                    raise Failed("gatewayd stopped with status %d:\n%s" % (
                        status, part.log()[-3000:]))
            except Failed as e:
                failure = failure or e
        if failure:
            raise failure

    def describe(self):
        """demo.json: what a program needs to test from outside."""
        return {
            "cloud": {"host": "127.0.0.1", "port": self.cloud_port,
                      "ca": self.path("cloud/ca.pem"),
                      "cert": self.path("cloud/viewer.pem"),
                      "key": self.path("cloud/viewer.key")},
            "local": {"host": "127.0.0.1", "port": self.local_port,
                      "ca": self.path("etc/broker/ca.pem")},
            "devices": [{"name": n,
                         "cert": self.path("devices", n + ".pem"),
                         "key": self.path("devices", n + ".key")}
                        for n in self.names],
            "device_ca": {"cert": self.path("etc/broker/ca.pem"),
                          "key": self.path("etc/broker/ca.key")},
            "serial": [{"name": n, "tty": t.device}
                       for n, t in self.ttys.items()],
            "pidfiles": {p.name: p.pidfile for p in
                         (self.gatewayd, self.broker, self.cloud)},
            "config": self.path("etc/gatewayd.conf"),
            "state_dir": self.path("state"),
            "control": self.path("run/io.gatewayd"),
        }

    def write_description(self):
        self.write("demo.json", json.dumps(self.describe(), indent=2) + "\n")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        try:
            self.stop()
        except Failed:
            if kind is None:
                raise
        finally:
            if kind is not None:
                self.show_logs()
                print("the folder is kept: %s" % self.dir, file=sys.stderr)
            elif self.is_ours:
                shutil.rmtree(self.dir, ignore_errors=True)

    def show_logs(self):
        for part in self.parts():
            print("---- %s\n%s" % (part.name, part.log()[-3000:]),
                  file=sys.stderr)


def main(cases):
    """Run test functions; a line for each, and the exit status of all."""
    failed = 0
    only = sys.argv[1:]
    for case in cases:
        name = case.__name__.replace("_", " ")
        if only and not any(o in case.__name__ for o in only):
            continue
        begin = time.monotonic()
        try:
            case()
            print("ok      %s (%.1f s)" % (name, time.monotonic() - begin),
                  flush=True)
        except Exception as e:  # every failure is said, the others still run
            failed += 1
            print("FAILED  %s: %s: %s" % (name, type(e).__name__, e),
                  flush=True)
    sys.exit(1 if failed else 0)
