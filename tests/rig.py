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
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Tests find all of the stand here.
from clients import Client
from parts import Broker, Cable, Gatewayd, LocalBroker, Part, Tty, TtyDevice
from waiting import SLOW, Failed, free_port, wait_until

SRC = os.path.abspath(os.environ.get("srcdir")
                      or os.path.join(os.path.dirname(__file__), ".."))
BUILD = os.path.abspath(os.environ.get("builddir") or os.getcwd())
GATEWAYD = os.environ.get("GATEWAYD") or os.path.join(BUILD, "gatewayd/gatewayd")
PKI = os.path.join(SRC, "localbus/gatewayd-pki")
# What sockaddr_un takes, without the longest name of a socket in the folder.
PATH_MAX = 107 - len("/run/notify.sock")


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
        start = self.gatewayd.log_start
        self.gatewayd.wait_status("uplink connected")
        for side in ("local", "uplink"):
            self.gatewayd.wait_log(side + ": subscribed", start=start)

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
