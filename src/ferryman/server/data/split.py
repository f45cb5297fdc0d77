"""Put callers on a line from 0 to 1, so that a share of them is always the same callers."""

from hashlib import blake2b

_BITS = 53  # as many as a float holds exactly, so that 1.0 is never reached


def side(key: str, salt: str) -> float:
    """Give a caller's place in [0, 1): it takes part in a share where its place is under that share.

    The same key and salt give the same place in every process and for ever, so who is in a share of 5 % is also in one
    of 25 %. Another salt (a model and its version) mixes anew, so that it isn't always the same callers who try first.
    """
    # The length keeps ("ab", "c") and ("a", "bc") apart; a header's bytes may be no valid text.
    text = f"{len(salt)}:{salt}{key}".encode("utf-8", "surrogatepass")
    return (int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> (64 - _BITS)) / (1 << _BITS)
