"""Several hosts on one machine: network namespaces on one Ethernet segment. Needs root and iproute2.

    with Network(["boot", "a", "b"]) as network:
        network["a"].prefix     # ['ip', 'netns', 'exec', ...]: put it before a command to run it on that host
        network["a"].address    # '10.79.0.2'

Names carry the process id, so labs do not collide. What a lab that was killed left behind is removed by the next one.
"""

import os
import re
import subprocess

NAME = "kplab"


def usable():
    """Why namespaces cannot be used here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    probe = f"{NAME}{os.getpid()}-probe"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "del", probe)
    except FileNotFoundError:
        return "needs the command ip (Debian: apt-get install iproute2)"
    except subprocess.CalledProcessError as error:
        return f"cannot make a network namespace: {error.stderr.strip()}"
    return None


class Host:
    """A network namespace with one interface on the segment."""

    def __init__(self, namespace, address):
        self.namespace = namespace
        self.address = address
        self.prefix = ["ip", "netns", "exec", namespace]


class Network:
    """The segment and its hosts; a context manager that removes them whatever happens."""

    def __init__(self, hosts):
        self.prefix = f"{NAME}{os.getpid()}"
        self.hosts = {}
        self.names = hosts

    def __enter__(self):
        remove_stale()
        try:
            self._hub = self._namespace("hub")
            _ip("-n", self._hub, "link", "add", "br0", "type", "bridge")
            _ip("-n", self._hub, "link", "set", "br0", "up")
            for number, name in enumerate(self.names, start=1):
                self.hosts[name] = self._attach(name, number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def add(self, name, number):
        """One more host on the segment, at 10.79.0.NUMBER."""
        self.hosts[name] = self._attach(name, number)

    def add_behind_nat(self, name, number, fully_random):
        """A host at 192.168.NUMBER.2 behind a router of its own, at 10.79.0.NUMBER outside. The router keeps a socket's port, or
        has another one for each destination."""
        router, inside = self._attach(f"{name}-nat", number), self._namespace(name)
        _ip("link", "add", "lan", "netns", router.namespace, "type", "veth", "peer", "name", "eth0", "netns", inside)
        for namespace, interface, last in ((router.namespace, "lan", 1), (inside, "eth0", 2)):
            _ip("-n", namespace, "addr", "add", f"192.168.{number}.{last}/24", "dev", interface)
            _ip("-n", namespace, "link", "set", interface, "up")
        _ip("-n", inside, "route", "add", "default", "via", f"192.168.{number}.1")
        # The input rule: a datagram that nobody inside has asked for must not become a connection of the router itself, which
        # would take the port from the host inside.
        rules = f"""
            table ip nat {{
                chain post {{
                    type nat hook postrouting priority 100;
                    oifname "eth0" masquerade {"fully-random" if fully_random else ""}
                }}
            }}
            table ip filter {{
                chain input {{
                    type filter hook input priority 0;
                    iifname "eth0" ct state new drop
                }}
                chain forwarding {{
                    type filter hook forward priority 0; policy drop;
                    iifname "lan" accept
                    ct state established,related accept
                }}
            }}
        """
        subprocess.run([*router.prefix, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True, capture_output=True)
        subprocess.run([*router.prefix, "nft", "-f", "-"], input=rules, text=True, check=True, capture_output=True)
        self.hosts[name] = Host(inside, f"192.168.{number}.2")

    def __exit__(self, *_):
        remove(self.prefix + "-")

    def __getitem__(self, name):
        return self.hosts[name]

    def _namespace(self, name):
        namespace = f"{self.prefix}-{name}"
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        return namespace

    def _attach(self, name, number):
        namespace, address = self._namespace(name), f"10.79.0.{number}"
        _ip("link", "add", f"port{number}", "netns", self._hub, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("-n", self._hub, "link", "set", f"port{number}", "master", "br0", "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "route", "add", "default", "dev", "eth0")  # multicast leaves by the default route
        return Host(namespace, address)


def remove_stale():
    """Removes the namespaces of labs whose process is gone."""
    for namespace in _namespaces():
        match = re.match(NAME + r"(\d+)-", namespace)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            _remove_one(namespace)


def remove(prefix):
    for namespace in _namespaces():
        if namespace.startswith(prefix):
            _remove_one(namespace)


def _remove_one(namespace):
    pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True).stdout.split()
    for pid in pids:  # nothing but the lab's own processes can be in its namespace
        try:
            os.kill(int(pid), 9)
        except ProcessLookupError:
            pass
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


def _namespaces():
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
