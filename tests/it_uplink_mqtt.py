#!/usr/bin/python3
"""Answers of the cloud that are no yes: each is said, survived, and what can
be kept is kept."""
import re
import shutil
import time

import faults
import mqttstub
import rig


class MqttSite(faults.Site):
    """A site with a scripted cloud beside the real one, and with a real one
    that lets nobody in."""

    def __init__(self):
        super().__init__(start=False)
        server = self.path("cloud/server")
        self.stub = mqttstub.StubCloud(self.path("cloud/ca.pem"), server)
        self.elsewhere = self.stub.taken
        self.strict_port = rig.free_port()
        self.write("cloud/strict.conf", self.as_root() + (
            "allow_anonymous false\nlistener %d 127.0.0.1\n"
            "cafile %s\ncertfile %s.pem\nkeyfile %s.key\n"
            "require_certificate true\n" % (
                self.strict_port, self.path("cloud/ca.pem"), server, server)))
        self.strict = rig.Broker(self, "strict", self.path("cloud/strict.conf"),
                                 ("127.0.0.1", self.strict_port))
        self.strict.start()
        self.start()

    def parts(self):
        return super().parts() + [self.strict]

    def to_stub(self):
        self.stub.connack = mqttstub.accept
        self.stub.puback = lambda payload: 0
        del self.stub.versions[:]
        self.proxy.set("pass", self.stub.port)

    def to_cloud(self):
        self.proxy.set("pass", self.cloud_port)

    def endpoint(self):
        return "localhost:%d" % self.proxy.port


site = faults.shared(MqttSite)


def the_cloud_does_not_authorise_us():
    s = site()
    s.outage([s.endpoint(), "refused the MQTT connection of 'gateway-1'",
              "not authorised", "policy", "uplink.client_id"],
             lambda: s.proxy.set("pass", s.strict_port), s.to_cloud)


def the_cloud_is_busy():
    s = site()

    def begin():
        s.to_stub()
        s.stub.connack = lambda version: b"\0\x89\0"
    s.outage([s.endpoint(), "refused the MQTT connection", "code 137",
              "busy"], begin, s.to_cloud)


def older_version(connack, words, versions):
    """The stub answers connack to MQTT 5 and welcomes MQTT 3.1.1.  words: of
    the line that says so.  versions: of the CONNECTs, with one cut between."""
    s = site()
    start = len(s.gatewayd.log())
    s.wait_drained()
    s.to_stub()
    s.stub.connack = lambda v: connack if v == 5 else mqttstub.accept(v)
    s.proxy.cut()
    s.wait_line([s.endpoint()] + words, start)
    s.publish()
    s.wait_drained()
    s.proxy.cut()
    rig.wait_until(lambda: len(s.stub.versions) >= len(versions),
                   lambda: "%d CONNECTs; there were %s" % (
                       len(versions), s.stub.versions))
    s.publish()
    s.wait_drained()
    assert s.stub.versions == versions, s.stub.versions
    s.to_cloud()
    s.wait_drained()


def the_cloud_refuses_mqtt_5_in_words_of_mqtt_5():
    older_version(b"\0\x84\0", ["does not know this MQTT version"], [5, 4, 4])


def the_cloud_refuses_mqtt_5_in_words_of_mqtt_3():
    reload_version("5")
    reload_version("auto")
    older_version(b"\0\1", ["does not know this MQTT version"], [5, 4, 4])


def the_cloud_closes_at_mqtt_5():
    """This may have another cause, so 5 gets its chance each time."""
    reload_version("5")
    reload_version("auto")
    older_version(None, ["closed the connection without an answer"],
                  [5, 4, 5, 4])


def reload_version(version):
    s = site()
    s.drop_in("90-version.conf",
              'uplink : { mqtt_version = "%s"; };\n' % version)
    s.gatewayd.reload()
    s.gatewayd.wait_status("uplink connected")


def mqtt_5_comes_back_after_a_wrong_guess():
    """The cloud was only closing down: the next connection is 5 again."""
    s = site()
    s.wait_drained()
    s.to_stub()
    s.stub.connack = lambda v: None if len(s.stub.versions) == 1 \
        else mqttstub.accept(v)
    s.proxy.cut()
    rig.wait_until(lambda: len(s.stub.versions) >= 2, "two CONNECTs")
    s.publish()
    s.wait_drained()
    s.proxy.cut()
    rig.wait_until(lambda: len(s.stub.versions) >= 3, "three CONNECTs")
    s.publish()
    s.wait_drained()
    assert s.stub.versions == [5, 4, 5], s.stub.versions
    s.to_cloud()
    s.wait_drained()


def puback_quota_exceeded():
    """What is refused for now is kept and comes later."""
    s = site()

    def begin():
        s.to_stub()
        s.stub.puback = lambda payload: 0x97
        s.gatewayd.wait_status("uplink connected")
        s.publish(1)
    start = len(s.gatewayd.log())
    s.wait_drained()
    begin()
    s.wait_line(["the broker does not take messages now", "0x97",
                 "kept and sent again"], start)
    s.publish(20)
    cpu, since = s.gatewayd.cpu_seconds(), time.monotonic()
    tries = len(s.stub.versions) + 3
    rig.wait_until(lambda: len(s.stub.versions) >= tries, "three more tries")
    s.check_cpu(cpu, since)
    assert s.gatewayd.counters()["backlog"] == 21, s.gatewayd.status()
    # Two lines a try: up, and down again.
    lines = len(s.new_lines(start))
    assert lines <= 2 * len(s.stub.versions) + 4, lines
    s.stub.puback = lambda payload: 0
    s.wait_drained()
    s.gatewayd.wait_status("dropped 0;")
    s.to_cloud()


def puback_not_authorised():
    """What is refused for good is dropped, counted and said; the rest
    passes."""
    s = site()
    s.wait_drained()
    s.to_stub()
    s.gatewayd.wait_status("uplink connected")
    start = len(s.gatewayd.log())
    bad = {str(s.n + i) for i in range(0, 40, 2)}
    s.stub.puback = lambda payload: 0x87 if payload in bad else 0
    s.publish(40)
    s.wait_line(["error: uplink: the broker refused a message for good",
                 "0x87", "not authorised", "dropped"], start)
    s.gatewayd.wait_status("backlog 0;.*dropped 20;")
    assert len(s.new_lines(start)) < 12, "\n".join(s.new_lines(start))
    assert set(s.stub.refused) >= bad
    s.elsewhere.extend(sorted(bad))  # accounted for
    s.to_cloud()
    s.wait_drained()


def one_refused_message_among_good_ones():
    """It is dropped, and the connection stays."""
    s = site()
    s.wait_drained()
    s.to_stub()
    s.gatewayd.wait_status("uplink connected")
    before = s.gatewayd.counters()["dropped"]
    bad = str(s.n + 3)
    s.stub.puback = lambda payload: 0x87 if payload == bad else 0
    s.publish(10)
    s.gatewayd.wait_status("backlog 0;.*dropped %d;" % (before + 1))
    assert len(s.stub.versions) == 1, "connected anew"
    s.elsewhere.append(bad)  # accounted for
    s.to_cloud()
    s.wait_drained()


def puback_refuses_everything():
    """A slip in the policy: it must not cost the backlog."""
    s = site()
    s.wait_drained()
    start, first = len(s.gatewayd.log()), s.n
    before = s.gatewayd.counters()["dropped"]
    s.to_stub()
    s.stub.puback = lambda payload: 0x87
    s.publish(40)
    s.wait_line(["warning: uplink: the broker refuses all that we send", "0x87",
                 "not authorised", "check its policy", "messages are kept"],
                start)
    rig.wait_until(lambda: len(s.stub.versions) >= 4, "four connections")
    now = s.gatewayd.counters()
    dropped = now["dropped"] - before
    assert dropped <= 2 * len(s.stub.versions), (now, s.stub.versions)
    assert now["backlog"] == 40 - dropped, now
    s.stub.puback = lambda payload: 0
    s.wait_drained()
    dropped = s.gatewayd.counters()["dropped"] - before
    lost = [str(n) for n in range(first, s.n) if str(n) not in s.stub.taken]
    assert 0 < dropped < 40 and len(lost) == dropped, (dropped, lost)
    assert set(lost) <= set(s.stub.refused), "dropped without a refusal"
    s.elsewhere.extend(lost)  # accounted for
    s.to_cloud()
    s.wait_drained()


def the_cloud_does_not_take_qos_1():
    """It could not confirm anything, so nothing is sent."""
    with rig.Rig(serial=()) as r:
        r.viewer("dt/#", clean=False).close()  # its session stays
        r.wait_up()
        dev = r.device("dev1").wait_up()
        r.cloud.stop()
        r.write_cloud("max_qos 0")
        r.cloud.start()
        r.gatewayd.wait_log("warning: uplink: the broker does not take QoS 1")
        sent = [("dt/dev1/n", b"%d" % n) for n in range(30)]
        dev.publish_all(sent)
        r.gatewayd.wait_status(r"^uplink down \(the broker does not take QoS 1"
                               ".*; backlog 30; in 30, out 0, .*dropped 0;")
        tries = r.cloud.log().count("as gateway-1 ")
        rig.wait_until(lambda: r.cloud.log().count("as gateway-1 ") >=
                       tries + 3, "three more tries")
        r.gatewayd.wait_status("backlog 30; in 30, out 0, .*dropped 0;")
        said = r.gatewayd.log().count("the broker does not take QoS 1")
        assert said == 1, "said %d times" % said
        r.cloud.stop()
        r.write_cloud("")
        r.cloud.start()
        r.gatewayd.wait_status("connected to .*backlog 0; in 30, out 30, "
                               ".*dropped 0;")
        viewer = r.viewer(clean=False)
        rig.wait_until(lambda: len(viewer.received) >= 30, "30 messages")
        assert viewer.received == sent, viewer.received


def session_taken_over():
    s = site()
    s.wait_drained()
    s.to_stub()
    rig.wait_until(lambda: s.stub.versions, "a CONNECT at the stub")
    s.gatewayd.wait_status("uplink connected")
    start = len(s.gatewayd.log())
    s.stub.goodbye = 0x8e
    line = s.wait_line([s.endpoint(), "another client with the same client id",
                        "used twice"], start)
    # It stays away for half of retry_max at least, 1 s here.
    assert float(re.search(r"try in ([\d.]+) s", line).group(1)) >= 0.5
    s.publish()
    s.wait_drained()
    assert s.stub.goodbye is None and not s.stub.failures, s.stub.failures
    s.to_cloud()
    s.wait_drained()


def two_gateways_with_the_same_client_id():
    """They take the session from each other, but seldom.  mosquitto 2.0.11
    gives no reason when it happens."""
    s = site()
    s.wait_drained()
    s.drop_in("91-delay.conf", 'uplink : { retry_max = "4s"; };\n')
    s.gatewayd.reload()
    twin = make_twin(s)
    s.wait_drained()
    start, accepted = len(s.gatewayd.log()), s.proxy.accepted
    begin, cpu = time.monotonic(), s.gatewayd.cpu_seconds()
    twin.start()
    try:
        s.wait_line([s.endpoint(), "another client with our client id "
                     "'gateway-1'"], start)
        rig.wait_until(lambda: s.new_lines(start).count(
            "info: uplink: connected, session resumed") >= 1 and
            time.monotonic() > begin + 6, "it takes the session back", 30)
        # Without growing delays there would be 10 in a second.
        spent = time.monotonic() - begin
        tries = s.proxy.accepted - accepted
        assert tries <= 10 + spent, "%d connections in %.1f s" % (tries, spent)
        s.check_cpu(cpu, begin)
        s.publish()
    finally:
        twin.stop()
    s.wait_drained()


def make_twin(s):
    """A second gatewayd with the certificate and the client id of the first,
    on another local broker: none."""
    folder = s.path("twin")
    shutil.copytree(s.path("etc"), folder)
    with open(folder + "/conf.d/95-twin.conf", "w") as f:
        f.write('local : { socket = "%s/no.sock"; };\n' % folder)
    twin = rig.Gatewayd(s, [
        rig.GATEWAYD, "--config", folder + "/gatewayd.conf",
        "--state-dir", s.path("state-twin")], {}, "twin")
    return twin


def nothing_was_lost():
    s = site()
    s.publish()
    assert not s.stub.failures, s.stub.failures
    # The twins may have cut each other with the same 20 under way.
    s.finish(60)


if __name__ == "__main__":
    rig.main([
        the_cloud_does_not_authorise_us,
        the_cloud_is_busy,
        the_cloud_refuses_mqtt_5_in_words_of_mqtt_5,
        the_cloud_refuses_mqtt_5_in_words_of_mqtt_3,
        the_cloud_closes_at_mqtt_5,
        mqtt_5_comes_back_after_a_wrong_guess,
        puback_quota_exceeded,
        puback_not_authorised,
        one_refused_message_among_good_ones,
        puback_refuses_everything,
        the_cloud_does_not_take_qos_1,
        session_taken_over,
        two_gateways_with_the_same_client_id,
        nothing_was_lost,
    ])
