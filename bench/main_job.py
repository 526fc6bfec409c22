#!/usr/bin/python3
"""The figures of the main job, beside a peer in the same run: mosquitto's own
bridge (persistence on, QoS 1, mutual TLS) does the same work on the same load.

    make bench                 all, about 4 minutes
    bench/main_job.py --backlog 100000 --seconds 10     smaller

Prints a table and, as its last line, JSON.  Times depend on the machine; the
ratios to the peer are what travels.
"""

import argparse
import json
import os
import signal
import subprocess
import time

import rig

RATE = 1000  # messages/s of the steady load
PAYLOAD_BYTES = 100


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid):
    """Resident, and proportional (shared pages divided by their users)."""
    values = {}
    with open("/proc/%d/smaps_rollup" % pid) as f:
        for line in f:
            key, _, rest = line.partition(":")
            if key in ("Rss", "Pss"):
                values[key.lower()] = int(rest.split()[0])
    return values


class Bridge:
    """The peer: one mosquitto that takes devices and bridges to the cloud."""

    def __init__(self, r):
        self.port = rig.free_port()
        os.makedirs(r.path("state-bridge"), exist_ok=True)
        r.write("etc/bridge.conf", r.as_root() + """\
log_dest stderr
persistence true
persistence_location %s/
max_queued_messages 2000000
allow_anonymous true
listener %d 127.0.0.1
cafile %s
certfile %s
keyfile %s
require_certificate true
connection cloud
address 127.0.0.1:%d
topic dt/# out 1
cleansession false
restart_timeout 1
bridge_cafile %s
bridge_certfile %s
bridge_keyfile %s
bridge_insecure true
remote_clientid bridge
""" % (r.path("state-bridge"), self.port, r.path("etc/broker/ca.pem"),
            r.path("etc/broker/server.pem"), r.path("etc/broker/server.key"),
            r.cloud_port, r.path("cloud/ca.pem"),
            r.path("cloud/gateway-1.pem"), r.path("cloud/gateway-1.key")))
        self.part = rig.Broker(r, "bridge", r.path("etc/bridge.conf"),
                               ("127.0.0.1", self.port))


def steady(r, port, pids, seconds):
    """RATE messages/s for so long: latency to the cloud's subscriber, and CPU
    of the processes for each message."""
    latencies = []
    viewer = r.viewer()

    def on_message(_topic, payload):
        latencies.append(time.monotonic() - float(payload[:20]))
    viewer.on_message = on_message
    viewer.subscribe("dt/#")
    device = rig.Client("dev1", port, r.path("etc/broker/ca.pem"),
                        r.path("devices/dev1.pem"), r.path("devices/dev1.key"))
    device.wait_up()
    before = [cpu_seconds(p) for p in pids]
    begin = time.monotonic()
    n = int(seconds * RATE)
    for i in range(n):
        delay = begin + i / RATE - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        text = b"%020.9f" % time.monotonic()
        device.publish("dt/dev1/x", text + b"x" * (PAYLOAD_BYTES - len(text)))
    rig.wait_until(lambda: len(latencies) >= n, "all messages", 60)
    used = [cpu_seconds(p) - b for p, b in zip(pids, before)]
    device.close()
    viewer.close()
    r.clients.remove(viewer)
    latencies.sort()
    return {"messages": n,
            "p50_ms": latencies[n // 2] * 1e3,
            "p99_ms": latencies[n * 99 // 100] * 1e3,
            "cpu_us_per_message": [u / n * 1e6 for u in used]}


def publish_many(r, n):
    """n messages of 100 bytes by mosquitto_pub, acknowledged by the broker."""
    process = subprocess.Popen(
        ["mosquitto_pub", "-h", "localhost", "-p", str(r.local_port),
         "--cafile", r.path("etc/broker/ca.pem"),
         "--cert", r.path("devices/dev1.pem"),
         "--key", r.path("devices/dev1.key"),
         "-t", "dt/dev1/x", "-q", "1", "-l"], stdin=subprocess.PIPE)
    with process.stdin as out:
        for i in range(n):
            out.write(b"%0100d\n" % i)
            if i % 2000 == 0:  # as fast as gatewayd stores
                rig.wait_until(lambda at=i: r.gatewayd.counters().get(
                    "in", 0) >= at - 20000, "intake", 120)
    process.wait()
    rig.wait_until(lambda: r.gatewayd.counters().get("backlog", 0) >= n,
                   "backlog of %d" % n, 300)


def backlog(n):
    """Memory, start and drain with n messages on disk."""
    result = {"messages": n}
    with rig.Rig(devices=1, serial=(), start=False) as r:
        r.broker.start()
        begin = time.monotonic()
        r.gatewayd.start()
        result["start_empty_ms"] = (time.monotonic() - begin) * 1e3
        begin = time.monotonic()
        publish_many(r, n)
        result["intake_per_s"] = n / (time.monotonic() - begin)
        result["memory_backlog"] = memory_kib(r.gatewayd.pid)
        result["spool_bytes"] = sum(
            os.path.getsize(r.path("state", f))
            for f in os.listdir(r.path("state")))
        r.gatewayd.kill(signal.SIGKILL)
        begin = time.monotonic()
        r.gatewayd.start()
        result["start_after_kill_ms"] = (time.monotonic() - begin) * 1e3
        r.cloud.start()
        r.gatewayd.wait_status("uplink connected")
        begin = time.monotonic()
        peak = 0
        while r.gatewayd.counters().get("backlog", n):
            peak = max(peak, memory_kib(r.gatewayd.pid)["rss"])
            time.sleep(0.1)
        result["drain_per_s"] = n / (time.monotonic() - begin)
        result["peak_rss_kib_draining"] = peak
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backlog", type=int, default=1000000)
    parser.add_argument("--seconds", type=float, default=20)
    a = parser.parse_args()
    figures = {}
    with rig.Rig(devices=1, serial=()) as r:
        r.wait_up()
        time.sleep(2)  # what idle means
        figures["memory_idle"] = memory_kib(r.gatewayd.pid)
        figures["gatewayd"] = steady(
            r, r.local_port, [r.gatewayd.pid, r.broker.pid], a.seconds)
        bridge = Bridge(r)
        bridge.part.start()
        figures["bridge"] = steady(r, bridge.port, [bridge.part.pid], a.seconds)
        bridge.part.stop()
    figures["backlog"] = backlog(a.backlog)
    show(figures)
    print(json.dumps(figures))


def show(f):
    g, b, k = f["gatewayd"], f["bridge"], f["backlog"]
    total = sum(g["cpu_us_per_message"])
    peer = sum(b["cpu_us_per_message"])
    rows = [
        ("memory idle, RSS / PSS", "%d / %d KiB" % (
            f["memory_idle"]["rss"], f["memory_idle"]["pss"])),
        ("memory with %d messages on disk" % k["messages"], "%d / %d KiB" % (
            k["memory_backlog"]["rss"], k["memory_backlog"]["pss"])),
        ("peak RSS while they drain", "%d KiB" % k["peak_rss_kib_draining"]),
        ("start to READY, empty", "%.0f ms" % k["start_empty_ms"]),
        ("start to READY after kill -9, full", "%.0f ms"
         % k["start_after_kill_ms"]),
        ("intake, drain", "%.0f/s, %.0f/s" % (
            k["intake_per_s"], k["drain_per_s"])),
        ("spool on disk", "%.0f bytes/message" % (
            k["spool_bytes"] / k["messages"])),
        ("CPU per message at %d/s" % RATE,
         "gatewayd %.0f us + broker %.0f us; bridge %.0f us: %.2fx" % (
             *g["cpu_us_per_message"], peer, total / peer if peer else 0)),
        ("latency p50 at %d/s" % RATE, "%.2f ms; bridge %.2f ms: %.2fx" % (
            g["p50_ms"], b["p50_ms"], g["p50_ms"] / b["p50_ms"])),
        ("latency p99 at %d/s" % RATE, "%.2f ms; bridge %.2f ms: %.2fx" % (
            g["p99_ms"], b["p99_ms"], g["p99_ms"] / b["p99_ms"])),
    ]
    for name, value in rows:
        print("%-38s %s" % (name, value))


if __name__ == "__main__":
    main()
