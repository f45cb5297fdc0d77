"""Named arrays as .npz files with always the same bytes, and back without trusting them."""

import io
import math
import zipfile
from collections.abc import Mapping

import numpy as np

from ferryman.core.errors import BundleError
from ferryman.core.signature import Array


def encode_arrays(arrays: Mapping[str, Array]) -> bytes:
    """Write arrays uncompressed and without time stamps; text (object arrays of str) as unicode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _encode(arrays[name]))
    return buffer.getvalue()


def decode_arrays(payload: bytes, *, origin: str) -> dict[str, Array]:
    """Read what `encode_arrays` wrote; never allocates more than the file holds, never unpickles."""
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("compressed members are not allowed")
            return {member.filename.removesuffix(".npy"): _decode(archive.read(member)) for member in members}
    except (ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise BundleError(f"{origin} is not a readable .npz file: {error}", hint="build the bundle again") from None


def _encode(array: Array) -> bytes:
    stream = io.BytesIO()
    plain = array.astype(np.str_) if array.dtype.kind == "O" else array
    np.lib.format.write_array(stream, np.ascontiguousarray(plain).reshape(plain.shape), (1, 0), allow_pickle=False)
    return stream.getvalue()


def _decode(payload: bytes) -> Array:
    stream = io.BytesIO(payload)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("unknown .npy version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    body = payload[stream.tell() :]
    if dtype.hasobject or fortran or math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{len(body)} bytes can't be {dtype} {list(shape)}")
    array = np.frombuffer(body, dtype).reshape(shape)
    return array.astype(object) if dtype.kind == "U" else array.copy()
