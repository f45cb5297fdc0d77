"""Read a TensorFlow SavedModel's signatures and operators from its bytes: no TensorFlow, and nothing is run.

The messages are the few fields, by TensorFlow's own numbers, of saved_model.proto and what it includes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ferryman.core.errors import SourceError
from ferryman.core.signature import Signature, TensorSpec
from ferryman.sources._onnx_graph import dynamic_name
from ferryman.sources._savedmodel_input import first_operation, picture_scale

Message = Any  # of a class that protobuf makes at run time

_TEXT, _WHOLE, _FLAG, _PART, _ENUM, _BYTES, _FLOAT = 9, 3, 8, 11, 5, 12, 2  # protobuf's numbers of field types
_FIELDS: dict[str, tuple[tuple[str, int, int, str], ...]] = {  # by message: name, number, type, of which message
    "SavedModel": (("meta_graphs", 2, _PART, "MetaGraph*"),),
    "MetaGraph": (
        ("info", 1, _PART, "MetaInfo"),
        ("graph", 2, _PART, "Graph"),
        ("saver", 3, _PART, "Saver"),
        ("collections", 4, _PART, "CollectionEntry*"),
        ("signatures", 5, _PART, "SignatureEntry*"),
        ("objects", 7, _PART, "Objects"),
    ),
    "Saver": (("restores", 3, _TEXT, ""),),
    "CollectionEntry": (("key", 1, _TEXT, ""), ("value", 2, _PART, "Collection")),
    "Collection": (("nodes", 1, _PART, "Texts"),),
    "Texts": (("value", 1, _TEXT, "*"),),
    "Objects": (("functions", 2, _PART, "FunctionEntry*"),),
    "FunctionEntry": (("key", 1, _TEXT, ""),),
    "MetaInfo": (("tags", 4, _TEXT, "*"),),
    "SignatureEntry": (("key", 1, _TEXT, ""), ("value", 2, _PART, "SignatureDef")),
    "SignatureDef": (("inputs", 1, _PART, "PortEntry*"), ("outputs", 2, _PART, "PortEntry*")),
    "PortEntry": (("key", 1, _TEXT, ""), ("value", 2, _PART, "Port")),
    "Port": (("name", 1, _TEXT, ""), ("dtype", 2, _ENUM, ""), ("shape", 3, _PART, "Shape")),
    "Shape": (("dim", 2, _PART, "Dim*"), ("unknown_rank", 3, _FLAG, "")),
    "Dim": (("size", 1, _WHOLE, ""),),
    "Graph": (("node", 1, _PART, "Node*"), ("library", 2, _PART, "Library")),
    "Library": (("function", 1, _PART, "Function*"),),
    "Function": (
        ("signature", 1, _PART, "Head"),
        ("node", 3, _PART, "Node*"),
        ("ret", 4, _PART, "TextEntry*"),
    ),
    "Head": (("name", 1, _TEXT, ""), ("input_arg", 2, _PART, "Argument*"), ("output_arg", 3, _PART, "Argument*")),
    "Argument": (("name", 1, _TEXT, ""),),
    "TextEntry": (("key", 1, _TEXT, ""), ("value", 2, _TEXT, "")),
    "Node": (
        ("name", 1, _TEXT, ""),
        ("op", 2, _TEXT, ""),
        ("input", 3, _TEXT, "*"),
        ("attr", 5, _PART, "AttrEntry*"),
    ),
    "AttrEntry": (("key", 1, _TEXT, ""), ("value", 2, _PART, "Attr")),
    "Attr": (("list", 1, _PART, "AttrList"), ("tensor", 8, _PART, "Tensor"), ("func", 10, _PART, "Called")),
    "Tensor": (("dtype", 1, _ENUM, ""), ("content", 4, _BYTES, ""), ("floats", 5, _FLOAT, "*")),
    "AttrList": (("func", 9, _PART, "Called*"),),
    "Called": (("name", 1, _TEXT, ""),),
}
_DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 9: "int64", 10: "bool",
    14: "bfloat16", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
_SERVING = "serving_default"
_PASSES_ON = frozenset({"Identity", "IdentityN", "StopGradient", "PreventGradient", "Cast"})
_CALLS = ("StatefulPartitionedCall", "PartitionedCall")
_MOST_HOPS = 200
_REACHES_OUT = re.compile(  # read over all operators of TensorFlow 2.21; no serving graph needs a data set
    r".*(PyFunc|Dataset|Reader(V2)?$|Summary\w*Writer|TRTResource)|"
    r"(Write|Debug|Rpc|InitializeTableFrom(TextFile|Dataset))|"
    r"(PrintV2|ReadFile|MatchingFiles|RecordInput|ImmutableConst|DumpTensor|LoadAndRemapMatrix|RemoteCall|Skipgram|"
    r"GenerateVocabRemapping|FixedUnigramCandidateSampler|DecodeProtoV2|EncodeProto|FileSystemSetConfiguration|Copy|"
    r"CopyHost|CalibrationStatisticsSaver|DistributedSave)$"
)
_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
_SHARD = re.compile(r"variables\.data-[0-9]+-of-0*([0-9]+)")
_WRITES = frozenset({"Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"})
_CHECKPOINTS = _WRITES | {"Restore", "RestoreSlice", "RestoreV2", "DTensorRestoreV2"}


@cache
def _classes() -> Mapping[str, Any]:  # protobuf's message classes
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="ferryman_savedmodel.proto", package="ferryman", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            added = message.field.add(name=field, number=number, type=kind, label=3 if of.endswith("*") else 1)
            if kind == _PART:
                added.type_name = f".ferryman.{of.rstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessages([file], pool=pool)


@dataclass(frozen=True, slots=True)
class SavedGraph:
    """Hold a SavedModel's meta graph for serving."""

    path: Path
    meta: Message
    metas: tuple[Message, ...]

    @classmethod
    def read(cls, folder: Path) -> "SavedGraph":
        """Parse saved_model.pb; raises SourceError for a damaged one, or one that isn't meant for serving."""
        from google.protobuf.message import DecodeError

        file = folder / "saved_model.pb"
        try:
            saved = _classes()["ferryman.SavedModel"].FromString(file.read_bytes())
        except (DecodeError, OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{file} is damaged or cut short: {error}", hint="export the model again") from None
        served = [meta for meta in saved.meta_graphs if "serve" in meta.info.tags]
        if not served:
            raise SourceError(
                f"{folder} has no graph that is tagged 'serve'",
                hint="export it for serving: model.export(folder), or tf.saved_model.save(module, folder, signatures)",
            )
        return cls(folder, served[0], tuple(saved.meta_graphs))

    def reaching_out(self) -> list[str]:
        """Give the kinds of operators that read or write files of the machine, or call Python.

        What writes and reads checkpoints has its place in every SavedModel, but only where TensorFlow's saver calls it.
        """
        return sorted({op for meta in self.metas for op in _reaching_out(meta)})

    def check_variables(self) -> None:
        """Raise SourceError where the graph has variables, and the files with their values aren't all there."""
        if not any(node.op in _VARIABLES for node in self.meta.graph.node):
            return
        folder = self.path / "variables"
        names = sorted(path.name for path in folder.glob("variables.*"))
        shards = [match for name in names if (match := _SHARD.fullmatch(name))]
        if not names:
            lacking = "variables/ is"
        elif "variables.index" not in names:
            lacking = "variables/variables.index is"
        elif not shards or len(shards) != int(shards[0].group(1)):
            lacking = "a file variables/variables.data-... is"
        else:
            return
        raise SourceError(
            f"{lacking} missing from {self.path}: the model's weights are in there", hint="copy the whole folder"
        )

    def choose(self, wanted: str | None) -> str:
        """Give the name of the signature to serve; raises SourceError that names them where that is not clear."""
        names = sorted(str(entry.key) for entry in self.meta.signatures if not entry.key.startswith("__"))
        listed = ", ".join(names)
        if wanted is not None and wanted not in names:
            raise SourceError(
                f"{self.path} has no signature '{wanted}'", hint=f"[model] signature is one of: {listed or 'none'}"
            )
        if wanted is not None or _SERVING in names:
            return wanted if wanted is not None else _SERVING
        if len(names) == 1:
            return names[0]
        if names:
            raise SourceError(
                f"{self.path} has several signatures and none is '{_SERVING}': {listed}",
                hint="say which one is served: [model] signature = 'NAME' (ferryman init: --signature NAME)",
            )
        raise SourceError(
            f"{self.path} has no signature, so nothing says what goes in and what comes out",
            hint="save it with one: model.export(folder), or tf.saved_model.save(module, folder, signatures=...)",
        )

    def signature(self, name: str) -> Signature:
        """Read one signature's ports, in order of their names."""
        definition = self._definition(name)
        return Signature(
            inputs=tuple(_spec(entry, f"{self.path}: input") for entry in _sorted(definition.inputs)),
            outputs=tuple(_spec(entry, f"{self.path}: output") for entry in _sorted(definition.outputs)),
        )

    def last_operators(self, name: str) -> dict[str, str]:
        """Give the operator that makes each output of a signature, where it is plain to see."""
        found = {entry.key: self._maker(entry.value.name) for entry in self._definition(name).outputs}
        return {key: op for key, op in found.items() if op}

    def picture_scale(self, name: str) -> float | None:
        """Give what pixels of 0-255 are to be multiplied by, where a signature's only input is scaled in the graph."""
        ports = self._definition(name).inputs
        return picture_scale(first_operation(self.meta.graph, ports[0].value.name)) if len(ports) == 1 else None

    def _definition(self, name: str) -> Message:
        return next(entry.value for entry in self.meta.signatures if entry.key == name)

    def _maker(self, tensor: str) -> str:
        """Follow a tensor back through calls of functions and what passes it on."""
        functions = {function.signature.name: function for function in self.meta.graph.library.function}
        nodes = {node.name: node for node in self.meta.graph.node}
        for _ in range(_MOST_HOPS):
            name, _, place = tensor.lstrip("^").partition(":")
            node = nodes.get(name)
            if node is None:
                return ""
            called = next((entry.value.func.name for entry in node.attr if entry.value.func.name), "")
            if called in functions and node.op in _CALLS:
                function = functions[called]
                nodes = {inner.name: inner for inner in function.node}
                tensor = _returned(function, place)
            elif node.op in _PASSES_ON and node.input:
                tensor = node.input[0]
            else:
                return str(node.op)
        return ""


def _reaching_out(meta: Message) -> set[str]:
    everywhere = [*meta.graph.node, *(node for function in meta.graph.library.function for node in function.node)]
    callable_ = [entry.key for entry in meta.objects.functions]
    told = [port.value.name for entry in meta.signatures for port in entry.value.outputs]
    told += [name for entry in meta.collections for name in entry.value.nodes.value]  # what starts it is among them
    found = {node.op for node in everywhere if _REACHES_OUT.match(node.op)}
    found |= _reached(meta, told, callable_) & _CHECKPOINTS
    return found | _reached(meta, [meta.saver.restores], []) & _WRITES


def _reached(meta: Message, tensors: Iterable[str], called: Iterable[str]) -> set[str]:
    """Give the operators that run for some tensors of the main graph, and in functions that are called by name."""
    nodes = {node.name: node for node in meta.graph.node}
    functions = {function.signature.name: function for function in meta.graph.library.function}
    operators, seen = set(), set()
    pending = [("node", _bare(tensor)) for tensor in tensors] + [("function", name) for name in called]
    while pending:
        kind, name = one = pending.pop()
        if one in seen or name not in (nodes if kind == "node" else functions):
            continue
        seen.add(one)
        running = [nodes[name]] if kind == "node" else list(functions[name].node)
        for node in running:
            operators.add(str(node.op))
            pending += [("function", name) for name in (node.op, *_calls(node))]
            pending += [("node", _bare(tensor)) for tensor in node.input if kind == "node"]
    return operators


def _calls(node: Message) -> Iterator[str]:
    for entry in node.attr:
        yield from (called.name for called in (entry.value.func, *entry.value.list.func) if called.name)


def _bare(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _returned(function: Message, place: str) -> str:
    """Give the inner tensor of a function's output: `place` is its number, after the port's name or alone."""
    number = place.rpartition(":")[2]
    index = int(number) if number.isdecimal() else 0
    if index >= len(function.signature.output_arg):
        return ""
    wanted = function.signature.output_arg[index].name
    return next((entry.value for entry in function.ret if entry.key == wanted), "")


def _sorted(entries: Any) -> list[Message]:  # a repeated field
    return sorted(entries, key=lambda entry: str(entry.key))


def _spec(entry: Message, role: str) -> TensorSpec:
    port = entry.value
    dtype = _DTYPES.get(port.dtype % 100)
    if dtype is None:
        raise SourceError(f"{role} '{entry.key}' is of TensorFlow's type {port.dtype}", hint="export plain tensors")
    if port.shape.unknown_rank:
        raise SourceError(
            f"{role} '{entry.key}' has no known shape, not even its number of dimensions",
            hint="export it with an input signature: tf.TensorSpec([None, 224, 224, 3], tf.float32)",
        )
    sizes = [dim.size for dim in port.shape.dim]
    shape = tuple(size if size >= 0 else dynamic_name(entry.key, axis) for axis, size in enumerate(sizes))
    return TensorSpec(name=entry.key, dtype=dtype, shape=shape)
