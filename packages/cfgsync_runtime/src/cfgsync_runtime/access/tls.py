"""The certificate that a server shows, read again while it runs: a new pair of files serves new connections, and no open
connection notices. A pair that cannot be used leaves the one before in use."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import stat
import time
from contextlib import suppress
from typing import Final, NoReturn

from cryptography import x509

from cfgsync_artifacts import CfgsyncError
from cfgsync_core.log_events import event
from cfgsync_core.text import cause, counted, rfc3339
from cfgsync_core.wire import CERTIFICATE_ENDS_SOON, TlsStatus

from ..errors import InputError
from ..process.threads import in_thread
from .tls_facts import ca_hash_of, days_until, names_a_host, names_of

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the files."""

log = logging.getLogger("cfgsync")


class ServerCertificate:
    """The certificate in the file `cert`, with what the server sends along (its CA), and its key in the file `key`.

    `follow` reads them again when they change, `reload` at once. Raises `InputError` for a pair that cannot be used.
    """

    def __init__(self, cert: str, key: str, look_every: float = LOOK_EVERY) -> None:
        self._cert = cert
        self._key = key
        self._look_every = look_every
        self._reading = asyncio.Lock()
        self._seen = self._stamp()
        self._take(self._read())
        self.is_refused = False
        """True while the newest files cannot be used."""
        self.reloads = 0
        """The times that a new pair was taken."""
        self._warn()

    def context(self) -> ssl.SSLContext:
        """The context for a connection that begins now. Each reload makes another: a pair that is loaded into a context in use
        can break its handshakes."""
        return self._context

    @property
    def days_left(self) -> int:
        """Whole days until the certificate ends; negative afterwards."""
        return days_until(self.ends_at)

    def status(self) -> TlsStatus:
        """What `/status` shows; the log has the files' names."""
        problem = "the newest certificate files cannot be used: the server's log says why"
        return TlsStatus(
            ends=rfc3339(int(self.ends_at)),
            days_left=self.days_left,
            problem=problem if self.is_refused else "",
        )

    async def follow(self) -> None:
        """Read the files again whenever they change, until cancelled."""
        while True:
            await asyncio.sleep(self._look_every)
            if await in_thread(self._stamp) != self._seen:
                await self.reload()

    async def reload(self) -> None:
        """Read the files again."""
        async with self._reading:
            self._seen = await in_thread(self._stamp)
            try:
                self._take(await in_thread(self._read))
            except CfgsyncError as error:
                self.is_refused = True
                log.error(
                    "TLS: the certificate before stays in use: %s", error, extra=event("certificate_refused")
                )
                return
        self.is_refused = False
        self.reloads += 1
        log.info(
            "TLS: the certificate is read again; it %s",
            self._end(),
            extra=event("certificate_reloaded", days_left=self.days_left),
        )
        self._warn()

    def _stamp(self) -> tuple[object, ...]:
        """What changes when a file is written or replaced, or a symbolic link on its way is."""
        return tuple(_stamp_of(name) for name in (self._cert, self._key))

    def _take(self, read: tuple[ssl.SSLContext, x509.Certificate, str]) -> None:
        self._context, one, self.ca_hash = read
        self.begins_at, self.ends_at = (
            one.not_valid_before_utc.timestamp(),
            one.not_valid_after_utc.timestamp(),
        )
        self.names = tuple(names_of(one))
        self._names_a_host = names_a_host(one)

    def _read(self) -> tuple[ssl.SSLContext, x509.Certificate, str]:
        pem, key = _bytes_of(self._cert), _bytes_of(self._key)
        if _KEY in pem and _CERTIFICATE not in pem:
            raise InputError(f"{self._cert}: there is a key in it, and no certificate", _ORDER)
        if _CERTIFICATE in key and _KEY not in key:
            raise InputError(f"{self._key}: there is a certificate in it, and no key", _ORDER)
        try:
            chain = x509.load_pem_x509_certificates(pem)
            ca_hash = ca_hash_of(chain)
            names_of(chain[0])
        except Exception as error:  # a damaged one may raise what the library's pages do not name
            raise InputError(f"{self._cert}: there is no certificate in PEM in it", _PAIR) from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= (
            ssl.OP_NO_RENEGOTIATION
        )  # OpenSSL 1.1.1 lets a client ask for handshakes without end
        context.num_tickets = 0  # nodes keep their connection; a ticket for each would only cost
        try:
            context.load_cert_chain(self._cert, self._key, password=self._refuse_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                why = f"the key in {self._key} does not belong to the certificate in {self._cert}"
            else:
                why = f"{self._cert} and {self._key} are not a certificate and its key in PEM"
            raise InputError(why, _PAIR) from error
        except OSError as error:  # it has gone since
            raise InputError(f"{error.filename or self._cert}: {cause(error)}", _PAIR) from error
        return context, chain[0], ca_hash

    def _refuse_password(self) -> NoReturn:
        raise InputError(
            f"{self._key} is encrypted, and a server cannot ask for its password",
            f"write it without one (openssl pkey -in {self._key} -out KEY), or let `cfgsync tls init` make another",
        )

    def _end(self) -> str:
        return "has expired" if self.days_left < 0 else f"ends in {counted(self.days_left, 'day')}"

    def _warn(self) -> None:
        if _may_everyone_read(self._key):
            log.warning(
                "TLS: every user of this machine may read %s, and could answer in the server's place; run: chmod 600 %s",
                self._key,
                self._key,
                extra=event("key_is_readable"),
            )
        if not self._names_a_host:
            log.warning(
                "TLS: the certificate in %s names no host, as a CA's: every node refuses it; give --tls-cert the server's own,"
                " which `cfgsync tls init` writes to server.pem",
                self._cert,
                extra=event("certificate_without_host"),
            )
        if self.begins_at > time.time():
            log.warning(
                "TLS: the certificate is not valid before %s: until then nodes refuse it; is this machine's clock right?",
                rfc3339(int(self.begins_at)),
                extra=event("certificate_begins"),
            )
        if self.days_left < CERTIFICATE_ENDS_SOON:
            log.warning(
                "TLS: the certificate %s; renew it (cfgsync tls init renews one that it made)",
                self._end(),
                extra=event("certificate_ends", days_left=self.days_left),
            )


def _stamp_of(name: str) -> tuple[int, ...]:
    try:
        found = os.stat(name)
    except OSError as error:
        return (error.errno or 0,)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _may_everyone_read(name: str) -> bool:
    with suppress(OSError):  # it has gone since
        return bool(os.stat(name).st_mode & stat.S_IROTH)
    return False


def _bytes_of(name: str) -> bytes:
    try:
        with open(name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{name} is no regular file", _PAIR)
            return file.read()
    except OSError as error:
        raise InputError(f"{name}: {cause(error)}", _PAIR) from error


_KEY: Final = b"PRIVATE KEY-----"
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_ORDER: Final = "give the certificate to --tls-cert and its key to --tls-key: `cfgsync tls init` makes server.pem and server.key"
_PAIR: Final = "--tls-cert and --tls-key name a certificate and its key in PEM: `cfgsync tls init` makes both"
