"""Make receivers of `[monitor.alerts.notify]`."""

from collections.abc import Mapping

from ferryman.core.alerting import AlertsSection, AnyReceiver
from ferryman.core.receivers import AlertmanagerSection, CommandSection, EmailSection, SlackSection
from ferryman.monitor.notify.alertmanager import Alertmanager
from ferryman.monitor.notify.command import Command
from ferryman.monitor.notify.mail import Mail
from ferryman.monitor.notify.receiver import Receiver
from ferryman.monitor.notify.slack import Slack
from ferryman.monitor.notify.webhook import Webhook


def make_receivers(section: AlertsSection, environment: Mapping[str, str], instance: str) -> dict[str, Receiver]:
    """Give receivers by name; secrets are read when something is sent. `instance` says which machine tells."""
    return {name: _make(name, one, environment, instance) for name, one in section.notify.items()}


def _make(name: str, section: AnyReceiver, environment: Mapping[str, str], instance: str) -> Receiver:
    if isinstance(section, SlackSection):
        return Slack(name, section, environment, instance)
    if isinstance(section, EmailSection):
        return Mail(name, section, environment, instance)
    if isinstance(section, AlertmanagerSection):
        return Alertmanager(name, section, environment, instance)
    if isinstance(section, CommandSection):
        return Command(name, section, environment, instance)
    return Webhook(name, section, environment, instance)
