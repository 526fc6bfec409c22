"""A cloud that answers what a test wants: as much MQTT 3.1.1 and 5 over TLS as
gatewayd uses, and no more."""

import socket
import ssl
import threading

import faults

CONNECT, CONNACK, PUBLISH, PUBACK = 0x10, 0x20, 0x30, 0x40
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 0x82, 0x90, 0xa2, 0xb0
PINGREQ, PINGRESP, DISCONNECT = 0xc0, 0xd0, 0xe0


class Closed(Exception):
    """The other side, or the stub, has ended the connection."""


def read_varint(data, at):
    """MQTT's variable byte integer at data[at]; the value and what follows."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7f) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


class Connection:
    """One client.  The thread that makes it serves it to its end."""

    def __init__(self, stub, tls):
        self.stub, self.tls = stub, tls
        self.version = 0

    def read(self, n):
        data = b""
        while len(data) < n:
            try:
                part = self.tls.recv(n - len(data))
            except socket.timeout:
                if self.stub.goodbye is None:
                    continue
                self.say_goodbye()
            if not part:
                raise Closed
            data += part
        return data

    def say_goodbye(self):
        reason, self.stub.goodbye = self.stub.goodbye, None
        self.send(DISCONNECT, bytes([reason, 0]))
        raise Closed

    def read_packet(self):
        kind = self.read(1)[0]
        length = b""
        while not length or length[-1] & 0x80:
            length += self.read(1)
        return kind, self.read(read_varint(length, 0)[0])

    def send(self, kind, body):
        assert len(body) < 128
        self.tls.sendall(bytes([kind, len(body)]) + body)

    def serve(self):
        kind, body = self.read_packet()
        assert kind == CONNECT and body[:6] == b"\0\4MQTT", body
        self.version = body[6]
        self.stub.versions.append(self.version)
        answer = self.stub.connack(self.version)
        if answer is None:
            raise Closed
        self.send(CONNACK, answer)
        while True:
            self.answer(*self.read_packet())

    def answer(self, kind, body):
        is_v5 = self.version == 5
        if kind & 0xf0 == PUBLISH:
            self.on_publish(body)
        elif kind == SUBSCRIBE:
            self.send(SUBACK, body[:2] + (b"\0" if is_v5 else b"") + b"\1")
        elif kind == UNSUBSCRIBE:
            self.send(UNSUBACK, body[:2] + (b"\0\0" if is_v5 else b""))
        elif kind == PINGREQ:
            self.send(PINGRESP, b"")
        elif kind == DISCONNECT:
            raise Closed
        else:
            raise AssertionError("unexpected packet 0x%02x" % kind)

    def on_publish(self, body):
        end = 2 + int.from_bytes(body[:2], "big")
        mid, rest = body[end:end + 2], end + 2
        if self.version == 5:
            length, rest = read_varint(body, rest)
            rest += length
        payload = body[rest:].decode()
        reason = self.stub.puback(payload)
        if reason == 0:
            self.stub.taken.append(payload)
            self.send(PUBACK, mid)
        else:
            self.stub.refused.append(payload)
            self.send(PUBACK, mid + bytes([reason]))


def accept(version):
    """CONNACK: welcome."""
    return b"\0\0\0" if version == 5 else b"\0\0"


class StubCloud:
    """Listens on `port` as long as the process lives.

    connack(version): the body of the CONNACK; None: close without one
    puback(payload): the reason code of the PUBACK
    goodbye: when set, the reason of a DISCONNECT that is sent once
    """

    def __init__(self, ca, server):
        self.connack = accept
        self.puback = lambda payload: 0
        self.goodbye = None
        self.versions = []   # of each CONNECT
        self.taken = []      # payloads with a good PUBACK
        self.refused = []    # and with another
        self.failures = []   # what the client did wrong
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(server + ".pem", server + ".key")
        self.context.load_verify_locations(ca)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = faults.listen_on()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client = self.listener.accept()[0]
            threading.Thread(target=self._serve, args=(client,),
                             daemon=True).start()

    def _serve(self, client):
        try:
            client.settimeout(10)
            with self.context.wrap_socket(client, server_side=True) as tls:
                tls.settimeout(0.1)
                Connection(self, tls).serve()
        except (Closed, OSError):
            pass
        except (AssertionError, IndexError) as e:
            self.failures.append(repr(e))
