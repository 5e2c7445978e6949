"""A network as ONNX Runtime and OpenVINO would run it. Executed by the Python of the environment `onnx`.

    python write_onnx.py NETWORK.pt2

Writes, beside it, NETWORK.onnx and NETWORK.int8.onnx (quantized by ONNX Runtime: int8 weights per channel, uint8
activations, the form its x86 kernels are fastest on), NETWORK.xml and NETWORK.int8.xml (quantized by NNCF).
"""

from __future__ import annotations

import sys
from pathlib import Path

import nncf
import onnxruntime.quantization as ort
import openvino
import torch
from exported import read
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
    """Samples for ONNX Runtime's calibration."""

    def __init__(self, samples: list[torch.Tensor]) -> None:
        self.feeds = iter([{"x": x.numpy()} for x in samples])

    def get_next(self) -> dict[str, object] | None:
        """The next one."""
        return next(self.feeds, None)


def write(path: Path) -> None:
    """All four files."""
    model, samples = read(path)
    onnx, prepared = path.with_suffix(".onnx"), path.with_suffix(".prepared.onnx")
    names = {"input_names": ["x"], "output_names": ["y"]}
    torch.onnx.export(model, (samples[0],), str(onnx), dynamo=True, external_data=False, verbose=False, **names)
    quant_pre_process(str(onnx), str(prepared))
    wishes = {"quant_format": ort.QuantFormat.QDQ, "per_channel": True}
    wishes |= {"activation_type": ort.QuantType.QUInt8, "weight_type": ort.QuantType.QInt8}
    ort.quantize_static(str(prepared), str(path.with_suffix(".int8.onnx")), Reader(samples), **wishes)
    prepared.unlink()
    converted = openvino.convert_model(str(onnx))
    openvino.save_model(converted, path.with_suffix(".xml"), compress_to_fp16=False)
    quantized = nncf.quantize(converted, nncf.Dataset([x.numpy() for x in samples]))
    openvino.save_model(quantized, path.with_suffix(".int8.xml"), compress_to_fp16=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
