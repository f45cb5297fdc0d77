"""Sign without a key, by who one is: through the program cosign, which asks Sigstore's services on the network."""

import shutil
import subprocess
from collections.abc import Sequence

from ferryman.core.errors import ConfigError, MissingExtra, Untrusted
from ferryman.oci.reference import means_image
from ferryman.supply.signing import Accepted, Signed

_TIME_S = 600  # somebody may have to log in, in a browser


def sign_keyless(image: str) -> Signed:
    """Have cosign sign an image with a certificate of who is logged in, and note it in the public log."""
    _check_name(image)
    _run(["sign", "--yes", image])
    return Signed(image, "", ("cosign's signature, and an entry of the transparency log",))


def accept_keyless(image: str, *, identity: str, issuer: str) -> Accepted:
    """Have cosign check that this identity (an e-mail address, a workflow's URL) signed; raises Untrusted."""
    _check_name(image)
    _run(["verify", "--certificate-identity", identity, "--certificate-oidc-issuer", issuer, image])
    return Accepted(image, image.partition("@")[2], "", f"{identity} ({issuer})", True)


def _check_name(image: str) -> None:
    if not means_image(image):
        raise ConfigError(f"{image} is no image's name", hint="HOST/NAME@sha256:...; bundles are signed with --key")


def _run(words: Sequence[str]) -> None:
    program = shutil.which("cosign")
    if program is None:
        raise MissingExtra(
            "signing without a key needs the program cosign", hint="install it (sigstore.dev), or sign with --key"
        )
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program; the image's name was checked
            [program, *words], capture_output=True, text=True, timeout=_TIME_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Untrusted(
            f"cosign {words[0]} took more than {_TIME_S} s", hint="is Sigstore reached from here?"
        ) from None
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise Untrusted(
            f"cosign {words[0]}: {last[0] if last else f'exit code {done.returncode}'}",
            hint="without a network, sign with --key",
        )
