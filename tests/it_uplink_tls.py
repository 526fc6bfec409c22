#!/usr/bin/python3
"""Certificates with something wrong about them, on either side.

The cloud is one mosquitto with a listener for each fault; the proxy leads to
the one or the other, as if the server's certificate had been replaced."""
import os
import shutil
import socket
import ssl

import faults
import rig


# Mosquitto itself has no option that forbids TLS 1.3.
OLD_TLS = """openssl_conf = o
[o]
ssl_conf = s
[s]
system_default = d
[d]
MaxProtocol = TLSv1.2
"""


class TlsSite(faults.Site):
    """A site whose cloud has one more listener for each bad certificate."""

    def __init__(self):
        super().__init__(start=False)
        self.good = self.cloud_port
        self.ports = {}
        self.other_ca = self.path("other")
        rig.pki(self.other_ca, "init", "localhost")
        os.makedirs(self.path("bad"))
        text = ""
        for name, ca, options in (
                ("expired", "cloud", {"begin": -3, "end": -1}),
                ("early", "cloud", {"begin": 1, "end": 3}),
                ("other-host", "cloud", {"names": "DNS:other.example"}),
                ("nul", "cloud", {
                    "names": dns_name(b"localhost\0.evil.example")}),
                ("lines", "cloud", {"names": dns_name(
                    b"x\nSTOPPING=1\nWATCHDOG=trigger\n")}),
                ("client-only", "cloud", {"usage": "clientAuth"}),
                ("other-ca", "other", {})):
            faults.issue(self.path(ca), self.path("bad", name), **options)
            text += self.listener(name, self.path("bad", name))
        server = self.path("cloud/server")
        text += self.listener("stranger", server, self.other_ca)
        self.write_cloud(text)
        self.write("cloud/old.conf", self.as_root() + self.listener(
            "stranger12", server, self.other_ca))
        self.write("cloud/openssl.cnf", OLD_TLS)
        self.old = rig.Broker(self, "old", self.path("cloud/old.conf"),
                              ("127.0.0.1", self.ports["stranger12"]))
        self.old.env = {"OPENSSL_CONF": self.path("cloud/openssl.cnf")}
        self.old.start()
        self.start()

    def parts(self):
        return super().parts() + [self.old]

    def listener(self, name, server, ca=None):
        """Lines for mosquitto; notes the port under this name."""
        self.ports[name] = rig.free_port()
        return ("listener %d 127.0.0.1\ncafile %s/ca.pem\ncertfile %s.pem\n"
                "keyfile %s.key\nrequire_certificate true\n" % (
                    self.ports[name], ca or self.path("cloud"), server,
                    server))

    def server_fault(self, name, *words, seconds=0):
        """The cloud shows the certificate `name` for a while."""
        return self.outage(
            ["uplink: localhost:%d" % self.proxy.port] + list(words),
            lambda: self.proxy.set("pass", self.ports[name]),
            lambda: self.proxy.set("pass", self.good), seconds=seconds)

    def own_fault(self, replace, words, tries=3, lines=3):
        """replace: {file: the file that takes its place, or None}."""
        undo = []
        return self.outage(words, lambda: undo.append(self.replace(replace)),
                           lambda: undo[0](), tries, lines)

    def replace(self, files):
        """Put other files in the place of ours, and connect anew; returns the
        function that undoes it."""
        def put(name, source):
            path = self.path("cloud", name)
            if source:
                shutil.copy(source, path + ".new")
                os.rename(path + ".new", path)
            else:
                os.unlink(path)

        def undo():
            for name in files:
                put(name, self.path("bad", name))
        for name, source in files.items():
            shutil.copy(self.path("cloud", name), self.path("bad", name))
            put(name, source)
        self.proxy.cut()
        return undo


def dns_name(name):
    """A subjectAltName of these bytes, whatever they are."""
    der = bytes([0x30, len(name) + 2, 0x82, len(name)]) + name
    return "DER:" + der.hex()


site = faults.shared(TlsSite)


def server_certificate_expired():
    site().server_fault(
        "expired", "the server's certificate 'CN=localhost' has expired at",
        "clock", "renew it on the server", seconds=3)


def server_certificate_not_yet_valid():
    site().server_fault(
        "early", "the server's certificate 'CN=localhost' is not yet valid",
        "set the clock")


def server_certificate_for_another_host():
    site().server_fault("other-host", "not for the host name 'localhost'",
                        "DNS:other.example", "correct uplink.host")


def server_certificate_with_a_nul_in_its_name():
    line = site().server_fault("nul", "not for the host name 'localhost'",
                               "evil.example")
    assert "\0" not in line


def server_certificate_with_lines_in_its_name():
    """They are no fields of what the service manager is told."""
    s = site()
    escaped = r"x\x0aSTOPPING=1\x0aWATCHDOG=trigger\x0a"
    s.server_fault("lines", "not for the host name 'localhost'", escaped)
    s.gatewayd.read_notify()
    told = list(s.gatewayd.messages)
    assert any(m.startswith("STATUS=") and escaped in m for m in told), told
    assert "STOPPING=1" not in told and "WATCHDOG=trigger" not in told, told


def server_certificate_for_clients_only():
    site().server_fault("client-only",
                        "the server's certificate 'CN=localhost' is refused",
                        "purpose", "on the server")


def server_certificate_of_another_ca():
    s = site()
    s.server_fault("other-ca", "'CN=localhost' is not trusted", "its issuer",
                   "uplink.ca '%s'" % s.path("cloud/ca.pem"), "root")


def our_ca_file_holds_another_ca():
    s = site()
    s.own_fault({"ca.pem": s.path("other/ca.pem")},
                ["is not trusted", "uplink.ca '%s'" % s.path("cloud/ca.pem")])


def server_does_not_know_our_ca():
    site().server_fault("stranger", "refused our certificate",
                        "gateway-1.pem", "CN=gateway-1", "unknown CA",
                        "register it with the cloud")


def server_does_not_know_our_ca_tls_1_2():
    s = site()
    context = ssl.create_default_context(cafile=s.path("cloud/ca.pem"))
    address = ("127.0.0.1", s.ports["stranger12"])
    with socket.create_connection(address) as plain:
        try:
            context.wrap_socket(plain, server_hostname="localhost")
        except ssl.SSLError as e:
            # Our end was done before the refusal if it were TLS 1.3.
            assert "ALERT" in str(e).upper(), e
        else:
            raise rig.Failed("the server speaks TLS 1.3")
    s.server_fault("stranger12", "refused our certificate",
                        "gateway-1.pem", "CN=gateway-1", "unknown CA",
                        "register it with the cloud")


def own(name, **options):
    """A certificate for our key with something wrong; its path."""
    s = site()
    out = s.path("bad", "own-" + name)
    faults.issue(s.path("cloud"), out, names=None, usage="clientAuth",
                 key=s.path("cloud/gateway-1.key"), name="gateway-1",
                 **options)
    return out + ".pem"


def our_certificate_expired():
    s = site()
    start = len(s.gatewayd.log())
    s.own_fault({"gateway-1.pem": own("expired", begin=-3, end=-1)},
                ["refused our certificate", "gateway-1.pem", "expired",
                 "get a new one"])
    s.wait_line(["warning: uplink: our certificate", "gateway-1.pem",
                 "has expired at", "get a new one"], start)


def our_certificate_not_yet_valid():
    s = site()
    start = len(s.gatewayd.log())
    s.own_fault({"gateway-1.pem": own("early", begin=1, end=3)},
                ["refused our certificate", "gateway-1.pem", "alert"])
    s.wait_line(["warning: uplink: our certificate", "gateway-1.pem",
                 "is not yet valid", "set the clock"], start)


def a_file_missing():
    s = site()
    s.own_fault({"ca.pem": None},
                ["uplink.ca '%s' cannot be read" % s.path("cloud/ca.pem"),
                 "No such file", "correct the configuration"], tries=0)


def one_file_after_the_other_missing_or_wrong():
    s = site()
    start = len(s.gatewayd.log())
    certificate = s.path("cloud/gateway-1.pem")
    key = s.path("cloud/gateway-1.key")
    gone = "cannot be read: No such file"
    for replace, words in (
            ({"gateway-1.key": None}, ["uplink.key '%s' %s" % (key, gone)]),
            ({"gateway-1.pem": None},
             ["uplink.certificate '%s' %s" % (certificate, gone)]),
            ({"gateway-1.pem": s.path("etc/broker.conf")},
             ["uplink.certificate '%s'" % certificate,
              "must hold this gateway's certificate"]),
            ({"ca.pem": s.path("etc/broker.conf")},
             ["uplink.ca '%s'" % s.path("cloud/ca.pem"),
              "must hold the cloud's root certificates"]),
            ({"gateway-1.key": s.path("cloud/viewer.key")},
             ["uplink.key '%s'" % key, "belongs to uplink.certificate"])):
        mend = s.replace(replace)
        s.wait_line(words, start)
        mend()
    s.publish()
    s.wait_drained()


def server_restarted_with_an_expired_certificate_and_with_a_good_one():
    """The same file on the server's disk is replaced, and replaced again."""
    s = site()
    server = s.path("cloud/server")

    def restart(pem, key):
        s.cloud.stop()
        shutil.copyfile(pem, server + ".pem")
        shutil.copyfile(key, server + ".key")
        s.cloud.start()
    for end in (".pem", ".key"):
        shutil.copyfile(server + end, s.path("bad", "good" + end))
    s.outage(["the server's certificate 'CN=localhost' has expired"],
             lambda: restart(s.path("bad/expired.pem"),
                             s.path("bad/expired.key")),
             lambda: restart(s.path("bad/good.pem"), s.path("bad/good.key")),
             lines=4)


def nothing_was_lost():
    s = site()
    s.gatewayd.wait_status("dropped 0;")
    s.finish(0)


if __name__ == "__main__":
    rig.main([
        server_certificate_expired,
        server_certificate_not_yet_valid,
        server_certificate_for_another_host,
        server_certificate_with_a_nul_in_its_name,
        server_certificate_with_lines_in_its_name,
        server_certificate_for_clients_only,
        server_certificate_of_another_ca,
        our_ca_file_holds_another_ca,
        server_does_not_know_our_ca,
        server_does_not_know_our_ca_tls_1_2,
        our_certificate_expired,
        our_certificate_not_yet_valid,
        a_file_missing,
        one_file_after_the_other_missing_or_wrong,
        server_restarted_with_an_expired_certificate_and_with_a_good_one,
        nothing_was_lost,
    ])
