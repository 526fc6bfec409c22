"""A device or a viewer: an MQTT client over mutual TLS that notes what it sees."""

import ssl
import threading

import paho.mqtt.client as paho

from waiting import SLOW, Failed, wait_until


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
