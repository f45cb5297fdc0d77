"""Ask a model about pictures: in this process, or on servers of which the next is asked when one fails."""

from collections.abc import Sequence
from typing import Any, Protocol

from ferryman.client.access import NOBODY, Access
from ferryman.client.steady import SteadyClient
from ferryman.core.bundle import Bundle
from ferryman.core.errors import InputError, NotReady, WrongAnswers
from ferryman.core.plugins import runtime_for
from ferryman.core.task import Answer, TaskSpec, bind_task, infer_items
from ferryman.tasks.picture import Picture

_JPEG_QUALITY = 92


class Engine(Protocol):
    """Answer pictures in three steps, each of which may run while others run for other frames."""

    task: TaskSpec

    def prepare(self, pictures: Sequence[Picture]) -> Any:  # what `infer` takes
        """Make what the model takes of pictures, uint8 [height, width, 3] BGR."""

    def infer(self, prepared: Any) -> Any:  # what `finish` takes
        """Ask the model."""

    def finish(self, answered: Any) -> list[Answer]:
        """Give an answer for each picture."""

    def close(self) -> None:
        """Give everything back."""


class LocalEngine:
    """Answer with a bundle's model in this process, once its golden samples are answered right."""

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        """Load it; raises WrongAnswers where a golden sample is answered otherwise than when it was verified."""
        runtime = runtime_for(bundle.artifact.format, serves=True).require()()
        self.task = bundle.deployment.task
        self._session = runtime.load(bundle.artifact, threads=bundle.threads(threads))
        self._bound = bind_task(self.task, bundle.artifact.signature)
        self._most = self._session.signature.max_batch or 0
        for golden in bundle.golden:
            answers = infer_items(self._bound, self._session, [golden.item])
            beyond = self._bound.agreement([golden.answer], answers).beyond(bundle.tolerance)
            if beyond:
                self.close()
                raise WrongAnswers(
                    f"golden sample '{golden.name}' is answered otherwise here: {beyond}",
                    hint="ferryman verify tells more; build the bundle for this machine",
                )

    @property
    def most(self) -> int:
        """Give the most pictures of one call, 0 for any number."""
        return self._most

    def prepare(self, pictures: Sequence[Picture]) -> Any:  # a Batch
        """Fit pictures into the model's input, the last one repeated where its batch is fixed."""
        padded = [*pictures, *[pictures[-1]] * (self._most - len(pictures))]
        return self._bound.preprocess(padded), len(pictures)

    def infer(self, prepared: Any) -> Any:  # outputs with their Batch
        """Run the model."""
        batch, count = prepared
        return self._session.infer(batch.inputs), batch, count

    def finish(self, answered: Any) -> list[Answer]:
        """Decode the model's tensors."""
        outputs, batch, count = answered
        return self._bound.postprocess(outputs, batch)[:count]

    def close(self) -> None:
        """Unload the model."""
        self._session.close()


class RemoteEngine:
    """Ask servers that speak the Open Inference Protocol V2 and know the model's task, as Ferryman's do."""

    most = 1

    def __init__(
        self, urls: Sequence[str], model: str, task: TaskSpec, *, patience_s: float, access: Access = NOBODY
    ) -> None:
        self.task = task
        self._model = model
        self._client = SteadyClient(urls, timeout_s=patience_s, patience_s=patience_s, access=access)
        if not self._client.is_ready(model):
            raise NotReady(f"model '{model}' is not ready on {' '.join(urls)}", hint="start it, or wait for it")

    def prepare(self, pictures: Sequence[Picture]) -> Any:  # JPEG files
        """Encode pictures."""
        import cv2

        encoded = []
        for picture in pictures:
            is_done, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            if not is_done:
                raise InputError(f"a picture of {picture.shape} can't be encoded", hint="look at the camera's size")
            encoded.append(content.tobytes())
        return encoded

    def infer(self, prepared: Any) -> Any:  # answers
        """Ask; raises NotReady when no server answered within the patience."""
        return [self._client.infer_item(self._model, content) for content in prepared]

    def finish(self, answered: Any) -> list[Answer]:
        """Give them as they came."""
        answers: list[Answer] = answered
        return answers

    def close(self) -> None:
        """Hang up."""
        self._client.close()
