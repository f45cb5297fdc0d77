"""Every error that Ferryman raises on purpose.

FerrymanError               ours: exit code 1
├── UserError               the user's mistake: exit code 2
│   ├── ConfigError         ferryman.toml
│   ├── SourceError         the model file, or how it is loaded
│   ├── DataError           calibration or evaluation data
│   ├── InputError          one picture, row, tensor or request
│   ├── BundleError         a bundle that is damaged, altered or too new
│   ├── ImageError          an image, layer or layout that is damaged or not allowed
│   ├── RegistryError       a registry that can't be reached, or refuses
│   │   └── NotInRegistry   one that has no such name
│   ├── Untrusted           what is unsigned, altered or signed by another than is trusted
│   ├── PlanError           no way from this format to that one
│   └── MissingExtra        a plug-in whose packages are not installed
├── StepError               a conversion that failed
│   └── NotApplicable       one that has nothing to do for this model
├── DeployError             a place that refuses what is carried there, or where it doesn't come up
├── ContractBroken          the contract doesn't hold: exit code 3
├── NotFound                no such model or version in this server
├── NotReady                the model is loading, or the server drains
│   └── WrongAnswers        the model answers its golden samples otherwise than when it was verified
├── TooLarge                a request over the server's limits
├── Overloaded              the queue is full
│   └── RateLimited         one caller sends more than it may
├── DeadlineExceeded        the answer is not there in time
├── Unauthorized            a caller who doesn't prove who it is
└── Forbidden               a known caller who may not do this
"""


class FerrymanError(Exception):
    """Carry what went wrong, and in `hint` the way out."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UserError(FerrymanError):
    """Say that the user's input can't be used as it is."""

    exit_code = 2


class ConfigError(UserError):
    """Refuse a deployment file."""


class SourceError(UserError):
    """Refuse a model file."""


class DataError(UserError):
    """Refuse calibration or evaluation data."""


class InputError(UserError):
    """Refuse one input: a picture, a row, a tensor or a request."""


class BundleError(UserError):
    """Refuse a bundle."""


class ImageError(UserError):
    """Refuse an image, an artifact, or a part of one."""


class RegistryError(UserError):
    """Say that a registry can't be reached, or what it refused."""


class NotInRegistry(RegistryError):
    """Say that a registry has nothing under a name."""


class Untrusted(UserError):
    """Refuse a bundle or an image that nobody who is trusted vouches for as it is."""


class PlanError(UserError):
    """Say that no chain of installed steps leads to a format."""


class MissingExtra(UserError):
    """Name the packages that a plug-in lacks and the command that adds them."""


class StepError(FerrymanError):
    """Report a conversion that failed, with its last words."""


class NotApplicable(StepError):
    """Say that a step has nothing to gain on this model: no failure, but no candidate either."""


class DeployError(FerrymanError):
    """Report a place that refuses what is carried there, or where it doesn't come up, with its last words."""


class ContractBroken(FerrymanError):
    """Say which promises don't hold."""

    exit_code = 3


class NotFound(FerrymanError):
    """Say that there is no such model or version."""


class NotReady(FerrymanError):
    """Say that a model can't answer now."""


class WrongAnswers(NotReady):
    """Say that a model answers its golden samples otherwise than when it was verified."""


class TooLarge(FerrymanError):
    """Refuse a request over a limit."""


class Overloaded(FerrymanError):
    """Refuse a request because the queue is full."""


class RateLimited(Overloaded):
    """Refuse a request because its caller sends more than it may; `retry_after_s` says when the next one fits."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(FerrymanError):
    """Say that the answer was not there in the time that the caller or the server gives."""


class Unauthorized(FerrymanError):
    """Refuse a caller who doesn't say who it is, or can't prove it."""


class Forbidden(FerrymanError):
    """Refuse a known caller what it may not do."""
