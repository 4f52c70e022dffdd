"""Our producer beside the real KPL, or our consumer beside the real KCL, on this machine.

    cargo build --release -p examples -p kinesis-local --bin load --bin kinesis-local
    python3 tests/interop/versus.py kpl [--records N] [--shards N] [--rounds N]
    python3 tests/interop/versus.py kcl [--records N] [--shards N] [--rounds N] [--fan-out]

Producers take turns, each with a kinesis-local of its own. Readers share one, and one stream: the KCL
reads what the stream holds, then ours does while the KCL waits for more, as an application of its own;
and then our producer sends 200 records a second for ten seconds, and how long they take from there to
the processor is told of both. kinesis-local is a process of its own, without limits, over TLS.

Processor time and memory are those of all processes of a peer: for the KPL the JVM and its native child.
Nothing of it counts that passes before a peer is warm: it has handled as many records before. Prints each
round, then the medians as a Markdown table, then one line of JSON.

Needs Linux, `java` (17 or later) and `mvn`.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")).resolve()
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Of records that have no answer yet; what fits into the budget of our producer, which is its default.
OUTSTANDING = 65_000
# A small heap and the collector that takes least, so that the JVM is seen at its best.
JVM = ["java", "-Xmx256m", "-XX:+UseSerialGC"]
PATIENCE_S = 600
# Records of known age that readers are sent: so many a second, for so long.
LIVE_RATE, LIVE_S = 200, 10
# Between two reads of a shard that has no more, as KclWorker.java has it; AWS allows five a second.
KCL_IDLE_MS = 200
LIVE = ["--live-rate", LIVE_RATE, "--live-seconds", LIVE_S]


def tree(root):
    """The processes below `root`, and it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = pathlib.Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
                parents[int(entry)] = int(stat[1])
    found = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def cpu_s(pids):
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(stat[11]) + int(stat[12])
    return ticks / TICKS_PER_S


def of_status(pids, name):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(name):
                    total += int(line.split()[1])
    return total


class Peer:
    """A running process whose memory is watched."""

    def __init__(self, command, **pipes):
        self.process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **pipes)
        self.rss_mb = 0.0
        self.threads = 0
        self.watching = True
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def watch(self):
        while self.watching:
            pids = tree(self.process.pid)
            self.rss_mb = max(self.rss_mb, of_status(pids, "VmRSS:") * 1024 / 1e6)
            self.threads = max(self.threads, of_status(pids, "Threads:"))
            time.sleep(0.1)

    def cpu_s(self):
        return cpu_s(tree(self.process.pid))

    def line(self, starts_with):
        for line in self.process.stdout:
            if line.startswith(starts_with):
                return line.split("\t")
        raise SystemExit(f"it ended before it said {starts_with!r}")

    def end(self):
        self.watching = False
        self.watcher.join()
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def kinesis_local(directory):
    """A kinesis-local; its port, and the file of the CA to trust."""
    ca = pathlib.Path(directory, "ca.pem")
    command = [TARGET / "release/kinesis-local", "--port", "0", "--limits", "off", "--tls-ca-out", ca]
    server = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    try:
        yield server.stdout.readline().rsplit(":", 1)[1].strip(), str(ca)
    finally:
        server.terminate()
        server.wait()


def built(package):
    """The class path of a Java program and of what it needs."""
    into = TARGET / "interop" / package
    subprocess.run(
        ["mvn", "--quiet", "--batch-mode", "--file", HERE / package / "pom.xml", f"-Dinto={into}"]
        + ["compile", "dependency:copy-dependencies"],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return f"{into}/classes:{into}/lib/*"


def load(*arguments):
    command = [TARGET / "release/load", *map(str, arguments), "--json"]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def where(port, ca):
    return ["--endpoint", f"https://localhost:{port}", "--ca", ca]


ACKS = ["ack_ms_p50", "ack_ms_p99", "ack_ms_p999"]


def figures(args, records, seconds, cpu, rss_mb, threads):
    return {
        "records_per_s": records / seconds,
        "mb_per_s": records * args.size / 1e6 / seconds,
        "cpu_s_per_million_records": cpu / records * 1e6,
        "rss_mb": rss_mb,
        "threads": threads,
    }


def our_producer(args, port, ca):
    sent = load(
        "produce", *where(port, ca), "--shards", args.shards, "--size", args.size,
        "--records", args.records, "--warm-up", args.records, "--keys", args.keys,
        "--concurrency", 1, "--seconds", PATIENCE_S,
    )  # fmt: skip
    assert sent["failed"] == 0 and sent["records"] == args.records, sent
    return figures(args, args.records, sent["seconds"], sent["cpu_s_per_million_records"] * args.records / 1e6,
                   sent["rss_mb"], sent["threads"]) | {name: sent[name] for name in ACKS}  # fmt: skip


def kpl(args, port, ca):
    make_stream(args, port, ca)
    native = TARGET / "interop/kpl/tmp"
    native.mkdir(exist_ok=True)
    command = [*JVM, f"-Djava.io.tmpdir={native}", "-cp", args.classes, "KplProducer", "localhost", port, ca]
    command += ["load", "load", args.records, args.size, args.keys, OUTSTANDING]
    peer = Peer(list(map(str, command)), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peer.line("ready")
    for _ in ("warm", "measured"):
        before = peer.cpu_s()
        peer.process.stdin.write("go\n")
        peer.process.stdin.flush()
        done = peer.line("done")
        cpu = peer.cpu_s() - before
    peer.end()
    acks = dict(zip(ACKS, map(float, done[3:6])))
    return figures(args, args.records, float(done[2]), cpu, peer.rss_mb, peer.threads) | acks


def make_stream(args, port, ca):
    load("produce", *where(port, ca), "--shards", args.shards, "--records", 1, "--warm-up", 0)


def fill(args, port, ca):
    load(
        "produce", *where(port, ca), "--shards", args.shards, "--size", args.size, "--keys", args.keys,
        "--records", 2 * args.records, "--warm-up", 0, "--seconds", PATIENCE_S,
    )  # fmt: skip


def our_consumer(args, port, ca):
    how = ["--fan-out"] if args.fan_out else ["--idle-ms", KCL_IDLE_MS]
    read = load(
        "consume", *where(port, ca), "--no-fill", "--warm-up", args.records, "--records", args.records,
        *LIVE, "--seconds", PATIENCE_S, *how,
    )  # fmt: skip
    assert read["live_records"] == LIVE_RATE * LIVE_S, read
    cpu = read["cpu_s_per_million_records"] * read["records"] / 1e6
    return {
        **figures(args, read["records"], read["seconds"], cpu, read["rss_mb"], read["threads"]),
        "end_to_end_ms_p50": read["end_to_end_ms_p50"],
        "end_to_end_ms_p99": read["end_to_end_ms_p99"],
    }


def readers(args):
    """The KCL and ours on one stream."""
    with tempfile.TemporaryDirectory() as directory, kinesis_local(directory) as (port, ca):
        fill(args, port, ca)
        # Plain HTTP/2, as the tests have it: the JVM is spared the cryptography that ours does.
        command = [*JVM, "-cp", args.classes, "KclWorker", f"http://localhost:{port}", "load", "versus", "kcl"]
        command += ["fanout" if args.fan_out else "polling"]
        command += [f"count:{args.records}:{2 * args.records}:{LIVE_RATE * LIVE_S}"]
        peer = Peer(list(map(str, command)), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        warm = peer.line("warm")
        before, begin = peer.cpu_s(), time.monotonic()
        done = peer.line("done")
        cpu, seconds = peer.cpu_s() - before, time.monotonic() - begin
        # It ends with the live records, which reach the KCL too.
        ours = our_consumer(args, port, ca)
        _, p50, p99 = peer.line("live")
        peer.end()
    theirs = {
        **figures(args, int(done[1]) - int(warm[1]), seconds, cpu, peer.rss_mb, peer.threads),
        "end_to_end_ms_p50": float(p50),
        "end_to_end_ms_p99": float(p99),
    }
    return {"KCL": theirs, "ours": ours}


def producers(args):
    """The KPL and ours, each on a stream of its own: what one writes must not wait for the other."""
    written = {}
    for name, turn in {"KPL": kpl, "ours": our_producer}.items():
        with tempfile.TemporaryDirectory() as directory, kinesis_local(directory) as (port, ca):
            written[name] = turn(args, port, ca)
    return written


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("peer", choices=["kpl", "kcl"])
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fan-out", action="store_true", help="read by enhanced fan-out in place of polling")
    args = parser.parse_args()
    args.classes = built(args.peer)
    rounds = []
    for round_ in range(1, args.rounds + 1):
        rounds.append({"kpl": producers, "kcl": readers}[args.peer](args))
        for name, measured in rounds[-1].items():
            print(f"round {round_}, {name}: {measured}", file=sys.stderr, flush=True)
    names = list(rounds[0])
    median = {
        name: {key: statistics.median(measured[name][key] for measured in rounds) for key in rounds[0][name]}
        for name in names
    }
    theirs, ours = (median[name] for name in names)
    print(f"\n| | {' | '.join(names)} | |\n| --- | ---: | ---: | ---: |")
    rows = [
        ("records/s", "records_per_s", "{:,.0f}"),
        ("MB/s", "mb_per_s", "{:.1f}"),
        ("CPU s per million records", "cpu_s_per_million_records", "{:.2f}"),
        ("acknowledged after, p50, ms", "ack_ms_p50", "{:.1f}"),
        ("… p99, ms", "ack_ms_p99", "{:.1f}"),
        ("… p99.9, ms", "ack_ms_p999", "{:.1f}"),
        ("end to end, p50, ms", "end_to_end_ms_p50", "{:.0f}"),
        ("… p99, ms", "end_to_end_ms_p99", "{:.0f}"),
        ("resident memory, MB", "rss_mb", "{:.0f}"),
        ("threads", "threads", "{:.0f}"),
    ]
    more_is_better = ["records_per_s", "mb_per_s"]
    for title, key, shown in (row for row in rows if row[1] in ours):
        better, worse = (ours, theirs) if key in more_is_better else (theirs, ours)
        ratio = better[key] / worse[key]
        print(f"| {title} | {shown.format(theirs[key])} | {shown.format(ours[key])} | {ratio:.1f}× |")
    print(json.dumps(median))


if __name__ == "__main__":
    main()
