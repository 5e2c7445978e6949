"""Random small networks of Keras layers, and Keras' own networks, as TensorFlow's converter writes them.

    python write_keras.py FOLDER MODELS [NAME ...]

Run by the environment `keras`. A layer of random sizes and weights becomes three files, of real numbers, and of int8 and
int16 codes with ranges that are measured on random inputs: FOLDER/NAME_WIDTH_INDEX.tflite. Files that are there are not
made again; what the converter refuses is written in their place, as text. A network is made once.

The converter ends the process on some layers: each name is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from keras import layers

Rng = np.random.Generator
Shape = tuple[int, ...]
WIDTHS = ("float", "int8", "int16")
CALIBRATION = 4
CLASSES = 100  # the public softmax kernels abort on more than 511 that are alike
WIDE = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def network(shape: Shape, *found: Callable[[Any], Any]) -> keras.Model:
    """Layers in a row; a batch of 1."""
    x = y = keras.Input(shape, batch_size=1)
    for layer in found:
        y = layer(y)
    return keras.Model(x, y)


def joined(shape: Shape, function: Callable[[Any, Any], Any]) -> keras.Model:
    """A function of two inputs of one shape."""
    x, y = keras.Input(shape, batch_size=1), keras.Input(shape, batch_size=1)
    return keras.Model([x, y], function(x, y))


def branched(shape: Shape, function: Callable[[Any], Any]) -> keras.Model:
    """A function of one input."""
    x = keras.Input(shape, batch_size=1)
    return keras.Model(x, function(x))


def number(rng: Rng, least: int, most: int) -> int:
    return int(rng.integers(least, most + 1))


def image(rng: Rng, channels: int = 0) -> Shape:
    return (number(rng, 7, 14), number(rng, 7, 14), channels or number(rng, 1, 12))


def any_shape(rng: Rng) -> Shape:
    return tuple(int(n) for n in rng.integers(1, 9, rng.integers(1, 4)))


def series(rng: Rng) -> Shape:
    return number(rng, 2, 9), number(rng, 1, 10)


def window(rng: Rng, padding: bool = True) -> dict[str, Any]:
    """Kernel, and stride or dilation, which Keras takes one of."""
    found: dict[str, Any] = {"padding": str(rng.choice(["same", "valid"]))} if padding else {}
    return {"kernel_size": number(rng, 1, 4), "strides": number(rng, 1, 3), **found}


def activation(rng: Rng) -> str | None:
    return (None, "relu", "relu6")[rng.integers(3)]


def conv(rng: Rng) -> keras.Model:
    size = {"strides": 1, "dilation_rate": 2} if rng.random() < 0.3 else {}
    return network(image(rng), layers.Conv2D(number(rng, 1, 12), activation=activation(rng), **window(rng) | size))


def normalized(rng: Rng) -> keras.Model:
    """A convolution without bias, its normalization, and an activation of its own."""
    first = layers.Conv2D(number(rng, 1, 12), use_bias=False, **window(rng))
    return network(image(rng), first, layers.BatchNormalization(), layers.ReLU(6.0 if rng.random() < 0.5 else None))


def depthwise(rng: Rng) -> keras.Model:
    return network(
        image(rng),
        layers.DepthwiseConv2D(depth_multiplier=number(rng, 1, 2), activation=activation(rng), **window(rng)),
    )


def conv1d(rng: Rng) -> keras.Model:
    padding = str(rng.choice(["same", "valid", "causal"]))
    shape = (number(rng, 8, 20), number(rng, 1, 9))
    return network(
        shape, layers.Conv1D(number(rng, 1, 9), number(rng, 1, 4), padding=padding, activation=activation(rng))
    )


def pooled(layer: Callable[..., Any]) -> Callable[[Rng], keras.Model]:
    def made(rng: Rng) -> keras.Model:
        found = window(rng)
        return network(image(rng), layer(found["kernel_size"], found["strides"], found["padding"]))

    return made


def each(name: str, least: int = 1) -> Callable[[Rng], keras.Model]:
    """An activation after a layer, so that its operand has a range of its own; LiteRT convolves in integers."""
    return lambda rng: network(
        (number(rng, 1, 9), number(rng, 1, 9)), layers.Conv1D(number(rng, least, 16), 1), layers.Activation(name)
    )


def merged(layer: Callable[..., Any]) -> Callable[[Rng], keras.Model]:
    return lambda rng: joined(any_shape(rng), lambda x, y: layer()([x, y]))


def attention(rng: Rng) -> keras.Model:
    heads, depth = number(rng, 1, 3), number(rng, 1, 6)
    return branched(series(rng), lambda x: layers.MultiHeadAttention(heads, depth)(x, x))


def squeezed(rng: Rng) -> keras.Model:
    """Squeeze and excitation."""
    shape = image(rng)
    gate = str(rng.choice(["sigmoid", "hard_sigmoid"]))

    def function(x: Any) -> Any:
        few = layers.Dense(number(rng, 1, 4), activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        return layers.Multiply()([x, layers.Dense(shape[2], activation=gate)(few)])

    return branched(shape, function)


def fused_lstm(rng: Rng) -> tf_keras.Model:
    """Of Keras 2, whose layer the converter makes one operator; of Keras 3 it makes a loop."""
    x = tf_keras.Input(series(rng), batch_size=1)
    found = tf_keras.layers.LSTM(number(rng, 1, 12), return_sequences=bool(rng.integers(2)))(x)
    return tf_keras.Model(x, found)


def unrolled(layer: Callable[..., Any]) -> Callable[[Rng], keras.Model]:
    return lambda rng: network((number(rng, 2, 4), number(rng, 1, 8)), layer(number(rng, 1, 9), unroll=True))


def moved(rng: Rng) -> keras.Model:
    """Moves in a row."""
    return network(
        image(rng), layers.Cropping2D(1), layers.ZeroPadding2D(number(rng, 1, 2)), layers.Permute((2, 1, 3)),
        layers.Reshape((-1,)), layers.RepeatVector(number(rng, 2, 3)),
    )  # fmt: skip


def larger(interpolation: str) -> Callable[[Rng], keras.Model]:
    return lambda rng: network(
        image(rng), layers.UpSampling2D((number(rng, 1, 3), number(rng, 2, 3)), interpolation=interpolation)
    )


def embedding(rng: Rng) -> keras.Model:
    """Of integers, as TextVectorization gives them."""
    x = keras.Input((number(rng, 2, 12),), batch_size=1, dtype="int32")
    rows = layers.Embedding(number(rng, 2, 99), number(rng, 1, 16))(x)
    after = [lambda y: y, layers.GlobalAveragePooling1D(), layers.Conv1D(number(rng, 1, 9), 2, activation="relu")]
    return keras.Model(x, after[rng.integers(0, 3)](rows))


LAYERS: dict[str, Callable[[Rng], Any]] = {
    "Conv2D": conv,
    "Conv2D, BatchNormalization, ReLU": normalized,
    "DepthwiseConv2D": depthwise,
    "Embedding": embedding,
    "SeparableConv2D": lambda rng: network(image(rng), layers.SeparableConv2D(number(rng, 1, 9), **window(rng))),
    "Conv2DTranspose": lambda rng: network(image(rng), layers.Conv2DTranspose(number(rng, 1, 9), **window(rng))),
    "Conv1D": conv1d,
    "Dense": lambda rng: network(any_shape(rng), layers.Dense(number(rng, 1, 20), activation=activation(rng))),
    "EinsumDense": lambda rng: network(series(rng), layers.EinsumDense("abc,cd->abd", (None, number(rng, 1, 9)))),
    "AveragePooling2D": pooled(layers.AveragePooling2D),
    "MaxPooling2D": pooled(layers.MaxPooling2D),
    "GlobalAveragePooling2D": lambda rng: network(image(rng), layers.GlobalAveragePooling2D()),
    "GlobalMaxPooling2D": lambda rng: network(image(rng), layers.GlobalMaxPooling2D()),
    "UpSampling2D, nearest": larger("nearest"),
    "UpSampling2D, bilinear": larger("bilinear"),
    "Cropping, padding, moves": moved,
    "Normalization": lambda rng: network(image(rng, 3), layers.Normalization(mean=[0.4, 0, 1], variance=[0.1, 1, 2])),
    "Rescaling": lambda rng: network(image(rng, 3), layers.Rescaling(1 / 127.5, -1), layers.Conv2D(4, 3)),
    "PReLU": lambda rng: network(image(rng), layers.PReLU("normal", shared_axes=[1, 2])),
    "LeakyReLU": lambda rng: network(any_shape(rng), layers.LeakyReLU(float(rng.uniform(0, 1)))),
    **{f"Activation {name}": each(name) for name in ("gelu", "hard_sigmoid", "hard_silu", "sigmoid", "silu", "tanh")},
    **{f"Activation {name}": each(name, 2) for name in ("softmax", "log_softmax")},
    **{
        layer.__name__: merged(layer)
        for layer in (layers.Add, layers.Subtract, layers.Multiply, layers.Maximum, layers.Minimum, layers.Average)
    },
    "Concatenate": merged(layers.Concatenate),
    "Dot": lambda rng: joined(series(rng), lambda x, y: layers.Dot(axes=-1)([x, y])),
    "MultiHeadAttention": attention,
    "Squeeze and excitation": squeezed,
    "TimeDistributed": lambda rng: network(series(rng), layers.TimeDistributed(layers.Dense(number(rng, 1, 9)))),
    "LSTM": fused_lstm,
    "LSTM, unrolled": unrolled(layers.LSTM),
    "GRU, unrolled": unrolled(layers.GRU),
    "SimpleRNN, unrolled": unrolled(layers.SimpleRNN),
}
SIZES: dict[str, tuple[int, dict[str, Any]]] = {  # Keras' networks: pictures' size, and what makes them small
    "MobileNet": (96, {"alpha": 0.25}),
    "MobileNetV2": (96, {"alpha": 0.35}),
    "MobileNetV3Small": (96, {}),
    "EfficientNetB0": (64, {}),
    "EfficientNetV2B0": (64, {}),
    "DenseNet121": (64, {}),
    "ResNet50V2": (64, {}),
    "InceptionV3": (96, {}),
}


def made(name: str, rng: Rng) -> Any:
    """A model whose parameters, those of normalizations too, are random."""
    if name in SIZES:
        size, options = SIZES[name]
        model = getattr(keras.applications, name)(weights=None, classes=CLASSES, input_shape=(size, size, 3), **options)
    else:
        model = LAYERS[name](rng)
    for variable in model.variables:
        if any(part in variable.name for part in ("moving", "gamma", "beta")):
            variable.assign(np.abs(rng.normal(1, 0.2, variable.shape)))
        elif "bias" in variable.name:
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def converted(model: Any, width: str, rng: Rng) -> bytes:
    """A file of one width."""
    shapes = [(1, *x.shape[1:]) for x in model.inputs]
    spreads = [float(np.exp(rng.normal(0, 1))) for _ in shapes]

    rows = [layer.input_dim for layer in model.layers if isinstance(layer, layers.Embedding)]

    def samples() -> Iterator[list[np.ndarray]]:
        for _ in range(CALIBRATION):
            if rows:
                yield [rng.integers(0, rows[0], s).astype(np.int32) for s in shapes]
                continue
            yield [rng.normal(0, spread, s).astype(np.float32) for spread, s in zip(spreads, shapes, strict=True)]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if width != "float":
        converter.optimizations, converter.representative_dataset = [tf.lite.Optimize.DEFAULT], samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8 if width == "int8" else WIDE]
        converter.inference_input_type = tf.float32 if rows else tf.as_dtype(width)  # that is, integers as they are
        converter.inference_output_type = tf.as_dtype(width)
    return bytes(converter.convert())


def write(folder: Path, name: str, index: int) -> None:
    """The files of one model."""
    for width in WIDTHS:
        path = folder / f"{name}_{width}_{index}.tflite"
        if path.exists():
            continue
        rng = np.random.default_rng([index, zlib.crc32(name.encode())])
        keras.utils.set_random_seed(int(rng.integers(2**31)))
        path.write_text("refused: the process ended")  # unless it goes on
        try:
            path.write_bytes(converted(made(name, rng), width, rng))
        except Exception as error:  # of any kind: what the converter does not do is its to say
            path.write_text(f"refused: {error!r}"[:400])


def main() -> None:
    """Write what is missing."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    folder, models, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or [*LAYERS, *SIZES]
    folder.mkdir(parents=True, exist_ok=True)
    if len(names) > 1:
        for name in names:
            subprocess.run([sys.executable, *sys.argv[:3], name], check=False)
        return
    for index in range(1 if names[0] in SIZES else models):
        write(folder, names[0], index)


if __name__ == "__main__":
    main()
