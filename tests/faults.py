"""What the tests of the uplink share: a proxy before the cloud that breaks
connections, certificates with something wrong about them, and the course of an
outage as it is seen from outside."""

import atexit
import datetime
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

import rig

# An outage ends soon, so that a test is short.
QUICK = 'keepalive = "5s"; ack_timeout = "5s"; connect_timeout = "2s";'
NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\n"


def listen_on(host="127.0.0.1", port=0):
    """A TCP socket that listens; port 0: any that is free."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen(64)
    return s


def reset(s):
    """Close with RST instead of FIN."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Proxy:
    """TCP between gatewayd and the cloud.  `mode` says what happens:
    pass     bytes go both ways to the port `target`
    stall    nothing is forwarded any more, and nothing closed
    close    new connections are closed at once; reset: with RST
    mute     new connections are taken and never answered
    garbage  new connections are answered with what is no TLS
    storm    as pass, but a RST after a random number of bytes
    """

    def __init__(self, target, listener=None):
        self.target = target
        self.mode = "pass"
        self.accepted = 0    # connections so far
        self.resets = 0      # of those that the storm has ended
        self.era = 0         # connections of an earlier one are cut
        self.random = random.Random(2)
        self.listener = listener or listen_on()
        self.host, self.port = self.listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode, target=None):
        """A new mode for new connections; those that exist are cut, but for
        "stall"."""
        self.target = target or self.target
        self.mode = mode
        if mode != "stall":
            self.cut()

    def cut(self):
        self.era += 1

    def refuse(self):
        """Connections are refused until listen()."""
        listener, self.listener = self.listener, None
        listener.close()
        self.cut()

    def listen(self):
        self.listener = listen_on(self.host, self.port)

    def _accept(self):
        while True:
            listener = self.listener
            try:
                if listener and select.select([listener], [], [], 0.1)[0]:
                    client = listener.accept()[0]
                    self.accepted += 1
                    threading.Thread(target=self._serve, args=(client,),
                                     daemon=True).start()
                elif not listener:
                    time.sleep(0.02)
            except (OSError, ValueError):
                pass  # closed by refuse()

    def _serve(self, client):
        era, mode = self.era, self.mode
        try:
            if mode == "close":
                client.close()
            elif mode == "reset":
                reset(client)
            elif mode in ("mute", "garbage"):
                if mode == "garbage":
                    client.sendall(NOT_TLS)
                while self.era == era:
                    time.sleep(0.05)
                client.close()
            else:
                self._forward(client, era)
        except OSError:
            client.close()

    def _forward(self, client, era):
        limit = self.random.randint(1, 60000) if self.mode == "storm" else None
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            reset(client)
            return
        other = {client: server, server: client}
        total = 0
        while self.era == era:
            if self.mode == "stall":
                time.sleep(0.05)
                continue
            for s in select.select([client, server], [], [], 0.05)[0]:
                try:
                    data = s.recv(4096)
                except ConnectionError:
                    data = b""
                if not data:
                    client.close()
                    server.close()
                    return
                if limit is not None:
                    data = data[:limit - total]
                try:
                    other[s].sendall(data)
                except ConnectionError:
                    pass  # it may have said why, so read that first
                total += len(data)
            if limit is not None and total >= limit:
                self.resets += 1
                break
        reset(client)
        reset(server)


def run(*args):
    """A command that must succeed; what it said otherwise."""
    done = subprocess.run(args, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise rig.Failed("%s: %s" % (" ".join(args), done.stdout))


def issue(ca, out, names="DNS:localhost", usage="serverAuth", begin=-2, end=2,
          key=None, name="localhost"):
    """OUT.pem and OUT.key, signed by the CA in the folder `ca`, valid from
    `begin` to `end` in days from now.  key: an existing one to certify."""
    def date(days):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (now + datetime.timedelta(days)).strftime("%Y%m%d%H%M%SZ")
    with open(out + ".cnf", "w") as f:
        f.write("[ca]\ndefault_ca=d\n[d]\ndatabase=%s.db\nnew_certs_dir=%s\n"
                "default_md=sha256\nunique_subject=no\nrand_serial=yes\n"
                "policy=p\n[p]\ncommonName=supplied\n[e]\n"
                "basicConstraints=critical,CA:FALSE\n"
                "extendedKeyUsage=%s\n%s" % (
                    out, os.path.dirname(out), usage,
                    "subjectAltName=%s\n" % names if names else ""))
    with open(out + ".db", "w"):
        pass
    if not key:
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-out", out + ".key")
    run("openssl", "req", "-new", "-key", key or out + ".key",
        "-subj", "/CN=" + name, "-out", out + ".csr")
    run("openssl", "ca", "-batch", "-notext", "-config", out + ".cnf",
        "-cert", os.path.join(ca, "ca.pem"),
        "-keyfile", os.path.join(ca, "ca.key"), "-extensions", "e",
        "-startdate", date(begin), "-enddate", date(end),
        "-in", out + ".csr", "-out", out + ".pem")


class Site(rig.Rig):
    """A rig with a proxy before its cloud, one device, and a viewer whose
    subscription outlasts a restart of the cloud."""

    def __init__(self, uplink=QUICK, listener=None, start=True):
        super().__init__(devices=1, serial=(), start=False)
        self.proxy = Proxy(self.cloud_port, listener)
        self.uplink_port = self.proxy.port
        self.write_gatewayd(uplink)
        self.is_good = False  # the folder is not wanted any more
        self.n = 0           # messages published
        self.elsewhere = []  # payloads that another cloud than ours has
        if start:
            self.start()

    def start(self):
        super().start()
        self.dev = self.device("dev1").wait_up()
        self.watcher = self.viewer("dt/#", clean=False)
        self.wait_up()

    def publish(self, n=20):
        """n new messages of the device; wait for their PUBACKs."""
        new = [("dt/dev1/n", b"%d" % i) for i in range(self.n, self.n + n)]
        self.n += n
        self.dev.publish_all(new)

    def arrived(self):
        """The payloads that have come out in the clouds, with repetitions."""
        return self.watcher.payloads() + self.elsewhere

    def finish(self, duplicates):
        """All that was published has arrived, at most so many twice, and
        gatewayd ends in order, with no complaint of a sanitizer."""
        self.wait_drained()
        want = {str(i) for i in range(self.n)}
        rig.wait_until(lambda: set(self.arrived()) >= want,
                       "all %d messages in the cloud" % self.n)
        twice = len(self.arrived()) - len(want)
        assert twice <= duplicates, "%d duplicates, more than %d" % (
            twice, duplicates)
        status = self.gatewayd.stop()
        assert status == 0, "gatewayd ended with status %s" % status
        assert "runtime error" not in self.gatewayd.log()
        self.is_good = True

    def new_lines(self, start):
        """What gatewayd has logged from character `start` on."""
        return self.gatewayd.log()[start:].splitlines()

    def wait_line(self, words, start, seconds=20):
        """Until one line holds all the words; the line."""
        def find():
            return [x for x in self.new_lines(start)
                    if all(w in x for w in words)]
        return rig.wait_until(find, lambda: "a line with %s; there is:\n%s" % (
            words, "\n".join(self.new_lines(start))), seconds)[0]

    def wait_drained(self, seconds=20):
        self.gatewayd.wait_status(r"connected to .*backlog 0;", seconds)

    def outage(self, words, begin, mend, tries=3, lines=3, seconds=0):
        """One fault from begin() to mend(), seen from outside: it is said
        once, in one line with all these words; messages are taken and kept
        meanwhile; it is tried again and again, without a flood of lines and
        without burning the CPU; and when the fault is mended, all that was
        kept goes out.

        tries: so many connections the proxy must see, so that all but the last
        have failed; 0: the fault does not let them get that far.
        lines: warnings and errors at most.
        seconds: it lasts so long at least."""
        self.wait_drained()
        start, cpu = len(self.gatewayd.log()), self.gatewayd.cpu_seconds()
        since, accepted = time.monotonic(), self.proxy.accepted
        before = self.gatewayd.counters()
        pid = self.gatewayd.pid
        if not tries:
            seconds = 2  # retry_max is 1 s
        begin()
        try:
            line = self.wait_line(words, start)
            self.publish(20)
            self.gatewayd.wait_status("uplink down.*backlog %d; in %d," % (
                before["backlog"] + 20, before["in"] + 20))
            rig.wait_until(lambda: self.proxy.accepted >= accepted + tries
                           and time.monotonic() > since + seconds,
                           "%d connections at the proxy" % tries)
            self.check_quiet(words, start, lines)
            self.check_cpu(cpu, since)
        finally:
            mend()
        self.wait_drained()
        assert self.gatewayd.is_running() and self.gatewayd.pid == pid
        return line

    def check_cpu(self, cpu, since):
        """Little CPU time is used since it was `cpu` at the time `since`."""
        spent = self.gatewayd.cpu_seconds() - cpu
        assert spent < 0.3 + 0.3 * (time.monotonic() - since), \
            "gatewayd used %.2f s of CPU time" % spent

    def check_quiet(self, words, start, lines):
        """One line has the words, however often was tried, and there are few
        others."""
        said = [x for x in self.new_lines(start)
                if not x.startswith("info: ")]
        same = [x for x in said if all(w in x for w in words)]
        assert len(same) == 1, "not said just once:\n" + "\n".join(said)
        assert len(said) <= lines, "too many lines:\n" + "\n".join(said)


def shared(make):
    """make() a Site at the first call of the function that this returns, and
    give the same one each time.  It is stopped at the end of the process; its
    folder stays unless site.finish() has found all in order."""
    sites = []

    def end():
        site = sites[0]
        site.stop()
        if site.is_good:
            shutil.rmtree(site.dir, ignore_errors=True)
        else:
            print("the folder is kept: %s" % site.dir, file=sys.stderr)

    def get():
        if not sites:
            site = make()
            sites.append(site)
            atexit.register(end)
        return sites[0]
    return get
