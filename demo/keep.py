"""The demo that stays: `--keep DIR` sets a gateway up under DIR and leaves it
running, `--stop DIR` ends it.  A supervisor, this file run as a program, starts
each part again that ends, as systemd would on a gateway.

A process is known by its pidfile DIR/run/NAME.pid, and taken for what the file
says only if it works in DIR: a pid may be somebody else's by now."""

import fcntl
import glob
import os
import select
import shlex
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
if __name__ == "__main__":
    sys.path.insert(0, os.path.join(HERE, "..", "tests"))

import rig  # noqa: E402

DEVICES = 8
SERIAL = ("meter1", "meter2")
POLL_SECONDS = 0.1
# Between two starts of a part: quick, and no busy loop if it cannot run.
RESTART_SECONDS = 0.3
# One that dies sooner than this again and again is logged once.
NEWS_SECONDS = 5
READY_SECONDS = 60
STOP_SECONDS = 10
# The cloud's subscribers are known again after kill -9.
CLOUD_CONFIG = "autosave_interval 1"
PROGRAMS = ("gatewayd", "mosquitto", "socat", "python3")
# The order in which leftover processes are ended; the ttys come after them.
ORDER = ("supervisor", "gatewayd", "broker", "cloud")


# ---- processes by pidfile ----

class Process:
    """What a pidfile names, held by a descriptor: no other process can take
    its place.  find() gives None if it does not run."""

    def __init__(self, name, pid, fd):
        self.name, self.pid, self.fd = name, pid, fd

    @classmethod
    def find(cls, folder, name):
        try:
            with open(os.path.join(folder, "run", name + ".pid")) as f:
                pid = int(f.read())
            fd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return None
        process = cls(name, pid, fd)
        if process.is_of(folder) and not process.wait(0):
            return process
        os.close(fd)
        return None

    def is_of(self, folder):
        """Whether it is one of our programs at work in the folder."""
        try:
            with open("/proc/%d/cmdline" % self.pid, "rb") as f:
                arguments = f.read()
            program = os.path.basename(os.fsdecode(arguments.split(b"\0")[0]))
            if not program.startswith(PROGRAMS):
                return False
            return os.readlink("/proc/%d/cwd" % self.pid) == folder
        except PermissionError:  # another user's, or one that hides its memory
            name = os.fsencode(folder)
            return name + b"/" in arguments or name + b"\0" in arguments
        except OSError:
            return False

    def send(self, sig):
        try:
            signal.pidfd_send_signal(self.fd, sig)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise rig.Failed("%s (pid %d) belongs to another user: run this as "
                             "that user, or as root"
                             % (self.name, self.pid)) from None

    def wait(self, seconds):
        """Whether it has ended, at the latest after so long."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def stop(self):
        """SIGTERM, and SIGKILL if that does not help in time."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)
        if not self.wait(STOP_SECONDS * rig.SLOW):
            self.send(signal.SIGKILL)
            if not self.wait(STOP_SECONDS):
                raise rig.Failed("%s (pid %d) does not end"
                                 % (self.name, self.pid))


def running(folder):
    """The processes of the demo in this folder, in the order to end them."""
    names = [os.path.basename(p)[:-4] for p in sorted(
        glob.glob(os.path.join(glob.escape(folder), "run", "*.pid")))]
    names.sort(key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER))
    found = [Process.find(folder, n) for n in names]
    return [p for p in found if p]


# ---- --stop ----

def end_all(folder):
    """End all that runs under the folder; how many processes these were."""
    ended = 0
    # Twice: a supervisor that had to be killed may have started something.
    for _ in range(2):
        for process in running(folder):
            process.stop()
            ended += 1
            os.close(process.fd)
    return ended


def stop(folder):
    """The exit status."""
    folder = os.path.realpath(folder)
    if not end_all(folder):
        print("demo: nothing runs under %s" % folder)
        return 1
    print("demo: everything under %s is stopped; its files are left there"
          % folder)
    return 0


# ---- --keep ----

def take_folder(folder):
    """Make it if it is missing; the lock on it, which the supervisor keeps as
    long as it lives."""
    rig.check_path(folder)
    run = os.path.join(folder, "run")
    lock_path = os.path.join(run, "supervisor.lock")
    if not os.path.exists(lock_path):
        for name in ("etc", "run", "log", "state", "cloud", "devices", "tty"):
            if os.path.lexists(os.path.join(folder, name)):
                raise rig.Failed("%s has a '%s' that is not of a demo: give a "
                                 "folder without it, or a new one"
                                 % (folder, name))
    for path in (run, os.path.join(folder, "log")):
        os.makedirs(path, exist_ok=True)
    lock = open(lock_path, "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_free = not running(folder)
    except BlockingIOError:
        is_free = False
    if not is_free:
        raise rig.Failed("a demo runs under %s: stop it first with "
                         "./bootstrap demo --stop %s"
                         % (folder, shlex.quote(folder)))
    return lock


def clear_leftovers(folder):
    """What an earlier demo has left and would be taken for news."""
    def path(*parts):
        return os.path.join(glob.escape(folder), *parts)
    for name in glob.glob(path("hold-*")) + glob.glob(path("demo.json")):
        os.unlink(name)
    for name in glob.glob(path("log", "*.log")):
        os.rename(name, name + ".old")


def start_supervisor(folder, lock):
    """A process of its own session, which outlives us and our terminal."""
    with open(os.path.join(folder, "log/supervisor.log"), "ab") as log:
        return subprocess.Popen(
            ["/usr/bin/python3", "-B", os.path.abspath(__file__), folder],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
            start_new_session=True, pass_fds=(lock.fileno(),),
            env=dict(os.environ, DEMO_LOCK=str(lock.fileno()), srcdir=rig.SRC,
                     builddir=rig.BUILD, GATEWAYD=rig.GATEWAYD))


def wait_ready(folder, supervisor):
    """Until demo.json, the last thing to be written, is there."""
    def is_ready():
        if supervisor.poll() is not None:
            with open(os.path.join(folder, "log/supervisor.log")) as f:
                raise rig.Failed("it did not start:\n%s\nthe logs are in %s" % (
                    f.read()[-3000:].strip(), os.path.join(folder, "log")))
        return os.path.exists(os.path.join(folder, "demo.json"))
    rig.wait_until(is_ready, "the demo is ready; see the logs in %s"
                   % os.path.join(folder, "log"), READY_SECONDS)


def keep(folder):
    """Set up, leave running, and tell how to use it; the exit status."""
    folder = os.path.realpath(folder)
    if not os.access(rig.GATEWAYD, os.X_OK):
        raise rig.Failed("no gatewayd at %s: run ./bootstrap demo, which "
                         "builds it" % rig.GATEWAYD)
    with take_folder(folder) as lock:
        clear_leftovers(folder)
        print("Making certificates and starting two brokers, %d serial lines "
              "and gatewayd ..." % len(SERIAL), flush=True)
        supervisor = start_supervisor(folder, lock)
    try:
        wait_ready(folder, supervisor)
    except BaseException:
        supervisor.terminate()  # it may not have written its pidfile
        try:
            supervisor.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
        end_all(folder)
        raise
    with open(os.path.join(folder, "how-to.txt")) as f:
        print(f.read(), end="")
    return 0


# ---- the words ----

HOW_TO = """\
A gateway runs under {dir}.
It has {devices} MQTT devices, dev1 to dev{devices}, and the serial devices {serial}:
you are the devices, and the cloud.

Listen in the cloud (leave it running and use another terminal for the rest):
  mosquitto_sub {cloud} -q 1 -v -t '#' -t '$aws/#'

Publish as a device; it arrives in the cloud under the same topic:
  mosquitto_pub {dev1} -q 1 -t dt/dev1/reading -m '{{"celsius": 21.5}}'

Write a line as a serial device; the cloud gets it on dt/{meter}/line:
  echo 'volts=230.1' > {tty}

Listen as a device, and as a serial device:
  mosquitto_sub {dev2} -q 1 -v -t 'cmd/dev2/#' -t '$aws/things/dev2/shadow/#'
  cat {tty}

Send a command, a shadow delta and a serial line down from the cloud:
  mosquitto_pub {cloud} -q 1 -t cmd/dev2/restart -m now
  mosquitto_pub {cloud} -q 1 -t '$aws/things/dev2/shadow/update/delta' -m '{{"state": {{"period": 5}}}}'
  mosquitto_pub {cloud} -q 1 -t cmd/{meter}/read -m 'READ 1'

Look at gatewayd:
  cat {status}
  tail -f {log}

Break something; what dies is started again within a second, with hold-PART only
when that file is removed.  PART: {parts}
  kill -9 $(cat {run}/gatewayd.pid)
  touch {hold_cloud}; kill $(cat {run}/cloud.pid)
  rm {hold_cloud}

For programs, the same in JSON: {json}
Stop it:
  ./bootstrap demo --stop {quoted}
"""


def client_options(port, ca, cert, key):
    """For mosquitto_sub and mosquitto_pub."""
    return ["-h", "127.0.0.1", "-p", str(port), "--cafile", ca, "--cert", cert,
            "--key", key]


def how_to(place):
    """The text for people, with commands to be copied as they are."""
    q = shlex.quote

    def client(*args):
        return shlex.join(client_options(*args))

    d = place.describe()
    device = [client(d["local"]["port"], d["local"]["ca"], e["cert"], e["key"])
              for e in d["devices"]]
    c = d["cloud"]
    return HOW_TO.format(
        dir=place.dir, quoted=q(place.dir), devices=len(d["devices"]),
        serial=" and ".join(place.ttys), meter=d["serial"][0]["name"],
        tty=q(d["serial"][0]["tty"]), dev1=device[0], dev2=device[1],
        cloud=client(c["port"], c["ca"], c["cert"], c["key"]),
        status=q(place.path("run/status")), log=q(place.path("log/gatewayd.log")),
        parts=", ".join(p.name for p in place.parts()), run=q(place.path("run")),
        hold_cloud=q(place.path("hold-cloud")), json=place.path("demo.json"))


# ---- the supervisor ----

def log(text):
    print("%s %s" % (time.strftime("%Y-%m-%d %H:%M:%S"), text), flush=True)


class Keeper:
    """Starts one part again when it has ended, unless it is held."""

    def __init__(self, place, part):
        self.part = part
        self.hold_path = place.path("hold-" + part.name)
        self.started = time.monotonic()
        self.said = ""

    def say(self, text):
        """Once, until it changes."""
        if text != self.said:
            log("%s: %s" % (self.part.name, text))
            self.said = text

    def check(self):
        now = time.monotonic()
        if self.part.is_running():
            if now > self.started + NEWS_SECONDS:
                self.said = ""
            return
        ended = "ended (%s)" % exit_text(self.part.process)
        if os.path.exists(self.hold_path):
            self.say("%s; held by %s" % (ended, self.hold_path))
            return
        if now < self.started + RESTART_SECONDS:
            return
        self.started = now
        self.say("%s; it is started again" % ended)
        try:
            self.part.start(wait=False)
        except OSError as e:
            self.say("cannot be started: %s; tried again" % e)


def exit_text(process):
    if process.returncode < 0:
        return "signal %d" % -process.returncode
    return "status %d" % process.returncode


def set_up(place):
    """All parts, until messages can pass both ways."""
    place.start()
    place.wait_up()
    # gatewayd has asked for its subscriptions; when clients that come after it
    # have theirs, so has gatewayd.
    c = place.describe()["cloud"]
    for address in (["--unix", place.path("run/mqtt.sock")],
                    client_options(c["port"], c["ca"], c["cert"], c["key"])):
        subprocess.run(["mosquitto_sub", "-t", "none", "-E", "-W", "20"]
                       + address, check=True, timeout=30)
    place.write("how-to.txt", how_to(place))


def write_status(place, old):
    """DIR/run/status: what `systemctl status gatewayd` would show."""
    text = place.gatewayd.status()
    del place.gatewayd.messages[:-10]  # this may go on for months
    if text == old or not text:
        return old
    place.write("run/status", text + "\n")
    return text


def watch(place, is_ending):
    """Until we are told to end, or the folder is removed."""
    keepers = [Keeper(place, part) for part in place.parts()]
    status = ""
    while not is_ending() and os.path.exists(place.path("run/supervisor.pid")):
        for keeper in keepers:
            keeper.check()
        try:
            status = write_status(place, status)
        except OSError as e:
            log("run/status: %s" % e)
        time.sleep(POLL_SECONDS)


def supervise(folder):
    """The supervisor: set up, and watch until told to end."""
    told = []
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, lambda number, _: told.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Kept open, and so locked, as long as we live; not by what we start.
    os.set_inheritable(int(os.environ.pop("DEMO_LOCK")), False)
    with open(os.path.join(folder, "run/supervisor.pid"), "w") as f:
        f.write("%d\n" % os.getpid())
    place = rig.Rig(folder=folder, devices=DEVICES, serial=SERIAL,
                    cloud_config=CLOUD_CONFIG, start=False)
    try:
        set_up(place)
        place.write_description()
        log("ready")
        watch(place, lambda: told)
    finally:
        log("stopping")
        place.stop()
        log("stopped")


def main():
    try:
        supervise(sys.argv[1])
    except (rig.Failed, OSError, subprocess.SubprocessError) as e:
        log("failed: %s" % e)
        sys.exit(1)


if __name__ == "__main__":
    main()
