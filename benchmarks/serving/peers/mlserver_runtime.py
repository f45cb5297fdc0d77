"""MLServer: its two custom runtimes, for T and M, and for D."""

import json

import nets
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Plain(MLModel):
    """Answer one tensor with one tensor."""

    async def load(self) -> bool:
        """Load the model."""
        self._net = nets.Plain(self.settings.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer."""
        values = NumpyCodec.decode_input(payload.inputs[0]).astype("float32", copy=False)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", self._net(values))])


class Detector(MLModel):
    """Answer a JPEG with boxes."""

    async def load(self) -> bool:
        """Load the model."""
        self._net = nets.Detector()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer."""
        jpeg = Base64Codec.decode_input(payload.inputs[0])[0]
        output = StringCodec.encode_output("found", [json.dumps(self._net(jpeg))])
        return InferenceResponse(model_name=self.name, outputs=[output])
