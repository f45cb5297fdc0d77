"""What an image leaves out, and why: the one list of it. Patterns are of `fnmatch`, whose `*` goes through folders."""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Rule:
    """Leave out the files whose path fits one of `patterns`, for a reason."""

    patterns: tuple[str, ...]
    reason: str


STANDARD_LIBRARY = (
    Rule(("test/*", "*/test/*", "*/tests/*", "*/idle_test/*"), "Python's own tests"),
    Rule(("site-packages/*", "dist-packages/*", "__pycache__/*", "*/__pycache__/*"), "not Python's own, or made here"),
    Rule(("config-*", "*.a", "*.o", "*.exe", "*.bat", "pydoc_data/*"), "to build, or to read"),
    Rule(
        ("idlelib/*", "tkinter/*", "turtledemo/*", "turtle.py", "curses/*", "msilib/*", "lib2to3/*", "distutils/*"),
        "windows, terminals, and what later Pythons dropped",
    ),
    Rule(("ensurepip/*", "venv/*", "pydoc.py", "antigravity.py", "this.py"), "an image installs nothing"),
    Rule(("sqlite3/*", "dbm/*", "sitecustomize.py", "EXTERNALLY-MANAGED"), "databases, and one machine's own"),
    Rule(
        tuple(
            f"lib-dynload/{name}.*"
            for name in (
                "_tkinter", "_curses*", "readline", "nis", "ossaudiodev", "spwd", "_crypt", "_sqlite3", "_dbm", "_gdbm",
                "_test*", "_xx*", "xx*", "_ctypes_test",
            )
        ),
        "terminals, databases, old systems, and test modules: each links libraries of its own",
    ),
)  # fmt: skip

WHEELS = (
    Rule(("*/tests/*", "*/test/*", "*/testing/tests/*", "*/conftest.py"), "tests"),
    Rule(("*.pyi", "*.pxd", "*.pyx", "*/py.typed"), "for type checkers and Cython"),
    Rule(("*.h", "*.hpp", "*.c", "*.cc", "*.cpp", "*.a", "*.lib", "*.cmake", "*.pc"), "to compile against"),
    Rule(("*/__pycache__/*", "*.pyc"), "made anew, the same on each run"),
    Rule(("pip/*", "setuptools/*", "_distutils_hack/*", "pkg_resources/*", "*.pth"), "an image installs nothing"),
    Rule(("numpy/_core/_simd.*", "pydantic/v1/*"), "a window for NumPy's tests; what pydantic was before version 2"),
    Rule(("numpy/f2py/*", "numpy/distutils/*", "numpy/_pyinstaller/*", "numpy/doc/*"), "build tools of NumPy"),
    Rule(
        tuple(f"onnxruntime/{part}/*" for part in ("transformers", "quantization", "tools", "datasets", "backend")),
        "make models; an image answers with one",
    ),
    Rule(("onnxruntime/capi/libonnxruntime.so.*",), "the C library once more: the Python module holds all of it"),
    Rule(("openvino/include/*", "openvino/tools/*", "openvino/torch/*", "openvino/frontend/*/*"), "convert models"),
    Rule(
        tuple(f"openvino/libs/libopenvino_{part}_frontend.so*" for part in ("pytorch", "tensorflow*", "paddle", "jax")),
        "read what was trained; an image reads OpenVINO's own format",
    ),
    Rule(("openvino/libs/*npu*", "openvino/libs/*intel_gpu*", "openvino/libs/cache.json"), "other devices"),
    Rule(("PIL/_imagingtk.*", "PIL/_imagingft.*", "PIL/_avif.*", "PIL/_imagingmath.*"), "windows, fonts, and AVIF"),
)  # fmt: skip


OWN = (
    Rule(("*/__pycache__/*", "*.pyc"), "made anew, the same on each run"),
    Rule(("ferryman/demo/*",), "weights and pictures to try with"),
    Rule(("ferryman/*/programs/*", "ferryman/export/_torch/*"), "run in toolchains, which no image holds"),
)

NOT_COMPILED = (
    Rule(
        tuple(f"ferryman/{room}/*" for room in (
            "build", "conformance", "container", "export", "optimize", "package", "sources", "targets",
        )),
        "not imported by a server",
    ),
    Rule(("numpy/ma/*", "numpy/polynomial/*", "numpy/testing/*"), "not imported by a server"),
)  # fmt: skip


def is_left_out(name: str, rules: tuple[Rule, ...]) -> bool:
    """Tell whether a rule leaves out a file, by its path below the folder that the rules are about."""
    return any(fnmatchcase(name, pattern) for rule in rules for pattern in rule.patterns)
