"""What the demo shows: on a terminal a table that is redrawn in place, elsewhere
a plain line every two seconds.  Knows nothing of brokers and devices."""

import os
import shutil
import sys
import textwrap
import time

WIDTH = 78
COLUMNS = (2, 22, 41, 60)  # where the four places of the table begin
PLAIN_SECONDS = 2
BAR = WIDTH - 16
ASCII = str.maketrans("─▶●○█░✓✗▸…", "->*o#.vx>~")
STYLES = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "red": "31",
          "cyan": "36"}
MARKS = {"waiting": (" ", "dim"), "now": ("▸", "bold"), "done": ("✓", "green"),
         "failed": ("✗", "red")}


class Figures:
    """What there is to show now."""

    def __init__(self):
        self.published = self.taken = self.backlog = 0
        self.acknowledged = self.received = self.at_broker = 0
        self.device_rate = self.intake_rate = self.cloud_rate = 0
        self.devices = self.broker = ""  # states, such as "running"
        self.gatewayd = self.cloud = ""
        self.fleet = ""   # which devices there are
        self.uplink = ""  # as gatewayd puts it


class Step:
    """One part of the story."""

    def __init__(self, title):
        self.title = title
        self.state = "waiting"
        self.result = ""


class Screen:
    """steps: the titles of the story, in order."""

    def __init__(self, titles):
        self.steps = [Step(t) for t in titles]
        self.note = ""
        self.begin = time.monotonic()
        self.most = 2000      # backlog of a full bar; grows
        self.drawn = 0        # lines of the table that stand on the terminal
        self.next_plain = 0
        self.color = not os.environ.get("NO_COLOR")
        self.height = 14 + len(titles)
        self.unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        size = shutil.get_terminal_size()
        self.is_live = (sys.stdout.isatty()
                        and os.environ.get("TERM", "dumb") != "dumb"
                        and size.columns > WIDTH and size.lines > self.height)

    # ---- the story ----

    def begin_step(self, number):
        step = self.steps[number - 1]
        step.state = "now"
        self.note = ""
        if not self.is_live:
            self.print("-- %d. %s" % (number, step.title))

    def end_step(self, number, result):
        step = self.steps[number - 1]
        step.state, step.result = "done", result
        if not self.is_live:
            self.print("   %s" % result)

    def fail(self):
        """The step that goes on has failed."""
        for step in self.steps:
            if step.state == "now":
                step.state = "failed"

    def say(self, text):
        """What happens within a step."""
        self.note = text
        if not self.is_live:
            self.print("   %s" % text)

    def show(self, figures, now=False):
        """Redraw; or, once in a while, print the figures.  now: in any case."""
        self.most = max(self.most, figures.backlog)
        if self.is_live:
            self.draw(figures)
        elif now or time.monotonic() >= self.next_plain:
            self.next_plain = time.monotonic() + PLAIN_SECONDS
            self.print(self.plain(figures))

    # ---- plain lines ----

    def print(self, text):
        print(text if self.unicode else text.translate(ASCII), flush=True)

    def plain(self, f):
        return ("%4.0f s  published %d  in %d  in spool %d  acknowledged %d  "
                "received %d  %d msg/s  %s" % (
                    time.monotonic() - self.begin, f.published, f.taken,
                    f.backlog, f.acknowledged, f.received, f.device_rate,
                    f.uplink.split(" (")[0] or "uplink unknown"))

    # ---- the table ----

    def style(self, text, *names):
        codes = ";".join(STYLES[n] for n in names if n)
        if not self.color or not codes or not text:
            return text
        return "\x1b[%sm%s\x1b[0m" % (codes, text)

    def row(self, *cells):
        """Cells of the four columns; a cell is a text or (text, styles...)."""
        line, at = "", 0
        for begin, cell in zip(COLUMNS, cells):
            text, names = (cell, ()) if isinstance(cell, str) else (
                cell[0], cell[1:])
            gap = max(begin - at, 1)
            line += " " * gap + self.style(text, *names)
            at += gap + len(text)
        return line

    def light(self, state):
        """A state with its lamp."""
        good = state in ("running", "connected") or "publish" in state
        lamp, color = ("●", "green") if good else (
            "○", "yellow" if state.endswith("ing") else "red")
        return "%s %s" % (lamp, state), color

    def heads(self):
        names = ("DEVICES", "LOCAL BROKER", "GATEWAYD", "CLOUD")
        line = " " * COLUMNS[0]
        for i, name in enumerate(names):
            line += self.style(name, "bold")
            if i + 1 < len(names):
                dashes = COLUMNS[i + 1] - COLUMNS[i] - len(name) - 3
                line += self.style(" %s▶ " % ("─" * dashes), "dim")
        return line

    def bar(self, f):
        n = min(BAR, -(-f.backlog * BAR // self.most))
        return "  %s %s%s %d" % (
            self.style("in spool", "dim"), self.style("█" * n, "yellow"),
            self.style("░" * (BAR - n), "dim"), f.backlog)

    def step_line(self, number, step):
        mark, color = MARKS[step.state]
        left = shorten("%d %s" % (number, step.title),
                       WIDTH - 5 - len(step.result))
        gap = WIDTH - 3 - len(left) - len(step.result)
        return "  %s %s%s%s" % (
            self.style(mark, color),
            self.style(left, color if color != "green" else ""),
            " " * gap, self.style(step.result, "cyan"))

    def lines(self, f):
        seconds = int(time.monotonic() - self.begin)
        rule = " " + self.style("─" * WIDTH, "dim")
        title = "gatewayd: one safe way to the cloud, and back"
        yield "  %s%s" % (self.style(title, "bold"), self.style(
            ("%d:%02d" % divmod(seconds, 60)).rjust(WIDTH - 1 - len(title)),
            "dim"))
        yield rule
        yield self.heads()
        yield self.row((f.fleet, "dim"), ("mosquitto", "dim"),
                       ("spool on disk", "dim"), ("mosquitto", "dim"))
        yield self.row(self.light(f.devices), self.light(f.broker),
                       self.light(f.gatewayd), self.light(f.cloud))
        yield self.row(("%d published" % f.published, "bold"),
                       ("%d waiting" % f.at_broker, "bold"),
                       ("%d in spool" % f.backlog, "bold", "yellow"
                        if f.backlog else ""),
                       ("%d received" % f.received, "bold"))
        yield self.row("%d msg/s" % f.device_rate, "",
                       "%d in, %d msg/s" % (f.taken, f.intake_rate),
                       "%d acknowledged" % f.acknowledged)
        yield self.bar(f)
        for line in two_lines(f.uplink):
            yield "  " + self.style(line, "dim")
        yield rule
        for number, step in enumerate(self.steps, 1):
            yield self.step_line(number, step)
        yield rule
        for line in two_lines(self.note):
            yield "  " + line

    def draw(self, figures):
        lines = list(self.lines(figures))
        text = "\x1b[%dA" % self.drawn if self.drawn else ""
        for line in lines:
            text += line + "\x1b[K\n"
        sys.stdout.write(text if self.unicode else text.translate(ASCII))
        sys.stdout.flush()
        self.drawn = len(lines)


def two_lines(text):
    """Exactly two lines, so that the table keeps its height."""
    lines = textwrap.wrap(text, WIDTH - 2, max_lines=2, placeholder=" ...")
    return lines + [""] * (2 - len(lines))


def shorten(text, width):
    return text if len(text) <= width else text[:width - 1] + "…"
