"""Show where a camera is without the password that its address may hold."""

from urllib.parse import urlsplit, urlunsplit


def is_address(source: str) -> bool:
    """Tell a URL from a path."""
    return "://" in source


def redact(source: str) -> str:
    """Give a source as it may be shown: a password is ***, and so is every value of a query."""
    if not is_address(source):
        return source
    parts = urlsplit(source)
    place = parts.netloc
    if "@" in place:
        user, _, host = place.rpartition("@")
        place = f"{user.partition(':')[0]}:***@{host}" if ":" in user else f"{user}@{host}"
    query = "&".join(f"{pair.partition('=')[0]}=***" if "=" in pair else pair for pair in parts.query.split("&"))
    return urlunsplit(parts._replace(netloc=place, query=query))
