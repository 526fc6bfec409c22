"""A network namespace with nothing but a loopback device, its own resolv.conf
and a DNS server that does what a test wants.  Needs root."""

import atexit
import ctypes
import os
import select
import shutil
import socket
import subprocess
import threading

import faults

CLONE_NEWNET = 0x40000000
A, NXDOMAIN = 1, 3


class Namespace:
    """Made at once, removed at the end of the process."""

    def __init__(self):
        self.name = "gatewayd-test-%d" % os.getpid()
        self.etc = os.path.join("/etc/netns", self.name)
        atexit.register(self.remove)
        faults.run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        os.makedirs(self.etc)
        with open(os.path.join(self.etc, "resolv.conf"), "w") as f:
            f.write("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")

    def ip(self, *args):
        faults.run("ip", "-n", self.name, *args)

    def command(self, argv):
        """argv as it is to be started to run in the namespace."""
        return ["ip", "netns", "exec", self.name] + argv

    def call(self, function):
        """function() in a thread of the namespace: a socket that it makes
        stays there."""
        result = []

        def inside():
            with open("/run/netns/" + self.name) as f:
                if ctypes.CDLL(None, use_errno=True).setns(
                        f.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            result.append(function())
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        return result[0]

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.name], check=False,
                       stderr=subprocess.DEVNULL)
        shutil.rmtree(self.etc, ignore_errors=True)


def can_make_namespaces():
    """Whether this process may, and ip(8) is there."""
    name = "gatewayd-try-%d" % os.getpid()
    if os.geteuid() or not shutil.which("ip"):
        return False
    made = subprocess.run(["ip", "netns", "add", name], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0
    if made:
        works = subprocess.run(["ip", "netns", "exec", name, "true"],
                               check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "del", name], check=False)
        made = works.returncode == 0
    return made


class Dns:
    """A DNS server: every name is 127.0.0.1 ("answer"), or no name exists
    ("deny"), or questions wait until there is another mode ("hold")."""

    def __init__(self, namespace):
        self.mode = "answer"
        self.held = []       # (question, who asked)
        self.n_questions = 0

        def bind():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("127.0.0.1", 53))
            return s
        self.socket = namespace.call(bind)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            if select.select([self.socket], [], [], 0.05)[0]:
                self.held.append(self.socket.recvfrom(1500))
                self.n_questions += 1
            while self.held and self.mode != "hold":
                question, who = self.held.pop(0)
                self.socket.sendto(self.reply(question), who)

    def reply(self, question):
        """The reply to a question: RFC 1035, 4.1."""
        end = question.index(b"\0", 12) + 5
        kind = int.from_bytes(question[end - 4:end - 2], "big")
        found = self.mode == "answer" and kind == A
        code = NXDOMAIN if self.mode == "deny" else 0
        head = question[:2] + bytes([0x85, 0x80 | code, 0, 1, 0, found]) + \
            bytes(4)
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1" if found else b""
        return head + question[12:end] + record
