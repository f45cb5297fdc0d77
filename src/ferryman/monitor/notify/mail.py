"""E-mail, by SMTP."""

import contextlib
import hashlib
import smtplib
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate

from ferryman.core.receivers import EmailSection
from ferryman.monitor.alerts.alert import Notice
from ferryman.monitor.notify.payload import plain_text
from ferryman.monitor.notify.receiver import Undelivered, limited
from ferryman.monitor.notify.secret import read_secret

_PORTS = {"tls": 465, "starttls": 587, "none": 25}
_LONGEST_SUBJECT = 200


@dataclass(frozen=True)
class Mail:
    """Send one mail a notice to all addresses; mails of a group are one thread."""

    name: str
    section: EmailSection
    environment: Mapping[str, str]
    instance: str
    _have: dict[str, set[str]] = field(default_factory=dict, init=False)  # addresses that took a notice others did not

    def send(self, notice: Notice) -> None:
        """Send it; `Message-ID` is made of the notice's id, so that mailboxes which know ids show it once.

        Where a server takes it for some addresses only, it raises Undelivered, and the next try is for the others.
        """
        section = self.section
        have = self._have.get(notice.id, set())
        asked = [address for address in section.to if address not in have]
        try:
            with self._connected() as server:
                if section.user is not None and section.password is not None:
                    server.login(section.user, read_secret(section.password, self.environment))
                refused = server.send_message(self.message(notice), to_addrs=asked)
        except smtplib.SMTPAuthenticationError as error:
            raise Undelivered(f"{section.host} refuses the login of {section.user} ({error.smtp_code})") from None
        except smtplib.SMTPRecipientsRefused as error:
            raise self._not_for(error.recipients, is_final=bool(have)) from None
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"{section.host} answers {error.smtp_code}") from None
        except ssl.SSLCertVerificationError as error:
            raise Undelivered(f"the certificate of {section.host} is not believed ({error.verify_message})") from None
        except (OSError, smtplib.SMTPException) as error:
            said = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
            raise Undelivered(f"{section.host} can't be reached: {said}") from None
        self._have.clear()  # of the latest notice only
        if refused:
            self._have[notice.id] = {*have, *asked} - set(refused)
            raise self._not_for(refused, is_final=True)

    def _not_for(self, addresses: Iterable[str], *, is_final: bool) -> Undelivered:
        """Name who is refused; it is final, after some tries, where others have it: they must get the next ones."""
        return Undelivered(f"{self.section.host} takes no mail for {', '.join(addresses)}", is_final=is_final)

    def message(self, notice: Notice) -> EmailMessage:
        """Give the mail; what comes from a model's name can't make a header of its own."""
        domain = self.section.sender.partition("@")[2]
        thread = hashlib.sha256(f"{self.instance} {notice.group}".encode()).hexdigest()[:16]
        message = EmailMessage()
        message["Subject"] = " ".join(notice.title.split())[:_LONGEST_SUBJECT]
        message["From"] = self.section.sender
        message["To"] = ", ".join(self.section.to)
        message["Date"] = formatdate(notice.at_s)
        message["Message-ID"] = f"<{notice.id}.{self.name}@{domain}>"
        message["References"] = f"<{thread}.ferryman@{domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        message.set_content(plain_text(notice, self.instance))
        return message

    @contextlib.contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        section, trust = self.section, ssl.create_default_context(cafile=self.section.ca)
        port, timeout_s = section.port or _PORTS[section.security], section.timeout_s
        server = smtplib.SMTP(timeout=timeout_s)
        if section.security == "tls":
            server = smtplib.SMTP_SSL(timeout=timeout_s, context=trust)
        server._host = section.host  # type: ignore[attr-defined]  # what certificates are held against
        with limited(timeout_s, lambda: server.sock):  # a server that drips its greeting is limited, too
            server.connect(section.host, port)
            with server:
                if section.security == "starttls":
                    server.starttls(context=trust)
                yield server
