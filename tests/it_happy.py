#!/usr/bin/python3
"""The way up with everything running: what devices publish arrives in the cloud
as it was, and what must not pass does not."""
import re
import subprocess

import paho.mqtt.client as paho

import faults
import rig


def by_device(received):
    """The payloads of dt/<device>/..., for each device in order."""
    result = {}
    for topic, payload in received:
        result.setdefault(topic.split("/")[1], []).append(payload)
    return result


def every_message_arrives_once_and_in_order():
    """Devices that publish at the same time, each with its own certificate."""
    with rig.Rig(devices=3) as r:
        viewer = r.viewer("#")
        r.wait_up()
        want = {}
        clients = [(name, r.device(name).wait_up()) for name in r.names]
        mids = []
        for n in range(700):
            for name, client in clients:
                payload = b"%s-%d" % (name.encode(), n)
                want.setdefault(name, []).append(payload)
                mids.append((client, client.publish("dt/%s/n" % name, payload)))
        rig.wait_until(lambda: all(c.is_acked(m) for c, m in mids),
                       "PUBACKs for %d messages" % len(mids))
        r.gatewayd.wait_status("backlog 0; in 2100, out 2100, .*dropped 0")
        rig.wait_until(lambda: len(viewer.received) >= 2100, "2100 messages")
        assert by_device(viewer.received) == want


def payloads_and_topics_arrive_unchanged():
    with rig.Rig() as r:
        viewer = r.viewer("#")
        r.wait_up()
        dev = r.device("dev1").wait_up()
        big = bytes(range(256)) * 4092  # just below the broker's 1 MiB limit
        want = [("dt/dev1/b", bytes([b])) for b in range(256)] + [
            ("dt/dev1/all", bytes(range(256))),
            ("dt/dev1/nul", b"a\0b\0\0"),
            ("dt/dev1/empty", b""),
            ("dt/dev1/big", big),
            ("dt/dev1/number", b"9007199254740993"),
            ("dt/dev1/temp\u00e9rature/\u6e29\u5ea6/\U0001f321", b"21"),
            ("dt/dev1//", b"empty levels"),
            ("dt/dev1/%s%n%d", b"%s%n"),
            ("dt/dev1/ ", b"a blank"),
            ("dt/dev1/" + "l" * 60000, b"a long topic"),
        ]
        dev.publish_all(want)
        rig.wait_until(lambda: len(viewer.received) >= len(want), "all of it")
        assert viewer.received == want, [
            (w[0][:80], g[0][:80]) for w, g in zip(want, viewer.received)
            if w != g]


def qos_0_goes_up_too():
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        dev = r.device("dev1").wait_up()
        want = [("dt/dev1/q0", b"%d" % n) for n in range(200)]
        dev.publish_all(want, qos=0)
        dev.publish_all([("dt/dev1/q1", b"end")])
        viewer.wait_payload(b"end")
        assert viewer.received == want + [("dt/dev1/q1", b"end")]


def ids_are_unique_and_survive_a_restart():
    """MQTT 5: the user property "id" is <epoch>-<sequence>."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#", version=paho.MQTTv5)
        r.wait_up()
        dev = r.device("dev1").wait_up()
        dev.publish_all([("dt/dev1/n", b"%d" % n) for n in range(100)])
        r.gatewayd.wait_status("backlog 0; in 100, out 100")
        assert r.gatewayd.stop() == 0
        r.gatewayd.start()
        dev.publish_all([("dt/dev1/n", b"%d" % n) for n in range(100)])
        r.gatewayd.wait_status("backlog 0; in 200, out 200")
        ids = [dict(p.UserProperty)["id"] for p in viewer.properties]
        assert all(re.fullmatch("[0-9a-f]{8}-[0-9]+", i) for i in ids), ids
        assert len(set(ids)) == 200, "an id came twice"
        assert len({i.split("-")[0] for i in ids}) == 1, "the epoch changed"
        numbers = [int(i.split("-")[1]) for i in ids]
        assert numbers == sorted(numbers), numbers


def message_id_can_be_switched_off():
    with rig.Rig(serial=(), uplink="message_id = false;") as r:
        viewer = r.viewer("#", version=paho.MQTTv5)
        r.device("dev1").wait_up().publish_all([("dt/dev1/x", b"x")])
        viewer.wait_payload(b"x")
        assert not hasattr(viewer.properties[0], "UserProperty")


def mqtt_311_and_a_prefix_in_the_cloud():
    with rig.Rig(serial=(), uplink='mqtt_version = "3.1.1";', extra_config="""
            routes : { telemetry : { cloud_prefix = "plant7/"; };
                       commands : { cloud_prefix = "plant7/"; }; };""") as r:
        viewer = r.viewer("#")
        r.wait_up()
        assert "as gateway-1 (p2, c0," in r.cloud.log(), r.cloud.log()
        dev = r.device("dev1").subscribe("cmd/dev1/#")
        want = [("dt/dev1/n", b"%d" % n) for n in range(300)]
        dev.publish_all(want)
        rig.wait_until(lambda: len(viewer.received) >= 300, "300 messages")
        assert viewer.received == [("plant7/" + t, p) for t, p in want]
        viewer.publish("plant7/cmd/dev1/go", b"with prefix")
        viewer.publish("cmd/dev1/go", b"without")
        viewer.publish("plant7/cmd/dev1/go", b"last")
        dev.wait_payload(b"last")
        assert dev.received == [("cmd/dev1/go", b"with prefix"),
                                ("cmd/dev1/go", b"last")], dev.received


def what_no_route_takes_is_dropped_counted_and_logged():
    """The broker lets a local program in that no route knows: the wide filter
    of one route brings in what the device rule of it refuses."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        r.device("dev1").wait_up()
        mark = len(r.gatewayd.log())
        for topic in ("dt/bad name/x", "dt//x", "dt/../x", "other/x"):
            subprocess.run(["mosquitto_pub", "--unix", r.path("run/mqtt.sock"),
                            "-q", "1", "-t", topic, "-m", "no"], check=True)
        r.device("dev2").wait_up().publish_all([("dt/dev2/x", b"yes")])
        viewer.wait_payload(b"yes")
        # other/x is not even subscribed to.
        r.gatewayd.wait_status("in 1, out 1, down 0, dropped 3")
        assert viewer.received == [("dt/dev2/x", b"yes")], viewer.received
        for topic in ("dt/bad name/x", "dt//x", "dt/../x"):
            assert "warning: local: message on '%s' is dropped: it does not " \
                "name a device" % topic in r.gatewayd.log()[mark:], topic


def a_device_cannot_speak_or_listen_for_another():
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        dev2 = r.device("dev2").subscribe("cmd/dev1/#", "#", "cmd/+/x",
                                          "$aws/things/dev1/shadow/#")
        dev2.publish("dt/dev1/x", b"forged")
        dev2.publish("$aws/things/dev1/shadow/update", b"forged")
        dev2.publish("cmd/dev1/x", b"forged")
        # mosquitto 2.0.11 ends the connection of who is denied something
        # while a client's queue has no limit; so a new one for the rest.
        r.device("dev2").wait_up().publish_all([("dt/dev2/x", b"own")])
        viewer.wait_payload(b"own")
        assert viewer.payloads() == ["own"], viewer.received
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        viewer.publish("cmd/dev1/x", b"for dev1")
        viewer.publish("$aws/things/dev1/shadow/update/delta", b"for dev1")
        viewer.publish("cmd/dev1/x", b"end")
        dev1.wait_payload(b"end")
        assert not dev2.received, dev2.received


def connects(r, ca, certificate, seconds=3):
    """Whether mosquitto_pub gets through to the device listener."""
    keys = ["--cert", certificate + ".pem", "--key", certificate + ".key"] \
        if certificate else []
    done = subprocess.run(
        ["timeout", str(int(seconds * rig.SLOW)), "mosquitto_pub", "-h",
         "127.0.0.1", "-p", str(r.local_port), "--cafile", ca, "--insecure",
         "-i", "dev1", "-q", "1", "-t", "dt/dev1/x", "-m", "from outside"]
        + keys, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def only_certificates_of_the_device_ca_get_in():
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("#")
        r.wait_up()
        ca = r.path("etc/broker/ca.pem")
        rig.pki(r.path("other"), "init", "localhost")
        rig.pki(r.path("other"), "device", "dev1", r.path("other"))
        assert not connects(r, ca, None), "no certificate at all"
        assert not connects(r, ca, r.path("other/dev1")), "another CA's"
        assert not connects(r, ca, r.path("cloud/viewer")), "the cloud's"
        assert not connects(r, ca, r.path("etc/broker/server")), \
            "the broker's own certificate is for a server"
        assert connects(r, ca, r.path("devices/dev1")), "the right one"
        viewer.wait_payload(b"from outside")
        assert len(viewer.received) == 1, viewer.received


def the_client_id_is_the_name_in_the_certificate():
    """dev2's certificate cannot take over dev1's session by its id."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer()
        r.wait_up()
        dev1 = r.device("dev1").subscribe("cmd/dev1/#")
        lost = []
        dev1.paho.on_disconnect = lambda *_: lost.append(1)
        thief = rig.Client("dev1", r.local_port, r.path("etc/broker/ca.pem"),
                           r.path("devices/dev2.pem"),
                           r.path("devices/dev2.key"))
        r.clients.append(thief)
        thief.subscribe("cmd/#")
        viewer.wait_up().publish("cmd/dev1/x", b"secret")
        dev1.wait_payload(b"secret")
        assert not lost, "dev1 was thrown out"
        assert not thief.received, thief.received
        assert re.search(r"connected from \S+ as dev2 ", r.broker.log())


def our_ids(r):
    """gatewayd's client ids in the local broker's log, each once."""
    return set(re.findall(r" as (gatewayd\S*) ", r.broker.log()))


def no_device_takes_over_our_session():
    """Our client id cannot be guessed, and stays the same: the local broker
    queues for it while gatewayd is away."""
    with rig.Rig(serial=()) as r:
        viewer = r.viewer("dt/#")
        r.wait_up()
        ids = our_ids(r)
        assert len(ids) == 1 and re.fullmatch(
            "gatewayd-[0-9a-f]{16}", min(ids)), ids
        assert r.gatewayd.stop() == 0
        sent = [("dt/dev1/n", b"%d" % n) for n in range(50)]
        r.device("dev1").wait_up().publish_all(sent)
        # gatewayd-pki makes no such certificate, but another tool may.
        faults.issue(r.path("etc/broker"), r.path("thief"), None, "clientAuth",
                     name="gatewayd")
        thief = rig.Client("gatewayd", r.local_port,
                           r.path("etc/broker/ca.pem"), r.path("thief.pem"),
                           r.path("thief.key"))
        r.clients.append(thief)
        thief.wait_up().close()
        assert "gatewayd" in our_ids(r), "the thief was not even there"
        r.gatewayd.start()
        rig.wait_until(lambda: len(viewer.received) >= 50, "50 messages")
        assert viewer.received == sent, viewer.received
        r.gatewayd.wait_log("local: connected, session resumed")
        assert our_ids(r) == ids | {"gatewayd"}, our_ids(r)


if __name__ == "__main__":
    rig.main([
        every_message_arrives_once_and_in_order,
        payloads_and_topics_arrive_unchanged,
        qos_0_goes_up_too,
        ids_are_unique_and_survive_a_restart,
        message_id_can_be_switched_off,
        mqtt_311_and_a_prefix_in_the_cloud,
        what_no_route_takes_is_dropped_counted_and_logged,
        a_device_cannot_speak_or_listen_for_another,
        only_certificates_of_the_device_ca_get_in,
        the_client_id_is_the_name_in_the_certificate,
        no_device_takes_over_our_session,
    ])
