"""Connections by public key between hosts behind NATs and firewalls: ours to ours, ours to Node.js, Node.js to ours.

A host is open, behind a NAT that keeps a socket's port (plain), behind one that has another port for each destination
(random), or behind a firewall of its own (firewall). Each pair is a new client process that dials a new server process,
through a DHT of six nodes in the open. Measured is from the dial to the first answer of the server's end.
"""

import json
import os
import shutil
import subprocess
import time

import programs

KINDS = ("open", "plain", "random", "firewall")
SEED = "07" * 32
#: Pairs of which one end is Node.js: all in the long form.
SHORT = (("open", "open"), ("plain", "plain"), ("firewall", "plain"))
#: No more than this from the dial to the first answer (check 9 of RELIABILITY).
BAR = 15
#: A random NAT and Node.js' probes, one in 20 ms, need up to 35 s.
PATIENT = 45


def usable():
    """Why there can be no NAT here, or None."""
    return None if shutil.which("nft") else "needs the command nft (Debian: apt-get install nftables)"


class Nat:
    """Runs the matrix on a network that has the host `boot` and, for each kind, `c-KIND` and `s-KIND`."""

    def __init__(self, binaries, hosts, long):
        self.connect = os.path.join(binaries, "examples", "connect")
        self.hosts, self.long = hosts, long
        self.passed = self.failed = 0
        self.opened = []
        command = [*hosts["boot"].prefix, os.path.join(binaries, "kachery-p2p"), "dht-node", "--network", "v4"]
        self.bootstrap = f"{hosts['boot'].address}:49737"
        node = self.open(programs.Program("dht-node", [*command, "--listen", self.bootstrap, "--nodes", "6", "--json"]))
        node.wait_for("nodes", lambda line: "nodes" in line or None)

    def open(self, program):
        self.opened.append(program)
        return program

    def close(self):
        for program in reversed(self.opened):
            program.close()
        self.opened.clear()

    def run(self):
        for kind, pairs in (("ours to ours", self.pairs(True)), ("ours to node", self.pairs(self.long)), ("node to ours", self.pairs(self.long))):
            for client, server in pairs:
                self.pair(kind, client, server)

    @staticmethod
    def pairs(everything):
        return [(c, s) for c in KINDS for s in KINDS] if everything else SHORT

    def pair(self, kind, client, server):
        begun = len(self.opened)
        hopeless = client == server == "random"
        try:
            took = self.measure(kind, self.hosts[f"c-{client}"], self.hosts[f"s-{server}"], hopeless)
            bar = BAR if kind == "ours to ours" or "random" not in (client, server) else PATIENT
            good = took is not None and took <= bar if not hopeless else took is None
            result = "no way without a relay" if took is None else f"{took * 1000:.0f} ms"
            print(f"  {'ok' if good else 'FAILED'}: nat {kind}, {client} to {server}: {result}", flush=True)
            self.passed, self.failed = self.passed + good, self.failed + (not good)
        except programs.Failure as failure:
            self.failed += 1
            print(f"  FAILED: nat {kind}, {client} to {server}: {failure}", flush=True)
        finally:
            while len(self.opened) > begun:
                self.opened.pop().close()

    def measure(self, kind, client, server, hopeless):
        """Seconds until the client has an answer; None: it was told that there is no way."""
        if kind == "ours to node":
            key = self.node(server, f"listen {SEED}").wait_for("listen", lambda line: field(line, "listen", "key"))
        else:
            program = self.ours("server", server, [])
            key = program.wait_for("a public key", lambda line: line.partition("public key: ")[2] or None)
        begun = time.monotonic()
        if kind == "node to ours":
            dialler = self.node(client, f"connect {key} --line")
            program.wait_for("the message", lambda line: "from them" in line or None, seconds=PATIENT)
            program.write("from us")
            return dialler.wait_for("an answer", lambda line: field(line, "connect", "ms"), seconds=PATIENT) / 1000
        dialler = self.ours("client", client, [key])
        if hopeless:
            dialler.wait_for("a refusal", lambda line: "HOLEPUNCH" in line or None, seconds=PATIENT)
            return None
        dialler.write("hello")
        if kind == "ours to node":
            dialler.wait_for("an answer", lambda line: "got" in line or None, seconds=PATIENT)
        else:
            program.wait_for("the message", lambda line: "hello" in line or None, seconds=PATIENT)
            program.write("answer")
            dialler.wait_for("an answer", lambda line: "answer" in line or None, seconds=PATIENT)
        return time.monotonic() - begun

    def ours(self, name, host, arguments):
        command = [*host.prefix, self.connect, "--bootstrap", self.bootstrap, *arguments]
        return self.open(programs.Program(name, command, stdin=True))

    def node(self, host, action):
        script = os.path.join(programs.NODE, "dht_peer.js")
        command = [*host.prefix, "node", script, "--bootstrap", self.bootstrap, "--host", "0.0.0.0", action]
        return self.open(programs.Program("node", command))


def field(line, event, name):
    """A field of a line that reports an event."""
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report.get(name) if isinstance(report, dict) and report.get("event") == event else None


def place(network):
    """Adds the hosts of the matrix to a network."""
    number = 100
    for end in ("c", "s"):
        for kind in KINDS:
            number += 1
            name = f"{end}-{kind}"
            if kind in ("plain", "random"):
                network.add_behind_nat(name, number, fully_random=kind == "random")
            else:
                network.add(name, number)
                if kind == "firewall":
                    firewall(network[name])


def firewall(host):
    """Nothing new comes in."""
    rules = """
        table ip filter {
            chain input {
                type filter hook input priority 0; policy drop;
                iifname "lo" accept
                ct state established,related accept
            }
        }
    """
    subprocess.run([*host.prefix, "nft", "-f", "-"], input=rules, text=True, check=True, capture_output=True)
