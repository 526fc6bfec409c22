#!/usr/bin/python3
"""What could lose, double or hold up messages on the way up without any kill:
routes that overlap, subscriptions that change, rows that can never be sent."""
import collections

import rig


def routes(text):
    return "routes : { %s };\n" % text


def a_message_that_two_routes_take_is_stored_once():
    """The broker has one subscription for it, though two filters take it."""
    with rig.Rig(devices=1, extra_config=routes(
            'alarms : { direction = "up"; filter = "dt/{device}/alarm"; };'
    )) as r:
        viewer = r.viewer("#")
        r.wait_up()
        want = [("dt/dev1/alarm", b"%d" % i) for i in range(50)]
        r.device("dev1").wait_up().publish_all(want)
        r.gatewayd.wait_status("backlog 0; in 50, out 50,")
        rig.wait_until(lambda: len(viewer.received) >= 50, "50 messages")
        assert viewer.received == want, viewer.received


def a_reload_that_changes_filters_loses_nothing():
    """From one filter that takes a topic to another one: at no moment is the
    topic without a subscription."""
    wide = 'telemetry : { filter = "dt/{device}/#"; };'
    narrow = 'telemetry : { filter = [ "dt/{device}/n", "dt/+/{device}" ]; };'
    with rig.Rig(devices=1) as r:
        viewer = r.viewer("#")
        r.wait_up()
        dev = r.device("dev1").wait_up()
        mids = []
        for turn in range(30):
            # All of these are on the way to the broker while gatewayd changes
            # its subscriptions.
            for _ in range(100):
                mids.append(dev.publish("dt/dev1/n", b"%d" % len(mids)))
            r.write("etc/conf.d/60-routes.conf",
                    routes(narrow if turn % 2 == 0 else wide))
            r.gatewayd.reload()
        rig.wait_until(lambda: all(dev.is_acked(m) for m in mids), "PUBACKs")
        want = {b"%d" % i for i in range(len(mids))}
        rig.wait_until(
            lambda: want <= {p for _, p in list(viewer.received)},
            lambda: "all messages; missing: %s" % sorted(
                want - {p for _, p in viewer.received}, key=int)[:20])


def rows_that_can_never_be_sent_do_not_hold_up_the_rest():
    """More than a window of them, and nothing else comes in that could bring
    the next turn."""
    with rig.Rig(devices=1) as r:
        r.wait_up()
        r.cloud.stop()
        r.write_cloud("max_packet_size 2000\n")
        dev = r.device("dev1").wait_up()
        dev.publish_all([("dt/dev1/n", b"x" * 3000)] * 350)
        dev.publish_all([("dt/dev1/n", b"small")])
        r.gatewayd.wait_status("backlog 351;")
        r.cloud.start()
        viewer = r.viewer("#")
        viewer.wait_payload(b"small", 10)
        r.gatewayd.wait_status("backlog 0; in 351, out 1, down 0, dropped 350")
        topics = collections.Counter(viewer.received)
        assert topics == {("dt/dev1/n", b"small"): 1}, topics


if __name__ == "__main__":
    rig.main([a_message_that_two_routes_take_is_stored_once,
              a_reload_that_changes_filters_loses_nothing,
              rows_that_can_never_be_sent_do_not_hold_up_the_rest])
