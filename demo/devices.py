"""What is around gatewayd in the demo: devices that publish readings and answer
what comes down to them, and the cloud's subscriber that notes what arrives.

Every message has an id of its own.  A message counts as published when its
device has the acknowledgement of the local broker; a line of the serial device,
which nobody acknowledges, when it is written to the tty.
"""

import collections
import datetime
import json
import math
import random
import threading
import time

# What the devices measure: (key, middle, swing, digits) for each.
READINGS = {
    "boiler": [("celsius", 71, 4, 1), ("bar", 1.6, 0.1, 2)],
    "chiller": [("celsius", -18, 1.5, 1), ("compressor_rpm", 2900, 60, 0)],
    "pump": [("bar", 3.4, 0.3, 2), ("litres_per_min", 118, 9, 1)],
    "solar": [("watts", 2150, 400, 0), ("volts", 380, 12, 1)],
    "weather": [("celsius", 11, 2, 1), ("wind_m_s", 4, 3, 1),
                ("humidity", 63, 8, 0)],
}
SERIAL = "meter"


class Device:
    """A device with a period at which it reports.  publish_due() is called
    from the one thread that drives them all."""

    def __init__(self, name, period):
        self.name, self.period = name, period
        self.next_time = time.monotonic() + random.random() * period
        self.is_paused = False
        self.count = 0
        self.lock = threading.Lock()
        self.answered = []  # what it has answered to, in order

    def new_id(self):
        with self.lock:
            self.count += 1
            return "%s-%d" % (self.name, self.count)

    def publish_due(self, now):
        if self.is_paused or now < self.next_time:
            return
        self.next_time = max(self.next_time + self.period, now)
        self.publish_reading()

    def apply(self, delta):
        """A shadow delta: the period that the cloud wants from now on."""
        wanted = delta["state"]["period_ms"]
        self.period = wanted / 1000
        return {"period_ms": wanted}


class MqttDevice(Device):
    """A device with its own certificate on the local broker."""

    def __init__(self, place, name, period):
        super().__init__(name, period)
        self.ids = {}  # id -> mid
        self.delta_topic = "$aws/things/%s/shadow/update/delta" % name
        self.client = place.device(name)
        self.client.on_message = self.on_message
        self.client.subscribe("cmd/%s/#" % name, self.delta_topic)

    def publish(self, topic, key, values):
        """Publish values, with a new id under this key."""
        name = self.new_id()
        payload = json.dumps(dict({key: name}, **values))
        mid = self.client.publish(topic, payload)
        with self.lock:
            self.ids[name] = mid

    def publish_reading(self):
        now = time.time()
        values = {"time": datetime.datetime.fromtimestamp(
            now, datetime.timezone.utc).isoformat(timespec="milliseconds")}
        for key, middle, swing, digits in READINGS[self.name]:
            value = middle + swing * math.sin(now / 7) + random.uniform(
                -swing, swing) / 5
            values[key] = round(value, digits) if digits else int(value)
        self.publish("dt/%s/reading" % self.name, "id", values)

    def on_message(self, topic, payload):
        message = json.loads(payload)
        if topic == self.delta_topic:
            self.publish("$aws/things/%s/shadow/update" % self.name,
                         "clientToken",
                         {"state": {"reported": self.apply(message)}})
        else:
            self.publish("dt/%s/answer" % self.name, "id", {
                "answer_to": message["command_id"], "result": "done"})
        self.answered.append(topic)

    def acknowledged(self):
        """The ids of its messages that the broker has taken."""
        with self.lock:
            return [i for i, mid in self.ids.items()
                    if self.client.is_acked(mid)]

    def unacknowledged(self):
        return len(self.ids) - len(self.client.acked)


class SerialDevice(Device):
    """A meter at the far end of a serial line: lines of text."""

    def __init__(self, place, name, period):
        super().__init__(name, period)
        self.tty = place.ttys[name].open_device()
        self.written = []
        self.kwh = 4211.0
        self.turn = threading.Lock()  # one line at a time

    def write(self, text):
        name = self.new_id()
        self.tty.send(("%s %s\n" % (name, text)).encode())
        self.written.append(name)

    def publish_reading(self):
        self.kwh += random.uniform(0.01, 0.03)
        self.write("1.8.0=%.2f*kWh 32.7.0=%.1f*V" % (
            self.kwh, random.uniform(228, 232)))

    def publish_due(self, now):
        with self.turn:
            super().publish_due(now)
            self.read_lines()

    def pause(self):
        """Returns when no line is on its way out."""
        with self.turn:
            self.is_paused = True

    def read_lines(self):
        self.tty.receive()
        while b"\n" in self.tty.bytes:
            line, _, self.tty.bytes = self.tty.bytes.partition(b"\n")
            self.answer(line.decode())

    def answer(self, line):
        if line.startswith("{"):  # a shadow delta
            self.write("reported %s" % json.dumps(self.apply(json.loads(line))))
        else:
            self.write("answer to %s: done" % line)
        self.answered.append(line)

    def acknowledged(self):
        return list(self.written)

    def unacknowledged(self):
        return 0


class Fleet:
    """All devices, driven by one thread."""

    def __init__(self, devices):
        self.devices = {d.name: d for d in devices}
        self.failure = None
        self.is_ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __getitem__(self, name):
        return self.devices[name]

    def run(self):
        try:
            while not self.is_ending.wait(0.005):
                for device in self.devices.values():
                    device.publish_due(time.monotonic())
        except Exception as e:  # shown by the main thread, which ends all
            self.failure = e

    def start(self):
        self.thread.start()

    def finish(self):
        self.is_ending.set()
        if self.thread.is_alive():
            self.thread.join()

    def published(self):
        """How many messages the devices know to be taken."""
        return sum(len(d.written) if isinstance(d, SerialDevice)
                   else len(d.client.acked) for d in self.devices.values())

    def unacknowledged(self):
        return sum(d.unacknowledged() for d in self.devices.values())

    def published_ids(self):
        return [i for d in self.devices.values() for i in d.acknowledged()]


class Cloud:
    """The subscriber in the cloud, in a session that outlasts its broker."""

    FILTERS = ("dt/#", "$aws/things/+/shadow/update")

    def __init__(self, place):
        self.lock = threading.Lock()
        self.times = collections.Counter()  # id -> how often it came
        self.messages = []                  # (topic, payload)
        self.client = place.viewer(clean=False)
        self.client.on_message = self.on_message
        self.client.subscribe(*self.FILTERS)

    def on_message(self, topic, payload):
        text = payload.decode()
        if text.startswith("{"):
            message = json.loads(text)
            name = message.get("id") or message.get("clientToken")
        else:
            name = text.split(" ")[0]
        with self.lock:
            self.times[name] += 1
            self.messages.append((topic, text))

    def received(self):
        """How many different messages have come."""
        return len(self.times)

    def duplicates(self):
        with self.lock:
            return sum(self.times.values()) - len(self.times)

    def missing(self, ids):
        with self.lock:
            return [i for i in ids if i not in self.times]

    def find(self, topic, part):
        """A message on this topic with this in its payload, or None."""
        with self.lock:
            for t, text in self.messages:
                if t == topic and part in text:
                    return text
        return None

    def send(self, topic, payload):
        self.client.publish(topic, payload)


def make_fleet(place):
    """Devices that publish about 100 messages a second together."""
    fleet = [MqttDevice(place, name, 0.05) for name in READINGS]
    fleet.append(SerialDevice(place, SERIAL, 0.2))
    return Fleet(fleet)
