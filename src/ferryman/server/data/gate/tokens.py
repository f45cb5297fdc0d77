"""Callers that an identity provider vouches for: JSON Web Tokens, checked against its public keys."""

import hashlib
from dataclasses import dataclass
from typing import Any

from ferryman.core.errors import ConfigError, MissingExtra, NotReady, Unauthorized
from ferryman.server.data.gate.caller import ALL_MODELS, SCOPES, Caller, Grant, Models
from ferryman.server.data.gate.jwks import Jwks, JwksSettings, PublicKey
from ferryman.server.data.gate.rates import Limit

DEFAULT_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
_CACHED = 4096
_LONGEST_TOKEN, _LONGEST_NAME = 8192, 128
_PUBLIC = ("RS", "PS", "ES", "Ed")


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Say whose tokens are good here, and which claims hold what their bearers may.

    `algorithms` are those of public keys. `scopes_claim` is a list, or words in one string, each after
    `scope_prefix`; without `models_claim` a token reaches every model. `limit` is for each subject.
    """

    issuer: str
    audience: str
    jwks: JwksSettings
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    leeway_s: float = 30.0
    scopes_claim: str = "scope"
    scope_prefix: str = ""
    models_claim: str = ""
    limit: Limit | None = None

    def __post_init__(self) -> None:
        wrong = [name for name in self.algorithms if not name.startswith(_PUBLIC)]
        if wrong or not self.algorithms:
            # A public key used as the secret of an HMAC is known to everybody.
            raise ConfigError(
                f"tokens can't be trusted with {wrong or 'no algorithm'}", hint="use RS256, ES256 or EdDSA"
            )
        if not self.issuer or not self.audience:
            raise ConfigError(
                "tokens need an issuer and an audience", hint="or those made for others would open this one"
            )


class JwtVerifier:
    """Tell who bears a token; one that was found good is remembered until it ends. On the loop only.

    Raises MissingExtra where PyJWT is not installed.
    """

    def __init__(self, settings: JwtSettings) -> None:
        try:
            import jwt  # an extra
        except ImportError:
            raise MissingExtra("tokens need PyJWT", hint="pip install 'ferryman[auth]'") from None
        self._jwt = jwt
        self._settings = settings
        self._jwks = Jwks(settings.jwks)
        self._known: dict[bytes, Grant] = {}
        self._generation = self._jwks.generation

    def start(self) -> None:
        """Begin to keep the keys fresh."""
        self._jwks.start()

    def close(self) -> None:
        """End that."""
        self._jwks.close()

    def find(self, token: bytes) -> Grant:
        """Give what the bearer of a token may; raises Unauthorized, or NotReady while its key is being fetched."""
        if self._generation != self._jwks.generation:  # a key that was taken away must not live on here
            self._generation = self._jwks.generation
            self._known.clear()
        digest = hashlib.sha256(token).digest()
        grant = self._known.pop(digest, None)
        if grant is None:
            grant = self._checked(token)
            if len(self._known) >= _CACHED:
                del self._known[next(iter(self._known))]
        self._known[digest] = grant  # at the end: the least recently used is first
        return grant

    def _checked(self, token: bytes) -> Grant:
        if len(token) > _LONGEST_TOKEN:
            raise Unauthorized("the token is too long")
        jwt, settings = self._jwt, self._settings
        try:
            head = jwt.get_unverified_header(token)
            key = self._key(str(head.get("kid", "")))
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[name for name in settings.algorithms if name in key.algorithms],
                issuer=settings.issuer,
                audience=settings.audience,
                leeway=settings.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            return self._grant(claims)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the token has expired", hint="ask its issuer for a new one") from None
        except jwt.InvalidAudienceError:
            raise Unauthorized("the token is for another audience", hint=f"here it is '{settings.audience}'") from None
        except jwt.InvalidIssuerError:
            raise Unauthorized("the token is from another issuer", hint=f"here it is '{settings.issuer}'") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthorized(f"the token lacks the claim '{error.claim}'", hint="ask its issuer for it") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            # Its text could quote the token's claims; the name of its kind says enough.
            raise Unauthorized(f"the token is not good here ({type(error).__name__})") from None

    def _key(self, key_id: str) -> PublicKey:
        key = self._jwks.find(key_id)
        if key is not None:
            return key
        if self._jwks.want():
            raise NotReady("the keys of tokens are being fetched", hint="try again in a second")
        raise Unauthorized("the token is signed with a key that is not known here")

    def _grant(self, claims: dict[str, Any]) -> Grant:  # JSON
        settings = self._settings
        models = Models(_words(claims.get(settings.models_claim))) if settings.models_claim else ALL_MODELS
        held = {
            word.removeprefix(settings.scope_prefix)
            for word in _words(claims.get(settings.scopes_claim))
            if word.startswith(settings.scope_prefix)
        }
        caller = Caller(f"jwt:{str(claims['sub'])[:_LONGEST_NAME]}", "jwt")
        return Grant(caller, frozenset(SCOPES) & held, models, settings.limit, float(claims["exp"]) + settings.leeway_s)


def _words(claim: Any) -> tuple[str, ...]:  # JSON
    if isinstance(claim, str):
        return tuple(claim.split())
    return tuple(word for word in claim if isinstance(word, str)) if isinstance(claim, list) else ()
