"""Checks of the Host and Origin headers: protection against DNS rebinding and requests forged by other sites.

A web site can point its own name at this machine's address (DNS rebinding). To the browser its pages then belong to the
same site as this server, but they still send that name as Host. A numeric address cannot be pointed elsewhere.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from blemish.errors import BlemishError
from blemish.io.text import printable
from blemish.serving.errors import RequestError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PROBES = frozenset(
    {"/healthz", "/readyz"}
)  # an orchestrator uses any address of the host; the answer holds nothing secret
READING = frozenset({"GET", "HEAD", "OPTIONS"})
EVERY_NAME = "*"

_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::(?P<port>[0-9]{0,5}))?")
_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Hosts:
    """The names that requests may give in Host.

    Attributes:
        names: lower-case names, and addresses without brackets.
        given: those of them that the user named: their pages may send, even if a proxy rewrites Host.
        addresses: whether any numeric address is allowed.
        every: whether any name is allowed; pages of other sites are still refused.
    """

    names: frozenset[str] = LOOPBACK
    given: frozenset[str] = frozenset()
    addresses: bool = False
    every: bool = False

    def check(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises RequestError (403) for a request under another name, and for one from a page of another site."""
        if path in PROBES:
            return
        values: dict[str, list[str]] = {}
        for key, value in headers:
            values.setdefault(key.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = ", ".join(values.get("host", []))
        if not self.allows(host):
            called = f"called {printable(host)}" if host else "asked without a name"
            raise RequestError(
                403, f"this server may not be {called}; use localhost, or start it with --allowed-host NAME"
            )
        if method in READING:
            return
        for origin in values.get("origin", []):
            if not self._is_own(origin, host):
                raise _foreign(f"a page of {printable(origin)}")
        if not {"same-origin", "none"} >= {site.strip().lower() for site in values.get("sec-fetch-site", [])}:
            raise _foreign("a page of another site")

    def allows(self, host: str) -> bool:
        """Whether the value of a Host header is one of this server's names, with any port."""
        authority = _authority(host)
        if authority is None:
            return False
        name, _ = authority
        return self.every or name in self.names or (self.addresses and _address(name) is not None)

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            scheme, place = urlsplit(origin).scheme, _authority(origin.partition("://")[2])
        except ValueError:
            return False
        own = _authority(host)
        if place is None or own is None or scheme not in _PORTS:
            return False
        if place[0] in self.given:
            return True
        # Only a proxy knows the scheme that the client used: a missing port is the default of the page's scheme.
        return place[0] == own[0] and (place[1] or _PORTS[scheme]) == (own[1] or _PORTS[scheme])


def hosts_for(host: str, address: str, *, allowed: Sequence[str], has_key: bool) -> Hosts | None:
    """The names of a server; None where any is allowed.

    Args:
        host: the name or address of the option --host.
        address: the address that it listens on.
        allowed: names that the user gave.
        has_key: whether clients must send an API key, which other sites do not know: then only `allowed`, if given,
            restricts the names.

    Raises BlemishError for an invalid name.
    """
    given = frozenset(_given(name) for name in allowed if name != EVERY_NAME)
    every = EVERY_NAME in allowed
    if has_key and not allowed:
        return None
    listening = ipaddress.ip_address(address)
    own = _authority(host if ":" not in host else f"[{host}]")
    names = LOOPBACK | given | {str(listening)} | ({own[0]} if own else set())
    return Hosts(names, given, addresses=not listening.is_loopback, every=every)


def _foreign(sender: str) -> RequestError:
    return RequestError(
        403, f"{sender} may not send images to this server; if it is this server's own, name it with --allowed-host"
    )


def _given(name: str) -> str:
    try:
        ascii_name = name if _address(name) else name.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    authority = _authority(f"[{ascii_name}]" if ":" in ascii_name and _address(ascii_name) else ascii_name)
    if authority is None or authority[1] is not None:
        raise BlemishError(
            f"--allowed-host {printable(name)}: give a name alone, without http:// and port, as in qc.example.com"
        )
    return authority[0]


def _authority(text: str) -> tuple[str, str | None] | None:
    """Name and port of host:port, the name in lower case; None for anything else, such as user@host."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    if found["v6"] is not None:
        address = _address(found["v6"])
        return None if address is None else (address, found["port"] or None)
    return found["name"].lower().removesuffix("."), found["port"] or None


def _address(name: str) -> str | None:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return None
