#!/usr/bin/python3
"""The configuration as a user meets it: gatewayd's options, exit statuses and
complaints."""
import os
import re
import shutil
import subprocess
import tempfile

import rig

# file:line: key: what is wrong; what to write
COMPLAINT = re.compile(r"^(\S+):(\d+): ([\w.<>@ -]+): (.+); (.+)$")


def run(*args, timeout=20):
    return subprocess.run([rig.GATEWAYD] + list(args), capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, check=False,
                          timeout=timeout * rig.SLOW)


class Folder:
    """A folder with configuration files; removed at the end."""

    def __init__(self, main=None, **drop_ins):
        self.dir = tempfile.mkdtemp(prefix="gwconf-")
        self.main = os.path.join(self.dir, "gatewayd.conf")
        os.mkdir(os.path.join(self.dir, "conf.d"))
        if main is None:
            shutil.copy(os.path.join(rig.SRC, "etc/gatewayd.conf"), self.main)
        else:
            self.write("gatewayd.conf", main)
        for name, text in drop_ins.items():
            self.write("conf.d/%s.conf" % name, text)

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def check(self):
        return run("--config", self.main, "--check-config")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)


def complaints(done):
    """What was said, as (file's name, line, key): text; every line has the
    form that is promised."""
    assert done.returncode == 78, done
    assert not done.stdout, done.stdout
    result = {}
    for line in done.stderr.splitlines():
        m = COMPLAINT.match(line)
        assert m, "not file:line: key: what; remedy: %r" % line
        result[os.path.basename(m[1]), int(m[2]), m[3]] = m[4] + "; " + m[5]
    return result


def the_shipped_configuration_is_right():
    with Folder() as f:
        done = f.check()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
        assert run("-n", "-c", f.main).returncode == 0
        # An empty one is, too: no route, no uplink.
        f.write("gatewayd.conf", "")
        assert f.check().returncode == 0


def all_mistakes_are_told_in_one_run():
    with Folder(a="""\
uplink :
{
	prot = 8883;
	inflight = "many";
	keepalive = "60";
	connect_timeout = "1h";
	message_id = 1;
	ca = "relative.pem";
	mqtt_version = "4";
};
spool : { max_size = 5; };
serial :
{
	s1 : { baud = 9601; };
};
""", b="""\
spool : { max_size = 99999999999; };
nothing = 1;
serial : { s1 : { device = "/dev/x"; baud = 9601; line_end = "cr";
                  max_line = "0B"; topic = "a/+/b"; }; };
routes : { telemetry : { direction = "sideways"; filter = ( "a/#/b", 1 ); };
           r2 : { filter = []; }; };
""") as f:
        got = complaints(f.check())
        for place, text in {
                ("a.conf", 3, "uplink.prot"): "unknown key; did you mean "
                "uplink.port",
                ("a.conf", 4, "uplink.inflight"): "is not an integer; write a "
                "whole number",
                ("a.conf", 5, "uplink.keepalive"): "'60' is not a duration",
                ("a.conf", 6, "uplink.connect_timeout"): "1h is out of range; "
                'write "1s" to "5m"',
                ("a.conf", 7, "uplink.message_id"): "is not a boolean; write "
                "true or false",
                ("a.conf", 8, "uplink.ca"): "is not an absolute path",
                ("a.conf", 9, "uplink.mqtt_version"): "'4' is none of the "
                'choices; write "auto", "5" or "3.1.1"',
                ("b.conf", 1, "spool.max_size"): "the number 99999999999 is too "
                "large",
                ("b.conf", 2, "nothing"): "unknown key",
                ("b.conf", 3, "serial.s1.baud"): "9601 is not a standard rate",
                ("b.conf", 3, "serial.s1.line_end"): "'cr' is none of the "
                "choices",
                ("b.conf", 4, "serial.s1.max_line"): "out of range",
                ("b.conf", 4, "serial.s1.topic"): "is not a topic without "
                "wildcards",
                ("b.conf", 5, "routes.telemetry.direction"): "'sideways' is "
                "none of the choices",
                ("b.conf", 5, "routes.telemetry.filter"): "is not an MQTT "
                "filter",
                ("b.conf", 6, "routes.r2.direction"): "is missing; write "
                "direction",
                ("b.conf", 6, "routes.r2.filter"): "write"}.items():
            assert place in got, "%s is not in %s" % (place, sorted(got))
            assert text in got[place], (place, got[place])


def syntax_errors_name_file_and_line():
    with Folder(a="gateway :\n{\n  name = \"g\"\n",
                b='uplink : { host = "x"; };\n\nlocal : {\n socket = = 1;\n};',
                c="@include \"/etc/passwd\"\n",
                d="spool : { };\ngateway : { };\nspool : { };\n") as f:
        got = complaints(f.check())
        assert "syntax error" in got["a.conf", 4, "syntax"], got
        assert "syntax error" in got["b.conf", 4, "syntax"], got
        assert "cannot be used" in got["c.conf", 1, "@include"], got
        assert "stands twice" in got["d.conf", 3, "syntax"], got


def drop_ins_override_in_the_order_of_their_names():
    """Bytes decide, not the language; key by key; lists as a whole."""
    with Folder(z="uplink : { port = 1; };",
                Z="uplink : { port = 0; inflight = 0; };",
                a="uplink : { inflight = 7; };") as f:
        # Z, a, z: of the wrong values in Z none is left.
        f.write("conf.d/.hidden.conf", "wrong = 1;")
        f.write("conf.d/note.txt", "this is no configuration")
        f.write("conf.d/x.conf.bak", "wrong = 1;")
        done = f.check()
        assert done.returncode == 0, done.stderr
        f.write("conf.d/zz.conf", "uplink : { port = 0; };")
        assert list(complaints(f.check())) == [("zz.conf", 1, "uplink.port")]
        f.write("conf.d/zz.conf", 'routes : { telemetry : { filter = "a/#"; '
                '}; }; serial : { s : { device = "/d"; }; };')
        got = complaints(f.check())
        assert "no `up` route takes its topic 'dt/s/line'" in \
            got["zz.conf", 1, "serial.s"], got


def what_cannot_be_read_is_told():
    with Folder() as f:
        os.unlink(f.main)
        got = complaints(f.check())
        assert "No such file" in got["gatewayd.conf", 0, "file"], got
        os.mkdir(f.main)
        assert ("gatewayd.conf", 0, "file") in complaints(f.check())
        os.rmdir(f.main)
        os.mkfifo(f.main)  # must not wait for a writer
        assert ("gatewayd.conf", 0, "file") in complaints(f.check())
        os.unlink(f.main)
        f.write("gatewayd.conf", "x" * (2 << 20))
        assert ("gatewayd.conf", 0, "file") in complaints(f.check())
        f.write("gatewayd.conf", "")
        os.symlink("/nowhere", f.dir + "/conf.d/gone.conf")
        assert ("gone.conf", 0, "file") in complaints(f.check())


def options_and_their_exit_status():
    done = run("--version")
    assert done.returncode == 0 and not done.stderr, done
    assert re.match(r"gatewayd \d\S*\nlibmosquitto \d+\.\d+\.\d+, "
                    r"SQLite \d\S+, OpenSSL \d\S+", done.stdout), done
    done = run("--help")
    assert done.returncode == 0 and not done.stderr, done
    for option in ("--config", "--state-dir", "--check-config", "--list-keys",
                   "--verbose", "--version", "--help"):
        assert option in done.stdout, option
    for args in (["--wrong"], ["-x"], ["--config"], ["surplus"],
                 ["--check-config", "surplus"]):
        done = run(*args)
        assert done.returncode == 64, (args, done)
        assert "Try 'gatewayd --help'." in done.stderr, (args, done)


def list_keys_has_every_key_of_the_sample():
    done = run("--list-keys")
    assert done.returncode == 0 and not done.stderr, done
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(len(row) == 6 and row[1] and row[5] for row in rows), rows
    keys = {row[0] for row in rows}
    with open(os.path.join(rig.SRC, "etc/gatewayd.conf")) as f:
        sample = f.read()
    for key in keys:
        assert re.search(r"\b%s\s*=" % re.escape(key.split(".")[-1]), sample), \
            "%s is not in the sample" % key
    groups = {"gateway", "spool", "uplink", "local", "serial", "routes"}
    assert {k.split(".")[0] for k in keys} == groups, keys


def a_wrong_configuration_starts_nothing():
    with Folder(a="uplink : { port = 0; };") as f:
        state = os.path.join(f.dir, "state")
        done = run("--config", f.main, "--state-dir", state)
        assert list(complaints(done)) == [("a.conf", 1, "uplink.port")], done
        assert not os.path.exists(state), "it has made its state folder"


def an_unusable_state_folder_is_told():
    with Folder() as f:
        f.write("state", "a file")
        done = run("--config", f.main, "--state-dir", f.dir + "/state")
        assert done.returncode == 1, done
        assert "cannot use" in done.stderr or "cannot make" in done.stderr, done
        done = run("--config", f.main, "--state-dir", f.dir + "/no/such")
        assert done.returncode == 1, done
        assert "cannot make the state directory '%s/no/such'" % f.dir in \
            done.stderr, done
        os.mkdir(f.dir + "/dir")
        f.write("dir/spool.db", "this is no database " * 1000)
        done = run("--config", f.main, "--state-dir", f.dir + "/dir")
        assert done.returncode == 1, done
        assert "spool.db is damaged" in done.stderr, done
        with open(f.dir + "/dir/spool.db") as db:
            assert db.read() == "this is no database " * 1000, "it was touched"


if __name__ == "__main__":
    rig.main([
        the_shipped_configuration_is_right,
        all_mistakes_are_told_in_one_run,
        syntax_errors_name_file_and_line,
        drop_ins_override_in_the_order_of_their_names,
        what_cannot_be_read_is_told,
        options_and_their_exit_status,
        list_keys_has_every_key_of_the_sample,
        a_wrong_configuration_starts_nothing,
        an_unusable_state_folder_is_told,
    ])
