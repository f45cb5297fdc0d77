"""One model of a server, and the means to ask it the same thing in every form."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ferryman.conformance.broken import Broken, NotTried, expect
from ferryman.conformance.target import Reply, Target, model_path
from ferryman.conformance.tensors import NOT_IN_JSON, Tensor, from_bytes, from_json, make_tensors

JSON_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Case:
    """Hold a model under examination; what is learned of it is asked for once."""

    target: Target
    model: str = ""

    @cached_property
    def metadata(self) -> dict[str, Any]:  # from the server
        """Give what the server says of the model."""
        reply = self.target.ask("GET", model_path(self.model))
        expect(reply.status == 200, f"GET {model_path(self.model)} gives {reply.status}: {reply.payload[:120]!r}")
        return reply.object()

    @property
    def version(self) -> str:
        """Give a version that the metadata lists, "" where it lists none."""
        versions = self.metadata.get("versions")
        return str(versions[0]) if isinstance(versions, list) and versions else ""

    def specs(self, side: str) -> list[dict[str, Any]]:  # metadata
        """Give the metadata of the model's inputs or outputs; raises NotTried where it says nothing of them."""
        specs = self.metadata.get(side)
        if not isinstance(specs, list) or not specs:
            raise NotTried(f"the model's metadata says nothing of its {side}: give a request with --inputs")
        return specs

    @cached_property
    def _answered(self) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Find inputs that the model takes; gives them with its answer."""
        given = self.target.inputs.get(self.model)
        if given is not None:
            tries = [[from_json(entry) for entry in given["inputs"]]]
        else:
            tries = [make_tensors(self.specs("inputs"), free_size=size) for size in (1, 2)]
        reason = ""
        for tensors in tries:
            is_json = all(tensor.datatype not in NOT_IN_JSON for tensor in tensors)
            reply = self.ask_json(tensors) if is_json else self.ask_binary(tensors, is_binary_out=True)
            if reply.status == 200:
                return tensors, self.outputs_of(reply)
            reason = f"{reply.status}: {reply.payload[:160].decode(errors='replace')}"
        raise NotTried(f"the model refuses inputs made from its metadata ({reason}): give some with --inputs")

    @property
    def inputs(self) -> list[Tensor]:
        """Give inputs that the model answers."""
        return self._answered[0]

    @property
    def wanted(self) -> dict[str, Tensor]:
        """Give the answer that every other way of asking must give, too."""
        return self._answered[1]

    def need_json(self) -> None:
        """Raise NotTried where an input's datatype has no form in JSON."""
        if bad := [tensor.datatype for tensor in self.inputs if tensor.datatype in NOT_IN_JSON]:
            raise NotTried(f"the model takes {bad[0]}, for which the protocol has no sound form in JSON")

    def need_binary(self) -> None:
        """Raise NotTried unless the server announces binary tensors: clients fall back to JSON then."""
        if "binary_tensor_data" not in self.target.extensions:
            raise NotTried("the server doesn't announce 'binary_tensor_data'")

    def ask_json(
        self,
        tensors: Sequence[Tensor],
        *,
        is_nested: bool = False,
        version: str = "",
        **more: Any,  # JSON
    ) -> Reply:
        """Ask with JSON; `more` are further keys of the request."""
        return self.post(
            {"inputs": [tensor.to_json(is_nested=is_nested) for tensor in tensors], **more}, version=version
        )

    def ask_binary(self, tensors: Sequence[Tensor], *, is_binary_out: bool, **more: Any) -> Reply:  # JSON
        """Ask with tensors as bytes behind the JSON."""
        payloads = [tensor.to_bytes() for tensor in tensors]
        entries = [
            {**tensor.head(), "parameters": {"binary_data_size": len(payload)}}
            for tensor, payload in zip(tensors, payloads, strict=True)
        ]
        request = {"inputs": entries, "parameters": {"binary_data_output": is_binary_out}, **more}
        return self.post_binary(request, b"".join(payloads))

    def post(self, request: Any, *, version: str = "") -> Reply:  # JSON, perhaps wrong on purpose
        """Send a JSON request to the model."""
        return self.post_bytes(json.dumps(request).encode(), {"Content-Type": "application/json"}, version=version)

    def post_binary(self, request: Mapping[str, Any], blob: bytes, *, json_length: int | None = None) -> Reply:  # JSON
        """Send JSON with bytes behind it; `json_length` declares another length of the JSON than it has."""
        head = json.dumps(request).encode()
        length = len(head) if json_length is None else json_length
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
        return self.post_bytes(head + blob, headers)

    def post_bytes(self, body: bytes, headers: Mapping[str, str], *, version: str = "") -> Reply:
        """Send a body as it is."""
        return self.target.ask("POST", f"{model_path(self.model, version)}/infer", body, headers)

    def outputs_of(self, reply: Reply) -> dict[str, Tensor]:
        """Read the outputs of an answer, JSON or binary; raises Broken for what the protocol doesn't allow."""
        expect(reply.status == 200, f"status {reply.status}: {reply.payload[:160].decode(errors='replace')}")
        declared = reply.headers.get(JSON_LENGTH)
        split = len(reply.payload) if declared is None else int(declared)
        answer = Reply(reply.status, reply.headers, reply.payload[:split]).object()
        entries = answer.get("outputs")
        if not isinstance(entries, list):
            raise Broken("the answer has no list 'outputs'")
        outputs, start = {}, split
        for entry in entries:
            size = (entry.get("parameters") or {}).get("binary_data_size")
            if size is None:
                tensor = from_json(entry)
            else:
                tensor = from_bytes(entry, reply.payload[start : start + size])
                start += size
            outputs[tensor.name] = tensor
        expect(start == len(reply.payload), f"{len(reply.payload) - start} bytes of the answer belong to no output")
        return outputs
