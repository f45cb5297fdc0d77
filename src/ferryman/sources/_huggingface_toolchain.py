"""The environment that Hugging Face models are opened in."""

from pathlib import Path

from ferryman.core.toolchain import Toolchain

TOOLCHAIN = Toolchain(
    "huggingface",
    "Hugging Face's transformers, which opens their model folders; never the network.",
    python=("transformers==5.23.0", "tokenizers==0.23.3", "onnx==1.23.2", "onnxscript==0.7.2"),
    base="torch",
    lock=Path(__file__).parent / "locks" / "huggingface.txt",
    expected_mb=250,
)
PROGRAM = Path(__file__).parent / "programs" / "huggingface.py"
