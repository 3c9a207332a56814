#!/usr/bin/env python3
"""Runs the load generator against echo-server and its peers, and writes a table, a chart and the
raw numbers. The build's target `bench` calls it."""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import random
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
OURS = "echo-server"
ONE_CORE = "client and server on one core"
TWO_CORES = "client and server on a core each"

# What each server is called in the table. {bin} is the directory of the programs, {chunk} the size
# of a read.
COMMANDS = {
    OURS: "{server} --host 127.0.0.1 --port 0 {flags}",
    "bare C": "{bin}/bare {port} {chunk} spawn",
    "bare C, gathering": "{bin}/bare {port} {chunk} spawn gather",
    "bare C, reusing threads": "{bin}/bare {port} {chunk} reuse",
    "asio, threads": "{bin}/asio_threads {port} {peer_chunk}",
    "asio, asynchronous": "{bin}/asio_async {port} {peer_chunk}",
    "tcpserver cat": "tcpserver -HRl0 -c 1000 127.0.0.1 {port} cat",
    "socat": "socat TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay PIPE",
    "ncat": "ncat -l -k --exec /bin/cat 127.0.0.1 {port}",
    "Python, threads": "{python} {here}/peers/threading_server.py {port} {peer_chunk}",
    "Python notes": "{python} {here}/peers/notes.py {port}",
    "Python notes, quiet": "{python} {here}/peers/notes.py {port} quiet",
}
ALL = list(COMMANDS)
ALL_BUT_REUSE = [name for name in ALL if name != "bare C, reusing threads"]
# Why a server fails where its failure does not say so itself.
REASONS = {
    ("ncat", "bulk-16"): "blocks on writing to cat while cat blocks on writing to it",
    ("ncat", "bulk-64k"): "blocks on writing to cat while cat blocks on writing to it",
    ("Python notes", "churn"): "serves one client after another",
    ("ncat", "churn"): "drops what comes back after the client's half-close",
    ("Python notes", "ping-pong-50"): "serves one client after another",
    ("Python notes, quiet", "ping-pong-50"): "serves one client after another",
}


@dataclasses.dataclass
class Workload:
    key: str
    title: str
    load: str  # What load does: its arguments.
    flags: str  # Those of echo-server.
    metric: str
    unit: str
    servers: list
    chunk: int = 16  # Of the bare limit.
    peer_chunk: int = 1024  # What others' examples take, unless the workload says.
    placement: str = "any core"
    less_is_better: bool = False

    @property
    def chart_title(self):
        return self.title.replace("connections", "conn.").replace("connection", "conn.")


def idle(count):
    return Workload(
        f"idle-{count}", f"{count:,} idle connections", f"idle {{port}} {count} {{pid}}",
        "--max-connections 20000", "kib_per_connection_echoed", "KiB per connection",
        [OURS, "bare C", "bare C, gathering", "asio, threads", "asio, asynchronous"],
        placement=ONE_CORE, less_is_better=True)


VERBOSE = [OURS, "Python notes"]
WORKLOADS = [
    Workload("ping-pong-16", "ping-pong, 1 connection, 16 bytes",
             "ping-pong {port} 1 16 {seconds}", "", "messages_per_s", "round trips/s",
             ALL_BUT_REUSE, placement=ONE_CORE),
    Workload("ping-pong-100", "ping-pong, 1 connection, 100 bytes",
             "ping-pong {port} 1 100 {seconds}", "", "messages_per_s", "round trips/s",
             ALL_BUT_REUSE, placement=ONE_CORE),
    Workload("bulk-16", "bulk, 1 connection, default chunk", "bulk {port} {bytes} {seconds}",
             "", "megabytes_per_s", "MB/s", ALL_BUT_REUSE),
    Workload("bulk-64k", "bulk, 1 connection, chunk 64k", "bulk {port} {bytes} {seconds}",
             "--chunk-size 64k", "megabytes_per_s", "MB/s",
             [name for name in ALL_BUT_REUSE if "gathering" not in name and "notes" not in name],
             chunk=65536, peer_chunk=65536),
    Workload("ping-pong-50", "ping-pong, 50 connections, 512 bytes, chunk 4k",
             "ping-pong {port} 50 512 {seconds}", "--chunk-size 4k", "messages_per_s",
             "round trips/s",
             [name for name in ALL_BUT_REUSE if "gathering" not in name and "quiet" not in name],
             chunk=4096, peer_chunk=4096, placement=ONE_CORE),
    Workload("churn", "churn, 4 clients at once", "churn {port} 4 {seconds}", "",
             "connections_per_s", "connections/s",
             [name for name in ALL if "gathering" not in name and "quiet" not in name]),
    idle(1000), idle(5000), idle(10000),
    Workload("start", "start and stop", "start 20 {port} {command}", "", "first_echo_ms",
             "ms to the first echo", [OURS, "bare C"], less_is_better=True),
    Workload("verbose-bulk", "bulk, default chunk, -v", "bulk {port} {bytes} {seconds}", "-v",
             "megabytes_per_s", "MB/s", VERBOSE),
    Workload("verbose-2-cores", "ping-pong, 16 bytes, -v, a core each",
             "ping-pong {port} 1 16 {seconds}", "-v", "messages_per_s", "round trips/s", VERBOSE,
             placement=TWO_CORES),
    Workload("verbose-1-core", "ping-pong, 16 bytes, -v, one core",
             "ping-pong {port} 1 16 {seconds}", "-v", "messages_per_s", "round trips/s", VERBOSE,
             placement=ONE_CORE),
]


class Failure(Exception):
    pass


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.seconds = 0.1 if arguments.quick else arguments.seconds
        self.patience = 0.5 if arguments.quick else 2
        self.cores = sorted(os.sched_getaffinity(0))
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("ECHO_SERVER_")}
        self.environment["LOAD_PATIENCE"] = str(self.patience)

    def command(self, name, workload, port):
        return COMMANDS[name].format(
            server=self.arguments.server, bin=self.arguments.programs, python=sys.executable,
            here=HERE, port=port, flags=workload.flags, chunk=workload.chunk,
            peer_chunk=workload.peer_chunk).split()

    def is_installed(self, name, workload):
        return shutil.which(self.command(name, workload, 0)[0]) is not None

    def spawn(self, command, placement, is_client=False, **options):
        """The cores are handed down to whatever the command starts. A process group of its own lets
        all of that be ended, but not a session of its own: then Linux (CONFIG_SCHED_AUTOGROUP) would
        give client and server half of the processors each, whatever they need."""
        core = self.cores[0] if is_client and placement == TWO_CORES else self.cores[-1]
        cores = self.cores if placement == "any core" else {core}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                env=self.environment, process_group=0,
                                preexec_fn=lambda: os.sched_setaffinity(0, cores), **options)

    def measure(self, name, workload):
        """Runs a server of its own for one measurement; returns load's numbers."""
        if workload.key == "start":
            port = 0 if name == OURS else free_port()
            command = " ".join(self.command(name, workload, port))
            return self.run_load(workload, port=port, command=command)
        port = free_port()
        output = subprocess.PIPE if name == OURS else subprocess.DEVNULL
        server = self.spawn(self.command(name, workload, port), workload.placement, stdout=output)
        try:
            port = read_port(server) if name == OURS else wait_for_port(server, port)
            return self.run_load(workload, port=port, pid=server.pid)
        finally:
            stop(server)

    def run_load(self, workload, **values):
        command = [f"{self.arguments.programs}/load"] + workload.load.format(
            seconds=self.seconds, bytes=10**12, **values).split()
        load = self.spawn(command, workload.placement, is_client=True, stdout=subprocess.PIPE)
        try:
            output = load.communicate(timeout=self.seconds + 30)[0]
            numbers = json.loads(output)
        except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            raise Failure(f"load: {error}") from error
        finally:
            stop(load)
        if "error" in numbers:
            raise Failure(numbers["error"])
        return numbers


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def read_port(server):
    if not select.select([server.stdout], [], [], 5)[0]:
        raise Failure("did not say that it listens")
    line = server.stdout.readline().decode()
    if ":" not in line:
        raise Failure(f"ended with status {server.wait()} at the start")
    return int(line.rsplit(":", 1)[1])


def wait_for_port(server, port):
    for _ in range(500):
        if server.poll() is not None:
            raise Failure(f"ended with status {server.returncode} at the start")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return port
        except OSError:
            time.sleep(0.01)
    raise Failure("did not listen within 5 s")


def stop(process):
    """Ends it and all that it started: they are a process group of their own."""
    for wanted in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, wanted)
            process.wait(timeout=2)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
    if process.stdout is not None:
        process.stdout.close()


def rounds_of(name, workload, rounds):
    """At most five of what does not vary, and of what takes seconds and is far off."""
    few = workload.key.startswith("idle") or name in ("socat", "ncat")
    return min(rounds, 5) if few else rounds


def run_all(bench, workloads, rounds):
    """Returns {workload: {server: [numbers or {"error": reason}, in the order measured]}}."""
    plan = {workload.key: [name for name in workload.servers if bench.is_installed(name, workload)]
            for workload in workloads}
    results = {key: {name: [] for name in names} for key, names in plan.items()}
    total = sum(rounds_of(name, workload, rounds)
                for workload in workloads for name in plan[workload.key])
    done = 0
    # Each time in another order: behind a server that leaves the processors idle, such as the Python
    # notes, any other one has 5 % less of the short connections.
    shuffle = random.Random(1)
    for turn in range(rounds):
        for workload in workloads:
            names = [name for name in plan[workload.key] if turn < rounds_of(name, workload, rounds)]
            for name in shuffle.sample(names, len(names)):
                done += 1
                past = results[workload.key][name]
                if len(past) >= 2 and all("error" in numbers for numbers in past):
                    continue  # It cannot, so let it not take up the time.
                try:
                    numbers = bench.measure(name, workload)
                    shown = f"{figure(numbers[workload.metric])} {workload.unit}"
                except Failure as failure:
                    numbers = {"error": str(failure)}
                    shown = f"failed: {failure}"
                past.append(numbers)
                print(f"[{done:3}/{total}] round {turn + 1}: {workload.title}: {name}: {shown}",
                      flush=True)
    return results


# Evaluation: numbers in, Markdown out.

# What was tried where a goal is not reached, or only just.
NOTES = """\
- Ping-pong of 16 bytes: a `recv` per message that finds nothing more waiting is the price of gathering,
  which the bare loop that gathers pays, too (0.967 to 0.971). Where eight chunks in a row came alone,
  ours looks only behind every eighth: 0.987 instead of 0.964. To be told by the first call what is
  left (`TCP_INQ`) gave 0.970, but cost 3 % with 100 bytes and 1 % of churn; to ask by `SIOCINQ` gave
  nothing; neither did a level asked for once instead of per chunk and a counter without atomic addition
  (0.1 %).
- Bulk at the default chunk is bound by one `recv` per 16 bytes in the bare loop that gathers. Ours makes
  up to 16 of them by one system call (`recvmmsg`): 35 MB/s instead of 24 (by 8: 33, by 32: 36). The
  first look is for one chunk: for 16, where there is only an end of file, it cost 4 % of churn. Bursts of
  128 or 256 KiB instead of 64 lost 1 to 2 %, of 4 KiB 8 %.
- Bulk at 64 KiB: every server does the same two calls per block, and the spread of one server's
  rounds is larger than the difference of two servers: runs put ours between 0.93 and 1.06 of asio and
  Python, and in 21 rounds between 0.996 and 1.029 of itself. In 30 rounds with client and server held
  on one core ours was ahead of the bare limit by 5 %, of asio by 3 and 2 %, of Python by 6 %, and level
  with `cat`. Bursts of 128 or 256 KiB changed nothing.
- Ping-pong on 50 connections: 0.987 to 1.025 of asio's threads and 0.985 to 0.996 of the bare limit,
  which do the same two calls per message.
- Start: 85 % of the instructions up to `main`'s end were the dynamic loader's, most of them for
  libstdc++. With that in the binary it answers after 1.79 ms instead of 2.77 (on a slow day: the bare
  loop took 0.96), and with libc, too, 1.20 instead of 1.71 (on a fast one). libc stays outside: an
  update of it reaches the program, and names are resolved as the system is told to.
- Single runs differ, since this machine is shared: within two days ping-pong of 100 bytes came to 0.934
  to 0.997 of the bare loop that gathers. On some days the round trips of each server are now some 56,000
  and now some 67,000 a second, so that many short rounds tell more than a few long ones: 11 of 0.3 s put
  16 bytes at 0.959, 21 of 0.15 s at 0.981, 25 of 0.3 s at 0.992 of the bare limit.
- Churn: the two lines of the log cost 4 %, what TCP knows of the way 2 %. `TCP_NODELAY` set once on
  the listener, and an end of file that is not asked for twice, brought it from 0.94 to 0.957 of the
  bare limit. Where client and server share the processors half and half (sessions of their own, see
  autogroup in sched(7)), it is 0.89; so it was, too, as long as ours always came right behind the
  Python notes, which leave the processors idle.
- Memory: 17.1 KiB per connection came down to 9.4 by a buffer that grows only when more is waiting,
  and by addresses written without `getnameinfo`, whose printf touched 8 KiB of each stack. Either
  alone left 13 to 14. Of the rest, 8 KiB are the stack.
"""

def values(rounds, metric):
    return [numbers[metric] for numbers in rounds if "error" not in numbers]


def median_ratio(above, below, metric):
    """Of the rounds' ratios, so that what slows down a whole round does not count."""
    pairs = [(a[metric], b[metric]) for a, b in zip(above, below)
             if "error" not in a and "error" not in b]
    return statistics.median(a / b for a, b in pairs) if pairs else None


def figure(value):
    if value is None:
        return ""
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.{0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2}f}"


def details(workload, rounds):
    parts = []
    medians = {metric: statistics.median(values(rounds, metric)) for metric in rounds[0]}
    for metric, text in {
            "p50_us": "p50 {} µs", "p99_us": "p99 {} µs", "p999_us": "p99.9 {} µs",
            "kib_per_connection": "{} KiB before the first message", "open_s": "opened in {} s",
            "round_trip_alone_us": "round trip {} µs alone",
            "round_trip_among_all_us": "{} µs among all", "exit_ms": "SIGINT to exit {} ms",
    }.items():
        if metric in medians and metric != workload.metric:
            parts.append(text.format(figure(medians[metric])))
    return ", ".join(parts)


def why(failure, name, workload):
    reason = REASONS.get((name, workload.key))
    return failure["error"] + (f" ({reason})" if reason else "")


def workload_table(workload, results):
    flags = f"`{workload.flags}`" if workload.flags else "default flags"
    lines = [f"### {workload.title}", "", f"{flags}; {workload.placement}; {workload.unit}.", "",
             "| server | median | min | max | to ours | |", "| --- | --: | --: | --: | --: | --- |"]

    def rank(name):
        found = values(results[name], workload.metric)
        return (statistics.median(found) if workload.less_is_better else
                -statistics.median(found)) if found else float("inf")

    for name in sorted(results, key=rank):
        rounds = results[name]
        found = values(rounds, workload.metric)
        if not found:
            lines.append(f"| {name} | failed | | | | {why(rounds[0], name, workload)} |")
            continue
        good = [numbers for numbers in rounds if "error" not in numbers]
        failed = [numbers["error"] for numbers in rounds if "error" in numbers]
        text = details(workload, good)
        if failed:
            text += f"{'; ' if text else ''}{len(failed)} of {len(rounds)} measurements failed: "
            text += why({"error": failed[0]}, name, workload)
        shown = f"**{name}**" if name == OURS else name
        ratio = median_ratio(rounds, results[OURS], workload.metric)
        lines.append(f"| {shown} | {figure(statistics.median(found))} | {figure(min(found))} | "
                     f"{figure(max(found))} | {figure(ratio)} | {text} |")
    return "\n".join(lines) + "\n"


SUMMARY = ["ping-pong-16", "ping-pong-100", "bulk-16", "bulk-64k", "ping-pong-50", "churn",
           "idle-10000"]


def summary_table(workloads, results):
    """One line per server, one column per workload, medians; of the bare servers the best."""
    chosen = {workload.key: workload for workload in workloads if workload.key in SUMMARY}
    columns = [chosen[key] for key in SUMMARY if key in chosen]
    lines = ["| server | " + " | ".join(f"{column.title}: {column.unit}" for column in columns) +
             " |", "| --- |" + " --: |" * len(columns)]
    rows = {}
    for name in [OURS, "bare C", *(name for name in ALL if name != OURS and "bare" not in name)]:
        rows[name] = [cell(column, results[column.key], name) for column in columns]
    for name, cells in rows.items():
        shown = {OURS: f"**{OURS}**", "bare C": "bare loop in C"}.get(name, name)
        if any(cells):
            lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(workload, results, name):
    names = [other for other in results if other == name or name == "bare C" and "bare" in other]
    medians = [statistics.median(found) for found in
               (values(results[other], workload.metric) for other in names) if found]
    if not medians:
        return "fails" if names else ""
    return figure(min(medians) if workload.less_is_better else max(medians))


class Goals:
    """The lines of the table of goals."""

    def __init__(self, results):
        self.results = results
        self.lines = ["| workload | ours | to be reached | measured | reached |",
                      "| --- | --- | --- | --- | --- |"]

    def add(self, workload, ours, goal, checks):
        checks = [check for check in checks if check is not None]
        if checks:
            reached = "yes" if all(good for _, good in checks) else "**no**"
            measured = "; ".join(text for text, _ in checks)
            self.lines.append(f"| {workload} | {ours} | {goal} | {measured} | {reached} |")

    def at_least(self, key, metric, name, least):
        """Ours compared with one peer; nothing if that is not installed or was not run."""
        rounds = self.results.get(key, {})
        if name not in rounds:
            return None
        ratio = median_ratio(rounds[OURS], rounds[name], metric)
        if ratio is None:
            ours_worked = bool(values(rounds[OURS], metric))
            return f"{name} fails" if ours_worked else "ours fails", ours_worked
        shown = f"{ratio:.3f}" if ratio < 10 else figure(ratio)
        return f"{shown} of {name}", ratio >= least

    def at_most(self, key, metric, unit, most):
        found = values(self.results.get(key, {}).get(OURS, []), metric)
        if not found:
            return None
        return f"{figure(statistics.median(found))} {unit}", statistics.median(found) <= most

    def unchanged_round_trip(self, key):
        rounds = self.results.get(key, {}).get(OURS, [])
        found = [a / b for a, b in zip(values(rounds, "round_trip_among_all_us"),
                                       values(rounds, "round_trip_alone_us"))]
        if not found:
            return None
        ratio = statistics.median(found)
        return f"round trip {figure(ratio)} times", ratio <= 1.1


def goals_table(results):
    goals = Goals(results)
    trips, bulk = "messages_per_s", "megabytes_per_s"
    goals.add("ping-pong, 1 connection, 16 bytes", "default flags", "0.97 of the bare limit",
              [goals.at_least("ping-pong-16", trips, "bare C", 0.97)])
    goals.add("ping-pong, 1 connection, 100 bytes", "default flags",
              "0.95 of the bare limit that gathers; 1,000 times the Python notes",
              [goals.at_least("ping-pong-100", trips, "bare C, gathering", 0.95),
               goals.at_least("ping-pong-100", trips, "Python notes", 1000)])
    goals.add("bulk, 1 connection", "default chunk of 16",
              "0.95 of the bare limit that gathers; 8 times the Python notes",
              [goals.at_least("bulk-16", bulk, "bare C, gathering", 0.95),
               goals.at_least("bulk-16", bulk, "Python notes", 8)])
    goals.add("bulk, 1 connection", "`--chunk-size 64k`",
              "0.95 of the bare limit; not behind any peer",
              [goals.at_least("bulk-64k", bulk, "bare C", 0.95)] +
              [goals.at_least("bulk-64k", bulk, name, 1) for name in ALL
               if name != OURS and not name.startswith("bare")])
    goals.add("ping-pong, 50 connections, 512 bytes", "`--chunk-size 4k`",
              "0.95 of the bare limit; ahead of every server with a thread or process per "
              "connection",
              [goals.at_least("ping-pong-50", trips, "bare C", 0.95)] +
              [goals.at_least("ping-pong-50", trips, name, 1) for name in
               ("asio, threads", "tcpserver cat", "socat", "ncat", "Python, threads")])
    goals.add("churn, 4 clients at once", "default flags, log to `/dev/null`",
              "0.95 of the bare limit that reuses threads; ahead of asio asynchronous",
              [goals.at_least("churn", "connections_per_s", "bare C, reusing threads", 0.95),
               goals.at_least("churn", "connections_per_s", "asio, asynchronous", 1)])
    for count in (1000, 5000, 10000):
        key = f"idle-{count}"
        goals.add(f"{count:,} idle connections", "`--max-connections 20000`",
                  "12.5 KiB per connection, also after a message; round trip of one more client "
                  "unchanged" + ("; opened in 2 s" if count == 10000 else ""),
                  [goals.at_most(key, "kib_per_connection", "KiB", 12.5),
                   goals.at_most(key, "kib_per_connection_echoed", "KiB after a message", 12.5),
                   goals.unchanged_round_trip(key),
                   goals.at_most(key, "open_s", "s", 2) if count == 10000 else None])
    goals.add("start to first echo; SIGINT to exit", "default flags, a connection open",
              "2 ms each", [goals.at_most("start", "first_echo_ms", "ms", 2),
                            goals.at_most("start", "exit_ms", "ms", 2)])
    goals.add("every chunk printed to `/dev/null`", "`-v`",
              "bulk twice the Python notes; ping-pong of 16 bytes not behind on two cores, 0.8 on "
              "one",
              [goals.at_least("verbose-bulk", bulk, "Python notes", 2),
               goals.at_least("verbose-2-cores", trips, "Python notes", 1),
               goals.at_least("verbose-1-core", trips, "Python notes", 0.8)])
    return "\n".join(goals.lines) + "\n"


def machine():
    model = ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    cores = len(os.sched_getaffinity(0))
    return f"{model or platform.machine()}, {cores} cores, Linux {platform.release()}"


CHART_SETUP = """
set terminal svg size 1000,1180 font 'sans-serif,12' background '#ffffff'
set output '{output}'
set multiplot layout 4,2 margins 0.17,0.94,0.04,0.97 spacing 0.24,0.06
set style fill solid noborder
set border 0
set tics scale 0
set grid xtics linecolor '#e0e0e0' linetype 1
unset key
"""
CHART_PANEL = """
set title '{title}' font ',13' offset -4,-0.5
{scale}
set xrange [{low}:{high}]
set format x '{format}'
set yrange [{count} - 0.4 : -0.6]
set ytics ({tics})
$data << END
{data}
END
plot $data using (0.5 * ($2 + {low})):1:({low}):2:($1 - 0.34):($1 + 0.34):3 \\
  with boxxyerror linecolor rgb variable, \\
  $data using 2:1:(stringcolumn(4)) with labels left offset 0.5,0
"""
CHARTED = ["ping-pong-16", "bulk-16", "ping-pong-100", "bulk-64k", "ping-pong-50", "churn",
           "idle-10000", "verbose-bulk"]


def draw_panel(workload, results):
    bars = []
    for name, rounds in results.items():
        found = values(rounds, workload.metric)
        bars.append((statistics.median(found) if found else None, name))
    sign = 1 if workload.less_is_better else -1
    bars.sort(key=lambda bar: (bar[0] is None, sign * (bar[0] or 0)))
    known = [value for value, _ in bars if value]
    if not known:
        return ""
    on_log_axis = max(known) > 20 * min(known)
    low = min(known) / 2 if on_log_axis else 0
    high = max(known) * (max(known) / low) ** 0.02 if on_log_axis else max(known) * 1.02
    data, tics = [], []
    for row, (value, name) in enumerate(bars):
        is_bare = name.startswith("bare")
        colour = "0xd1495b" if name == OURS else "0x8d99ae" if is_bare else "0xc5cedb"
        text = figure(value) if value else "fails"
        data.append(f'{row} {value or low} {colour} "{text}"')
        tics.append(f"'{name}' {row}")
    title = f"{workload.chart_title}: {workload.unit}{' (log scale)' if on_log_axis else ''}"
    format = "10^{%T}" if on_log_axis else "%.0s%c" if high > 10_000 else "%.0f"
    return CHART_PANEL.format(
        title=title, scale="set logscale x" if on_log_axis else "unset logscale x", low=low,
        high=high, format=format, count=len(bars), tics=", ".join(tics), data="\n".join(data))


def draw(workloads, results, output):
    if shutil.which("gnuplot") is None:
        print("no gnuplot: no chart")
        return
    chosen = {workload.key: workload for workload in workloads if workload.key in CHARTED}
    script = CHART_SETUP.format(output=output) + "".join(
        draw_panel(chosen[key], results[key]) for key in CHARTED if key in chosen)
    subprocess.run(["gnuplot"], input=script + "\nunset multiplot\n", text=True, check=True,
                   timeout=60)


def write(bench, workloads, rounds, results, output):
    output.mkdir(parents=True, exist_ok=True)
    heading = (f"{machine()}; {rounds} interleaved rounds (five of socat, ncat and idle "
               f"connections), {bench.seconds} s per measurement. "
               "Medians; a ratio is the median of the rounds' ratios.")
    raw = {"machine": machine(), "rounds": rounds, "seconds": bench.seconds, "workloads": {
        workload.key: {"title": workload.title, "flags": workload.flags,
                       "placement": workload.placement, "metric": workload.metric,
                       "unit": workload.unit, "servers": results[workload.key]}
        for workload in workloads}}
    (output / "results.json").write_text(json.dumps(raw, indent=1) + "\n")
    (output / "results.md").write_text(
        f"{heading}\n\n## Summary\n\n{summary_table(workloads, results)}\n"
        f"## What to reach\n\n{goals_table(results)}\n{NOTES}\n## Every server\n\n" +
        "\n".join(workload_table(workload, results[workload.key]) for workload in workloads))
    draw(workloads, results, output / "results.svg")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="the program echo-server")
    parser.add_argument("--programs", required=True, help="the directory of load and the peers")
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.15, help="per measurement")
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", help="e.g. churn, bulk-16")
    parser.add_argument("--quick", action="store_true", default="BENCH_QUICK" in os.environ,
                        help="just try that it works (or set BENCH_QUICK)")
    arguments = parser.parse_args()

    # Ten thousand connections need as many descriptors, of the client and of each server.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    workloads = WORKLOADS
    rounds = arguments.rounds
    if arguments.quick:
        workloads = [idle(100) if workload.key == "idle-1000" else workload
                     for workload in WORKLOADS if workload.key not in ("idle-5000", "idle-10000")]
        rounds = 1
    if arguments.only:
        workloads = [workload for workload in workloads if workload.key in arguments.only]

    bench = Bench(arguments)
    results = run_all(bench, workloads, rounds)
    write(bench, workloads, rounds, results, arguments.output)
    print((arguments.output / "results.md").read_text())
    failed = [workload.title for workload in workloads
              if any("error" in numbers for numbers in results[workload.key][OURS])]
    if failed:
        sys.exit(f"{OURS} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
