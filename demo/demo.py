#!/usr/bin/python3
"""The main job of gatewayd, shown with nothing faked: real brokers, mutual TLS,
certificates made on the spot, outages that happen.  See main() for its options;
`./bootstrap demo` builds gatewayd and runs this."""

import argparse
import collections
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "tests")]

import devices  # noqa: E402
import keep     # noqa: E402
import rig      # noqa: E402
import screen   # noqa: E402

STATUS = re.compile(r"(?P<uplink>.*); (SPOOL FULL, intake held; )?"
                    r"backlog (?P<backlog>\d+); in (?P<taken>\d+), "
                    r"out (?P<acknowledged>\d+), .*; (?P<rate>\d+) msg/s$")
RATE_SECONDS = 2


class Story:
    """The steps, one after the other, with the figures always in sight."""

    def __init__(self, place):
        self.place = place
        self.steps = (
            ("Readings flow from the devices to the cloud", self.flow),
            ("The cloud goes away (SIGTERM): the backlog grows", self.no_cloud),
            ("gatewayd is killed (SIGKILL): the devices publish on", self.kill),
            ("gatewayd comes back: its spool is still there", self.restart),
            ("The cloud comes back: the backlog drains", self.drain),
            ("A shadow delta and a command for pump (MQTT)", self.ask_mqtt),
            ("A shadow delta and a command for meter (serial)",
             self.ask_serial),
            ("The devices stop: every message is counted", self.count),
        )
        self.screen = screen.Screen([title for title, _ in self.steps])
        self.fleet = self.cloud = None
        self.ended = {}  # parts that we have ended: how
        self.status = {"uplink": "", "backlog": 0, "taken": 0,
                       "acknowledged": 0, "rate": 0}
        self.past = collections.deque()  # (time, published, received)

    def run(self):
        self.place.start()
        self.place.wait_up()
        self.cloud = devices.Cloud(self.place)
        self.fleet = devices.make_fleet(self.place)
        self.fleet.start()
        for number, (_, step) in enumerate(self.steps, 1):
            self.screen.begin_step(number)
            result = step()
            self.screen.end_step(number, result)
            self.screen.show(self.look(), now=True)

    # ---- looking ----

    def look(self):
        """The figures of this moment: the STATUS line of gatewayd, and what the
        devices and the cloud's subscriber have counted."""
        match = STATUS.match(self.place.gatewayd.status())
        if match:
            self.status = {k: v if k == "uplink" else int(v)
                           for k, v in match.groupdict().items()}
        f = screen.Figures()
        f.published = self.fleet.published()
        f.received = self.cloud.received()
        f.device_rate, f.cloud_rate = self.rates(f.published, f.received)
        f.backlog = self.status["backlog"]
        f.taken = self.status["taken"]
        f.acknowledged = self.status["acknowledged"]
        is_running = self.place.gatewayd not in self.ended
        f.intake_rate = self.status["rate"] if is_running else 0
        # What STATUS, which comes once a second, has not counted yet is on its
        # way; without gatewayd it really waits.
        f.at_broker = 0 if is_running else f.published - f.taken
        f.gatewayd = self.state(self.place.gatewayd)
        f.uplink = self.status["uplink"] if is_running else "no gatewayd"
        f.broker = self.state(self.place.broker)
        f.cloud = self.state(self.place.cloud)
        f.fleet = "%d MQTT, 1 serial" % len(devices.READINGS)
        f.devices = "publishing" if self.fleet.thread.is_alive() else "stopped"
        return f

    def state(self, part):
        return self.ended.get(part) or (
            "running" if part.is_running() else "broken")

    def rates(self, published, received):
        """Messages a second at both ends of the way."""
        now = time.monotonic()
        self.past.append((now, published, received))
        while now - self.past[0][0] > RATE_SECONDS:
            self.past.popleft()
        then, before_in, before_out = self.past[0]
        seconds = max(now - then, 0.5)
        return (published - before_in) / seconds, (
            received - before_out) / seconds

    def check(self):
        """Whether everything still works that we have not ended ourselves."""
        if self.fleet.failure:
            raise rig.Failed("a device failed: %s" % self.fleet.failure)
        for part in self.place.parts():
            if part not in self.ended and not part.is_running():
                raise rig.Failed("%s has ended by itself, status %s" % (
                    part.name, part.process.returncode))

    def until(self, condition, what, seconds=20):
        """Show the figures until condition() is true."""
        end = time.monotonic() + seconds * rig.SLOW
        while not condition():
            self.check()
            if time.monotonic() > end:
                raise rig.Failed("not within %g s: %s"
                                 % (seconds * rig.SLOW, what))
            self.screen.show(self.look())
            time.sleep(0.05)

    def go_on(self, seconds):
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, "", seconds + 1)

    # ---- the steps: each does, checks, and returns its result in words ----

    def flow(self):
        self.screen.say("Mutual TLS on both sides; a certificate for each "
                        "device, made just now.")
        self.until(self.cloud.received, "the first message reaches the cloud")
        self.go_on(6)
        return "%d received" % self.cloud.received()

    def no_cloud(self):
        self.screen.say("gatewayd stores what comes, and tries the cloud again "
                        "and again.")
        self.place.cloud.stop()
        self.ended[self.place.cloud] = "stopped"
        self.until(lambda: "connected" not in self.look().uplink,
                   "gatewayd sees that the cloud is away")
        begin = self.look().backlog
        self.go_on(7)
        self.until(lambda: self.look().backlog > begin + 100,
                   "the backlog grows")
        return "%d in spool" % self.look().backlog

    def settle_meter(self):
        """Nobody acknowledges a serial line: its device is quiet until
        gatewayd has stored the last one, and while it is away."""
        self.screen.say("The meter pauses: a serial line has no "
                        "acknowledgement. The others go on.")
        self.fleet[devices.SERIAL].pause()
        for _ in range(2):  # STATUS comes from a turn that has read everything
            seen = self.place.gatewayd.status()
            self.until(lambda old=seen: self.place.gatewayd.status() != old,
                       "the next STATUS line of gatewayd")

    def kill(self):
        self.settle_meter()
        self.look()
        self.place.gatewayd.kill(signal.SIGKILL)
        self.ended[self.place.gatewayd] = "killed"
        self.screen.say("The local broker keeps what the devices publish now.")
        self.go_on(5)
        return "%d wait there" % self.look().at_broker

    def restart(self):
        before = self.look().backlog
        self.place.gatewayd.start()
        del self.ended[self.place.gatewayd]
        self.until(self.place.gatewayd.status, "gatewayd's first STATUS line")
        backlog = self.look().backlog
        if backlog < before:
            raise rig.Failed("%d messages were in the spool before SIGKILL, %d "
                             "after it" % (before, backlog))
        self.fleet[devices.SERIAL].is_paused = False
        self.screen.say("%d messages from before, and now those that waited at "
                        "the local broker." % before)
        self.go_on(4)
        return "%d in spool" % self.look().backlog

    def drain(self):
        self.place.cloud.start()
        del self.ended[self.place.cloud]
        backlog, received = self.look().backlog, self.cloud.received()
        self.until(lambda: "uplink connected" in self.place.gatewayd.status(),
                   "gatewayd is connected to the cloud")
        begin = time.monotonic()
        self.until(lambda: self.cloud.received() >= received + backlog,
                   "the backlog reaches the cloud's subscriber")
        seconds = time.monotonic() - begin
        self.screen.say("What the cloud has acknowledged is deleted from the "
                        "spool, nothing else is.")
        self.go_on(3)
        return "%d drained in %.1f s" % (backlog, seconds)

    def ask(self, topic, payload, answer_topic, answer):
        """Send this down; the seconds until the answer is at the cloud."""
        self.screen.say("down  %s  %s" % (topic, payload))
        self.screen.show(self.look())
        begin = time.monotonic()
        self.cloud.send(topic, payload)
        while not self.cloud.find(answer_topic, answer):
            self.check()
            if time.monotonic() > begin + 15 * rig.SLOW:
                raise rig.Failed("no answer to %s on %s" % (topic, payload))
            time.sleep(0.001)
        seconds = time.monotonic() - begin
        self.go_on(0.8)
        self.screen.say("up    %s  %s" % (
            answer_topic, self.cloud.find(answer_topic, answer)))
        self.go_on(0.8)
        return seconds

    def ask_both(self, name, period, delta_answer, command):
        """A shadow delta, then a command; command: as for ask()."""
        delta = self.ask(
            "$aws/things/%s/shadow/update/delta" % name,
            json.dumps({"version": 7, "state": {"period_ms": period}}),
            *delta_answer)
        if round(self.fleet[name].period * 1000) != period:
            raise rig.Failed("%s has not taken the new period" % name)
        answer = self.ask(*command)
        return "answered in %.0f and %.0f ms" % (delta * 1e3, answer * 1e3)

    def ask_mqtt(self):
        return self.ask_both(
            "pump", 100,
            ("$aws/things/pump/shadow/update",
             '"reported": {"period_ms": 100}'),
            ("cmd/pump/selftest", '{"command_id": "c-17"}',
             "dt/pump/answer", '"answer_to": "c-17"'))

    def ask_serial(self):
        return self.ask_both(
            "meter", 400,
            ("dt/meter/line", 'reported {"period_ms": 400}'),
            ("cmd/meter/read", "READ 32.7.0",
             "dt/meter/line", "answer to READ 32.7.0"))

    def count(self):
        """Ids, not numbers, are compared: nothing can make up for a loss."""
        self.fleet.finish()
        try:
            self.until(lambda: self.fleet.unacknowledged() == 0,
                       "the broker has acknowledged every message")
            ids = self.fleet.published_ids()
            self.until(lambda: not self.cloud.missing(ids),
                       "all have reached the cloud", 10)
            self.until(lambda: self.look().acknowledged
                       >= self.look().taken >= len(ids)
                       and self.look().backlog == 0,
                       "gatewayd has counted all as delivered")
        finally:
            ids = self.fleet.published_ids()
            self.lost = self.cloud.missing(ids)
            self.total = (
                "published %d, received by the cloud %d, lost %d, duplicates "
                "%d" % (len(ids), len(ids) - len(self.lost), len(self.lost),
                        self.cloud.duplicates()))
        return "lost %d" % len(self.lost)

    lost = ()
    total = ""  # the closing count, once it is made


def stop_signals(action):
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, action)


def interrupted(_signal, _frame):
    raise KeyboardInterrupt


def tell_failure(story, error):
    story.screen.fail()
    if story.fleet and story.screen.drawn:
        story.screen.show(story.look(), now=True)
    if story.total:
        print(story.total)
    if story.lost:
        print("lost: %s" % " ".join(story.lost[:20]))
    print("demo: failed: %s\ndemo: the logs are in %s"
          % (error, story.place.path("log")))


def run_story(folder):
    """The demo in this folder; its exit status."""
    place = rig.Rig(folder=folder, devices=devices.READINGS,
                    serial=(devices.SERIAL,), start=False)
    story = Story(place)
    try:
        story.run()
        status = 0
    except KeyboardInterrupt:
        print("demo: interrupted; everything is stopped and removed")
        status = 130
    except (rig.Failed, OSError) as e:
        tell_failure(story, e)
        status = 1
    finally:
        stop_signals(signal.SIG_IGN)
        if story.fleet:
            story.fleet.finish()
        place.stop()
    if status == 0:
        print("\n%s" % story.total)
        print("To play with it: ./bootstrap demo --keep DIR")
    return status


def demo():
    if not os.access(rig.GATEWAYD, os.X_OK):
        print("demo: no gatewayd at %s: run ./bootstrap demo, which builds it"
              % rig.GATEWAYD, file=sys.stderr)
        return 1
    stop_signals(interrupted)
    folder = tempfile.mkdtemp(prefix="gatewayd-demo-")
    status = 1
    try:
        print("Making certificates and starting two brokers, six devices and "
              "gatewayd ...", flush=True)
        status = run_story(folder)
    except rig.Failed as e:
        print("demo: failed: %s" % e, file=sys.stderr)
    finally:
        if status != 1:
            shutil.rmtree(folder, ignore_errors=True)
    return status


def main():
    parser = argparse.ArgumentParser(
        prog="./bootstrap demo", description="Shows the main job of gatewayd "
        "in less than a minute, or sets it up to play with.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--keep", metavar="DIR", help="set up a gateway under "
                      "DIR, leave it running, and tell how to use it")
    what.add_argument("--stop", metavar="DIR", help="stop what runs under DIR; "
                      "its files stay")
    a = parser.parse_args()
    try:
        if a.keep is not None:
            sys.exit(keep.keep(a.keep))
        if a.stop is not None:
            sys.exit(keep.stop(a.stop))
    except rig.Failed as e:
        print("demo: %s" % e, file=sys.stderr)
        sys.exit(1)
    except OSError as e:
        print("demo: %s: %s" % (e.filename or "system", e.strerror),
              file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("demo: interrupted; everything is stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(demo())


if __name__ == "__main__":
    main()
