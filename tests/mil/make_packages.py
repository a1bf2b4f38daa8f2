"""Makes small Core ML packages with coremltools, and says what they compute: `make_packages.py FOLDER`.

The packages are what coremltools itself writes: its builder, its conversion to halves, its compression. What they compute is
said by a forward pass in numpy in double precision that is written here and shares nothing with coremltools but the weights.
For compressed packages these are the weights as they are expanded by definition. Everything comes from one seed.

`FOLDER/cases.json` has a list of packages with their inputs and outputs. `FOLDER/mutations.json` has a list of copies that are
wrong in one way each, with what a judge has to say of them.
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

import coremltools as ct
import coremltools.optimize as cto
import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import get_new_symbol, types
from coremltools.models.utils import load_spec

warnings.filterwarnings("ignore")

VOCABULARY, HIDDEN, LAYERS, HEADS, KEY_HEADS, HEAD, INNER, LENGTH = 96, 64, 2, 4, 2, 16, 128, 32
EPSILON = 1e-5


def rng():
    return np.random.default_rng(20261125)


def qwen3_weights():
    """As Qwen3 has them; the table and the matrices are large enough that coremltools compresses them."""
    random = rng()
    normal = lambda *shape: random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
    near_one = lambda size: (1 + random.normal(0, 0.1, size)).astype(np.float32)
    weights = {"table": random.normal(0, 1, (VOCABULARY, HIDDEN)).astype(np.float32)}
    for layer in range(LAYERS):
        weights |= {
            f"q_{layer}": normal(HEADS * HEAD, HIDDEN),
            f"k_{layer}": normal(KEY_HEADS * HEAD, HIDDEN),
            f"v_{layer}": normal(KEY_HEADS * HEAD, HIDDEN),
            f"o_{layer}": normal(HIDDEN, HEADS * HEAD),
            f"gate_{layer}": normal(INNER, HIDDEN),
            f"up_{layer}": normal(INNER, HIDDEN),
            f"down_{layer}": normal(HIDDEN, INNER),
            f"norm1_{layer}": near_one(HIDDEN),
            f"norm2_{layer}": near_one(HIDDEN),
            f"qnorm_{layer}": near_one(HEAD),
            f"knorm_{layer}": near_one(HEAD),
        }
    weights["norm"] = near_one(HIDDEN)
    angles = np.arange(LENGTH)[:, None] / 10000 ** (np.arange(0, HEAD, 2) / HEAD)[None]
    angles = np.concatenate([angles, angles], axis=1)
    weights["cos"], weights["sin"] = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    future = np.triu(np.ones((LENGTH, LENGTH)), 1) * -1e4
    weights["causal"] = future[None, None].astype(np.float32)
    return weights


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def qwen3_numpy(weights, ids, mask, fused=False):
    """Masked mean of the last two hidden states, clamped and of length 1: the recipe of the SDK, with two states for four."""
    w = {name: weight.astype(np.float64) for name, weight in weights.items()}
    rms = lambda x, weight: x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight
    half = lambda x: np.concatenate([-x[..., HEAD // 2 :], x[..., : HEAD // 2]], -1)
    rotate = lambda x: x * w["cos"] + half(x) * w["sin"]
    heads = lambda x, count: x.reshape(LENGTH, count, HEAD).transpose(1, 0, 2)
    x = w["table"][ids[0]]
    bias = w["causal"][0] + (1.0 - mask[0])[None, None, :] * -1e4
    states = []
    for i in range(LAYERS):
        h = rms(x, w[f"norm1_{i}"])
        q = rotate(rms(heads(h @ w[f"q_{i}"].T, HEADS), w[f"qnorm_{i}"]))
        k = rotate(rms(heads(h @ w[f"k_{i}"].T, KEY_HEADS), w[f"knorm_{i}"])).repeat(HEADS // KEY_HEADS, 0)
        v = heads(h @ w[f"v_{i}"].T, KEY_HEADS).repeat(HEADS // KEY_HEADS, 0)
        scores = softmax(q @ k.transpose(0, 2, 1) * HEAD**-0.5 + bias)
        x = x + (scores @ v).transpose(1, 0, 2).reshape(LENGTH, -1) @ w[f"o_{i}"].T
        h = rms(x, w[f"norm2_{i}"])
        gate = h @ w[f"gate_{i}"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w[f"up_{i}"].T)) @ w[f"down_{i}"].T
        states.append(rms(x, w["norm"]))
    h = np.mean(states, 0)
    m = mask[0][:, None]
    pooled = (h * m).sum(0) / max(m.sum(), 1e-9)
    pooled = pooled.clip(-65504, 65504)
    return (pooled / np.linalg.norm(pooled))[None]


def qwen3_program(weights, target, output, attention="plain", layout="linear"):
    const = lambda name: mb.const(val=weights[name], name=name)

    @mb.program(
        input_specs=[mb.TensorSpec((1, LENGTH), types.int32), mb.TensorSpec((1, LENGTH), types.int32)],
        opset_version=target,
    )
    def program(input_ids, attention_mask):
        def rms(x, weight):
            mean = mb.reduce_mean(x=mb.mul(x=x, y=x), axes=[-1], keep_dims=True)
            return mb.mul(x=mb.mul(x=x, y=mb.rsqrt(x=mean, epsilon=np.float32(EPSILON))), y=const(weight))

        def linear(x, name):
            if layout == "linear":
                return mb.linear(x=x, weight=const(name))
            # The Neural Engine's layout: [1, C, 1, S] and a kernel of one pixel.
            wide = mb.expand_dims(x=mb.transpose(x=x, perm=[0, 2, 1]), axes=[2])
            kernel = mb.const(val=weights[name][:, :, None, None], name=name)
            return mb.transpose(x=mb.squeeze(x=mb.conv(x=wide, weight=kernel), axes=[2]), perm=[0, 2, 1])

        def heads(x, count):
            return mb.transpose(x=mb.reshape(x=x, shape=[1, LENGTH, count, HEAD]), perm=[0, 2, 1, 3])

        def rotate(x):
            first, second = mb.split(x=x, num_splits=2, axis=-1)
            turned = mb.concat(values=[mb.mul(x=second, y=np.float32(-1)), first], axis=-1)
            return mb.add(x=mb.mul(x=x, y=const("cos")), y=mb.mul(x=turned, y=const("sin")))

        def repeat(x):
            wide = mb.tile(x=mb.expand_dims(x=x, axes=[2]), reps=[1, 1, HEADS // KEY_HEADS, 1, 1])
            return mb.reshape(x=wide, shape=[1, HEADS, LENGTH, HEAD])

        mask = mb.cast(x=attention_mask, dtype="fp32")
        padding = mb.mul(x=mb.sub(x=np.float32(1), y=mask), y=np.float32(-1e4))
        bias = mb.add(x=const("causal"), y=mb.expand_dims(x=padding, axes=[1, 2]))
        x = mb.gather(x=const("table"), indices=input_ids, axis=0)
        states = []
        for i in range(LAYERS):
            h = rms(x, f"norm1_{i}")
            q = rotate(rms(heads(linear(h, f"q_{i}"), HEADS), f"qnorm_{i}"))
            k = repeat(rotate(rms(heads(linear(h, f"k_{i}"), KEY_HEADS), f"knorm_{i}")))
            v = repeat(heads(linear(h, f"v_{i}"), KEY_HEADS))
            if attention == "fused":
                mixed = mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=bias)
            else:
                scores = mb.mul(x=mb.matmul(x=q, y=k, transpose_y=True), y=np.float32(HEAD**-0.5))
                mixed = mb.matmul(x=mb.softmax(x=mb.add(x=scores, y=bias), axis=-1), y=v)
            mixed = mb.reshape(x=mb.transpose(x=mixed, perm=[0, 2, 1, 3]), shape=[1, LENGTH, HEADS * HEAD])
            x = mb.add(x=x, y=linear(mixed, f"o_{i}"))
            h = rms(x, f"norm2_{i}")
            x = mb.add(
                x=x, y=linear(mb.mul(x=mb.silu(x=linear(h, f"gate_{i}")), y=linear(h, f"up_{i}")), f"down_{i}")
            )
            states.append(rms(x, "norm"))
        h = mb.mul(x=mb.add(x=states[0], y=states[1]), y=np.float32(0.5))
        m = mb.expand_dims(x=mask, axes=[-1])
        total = mb.reduce_sum(x=mb.mul(x=h, y=m), axes=[1], keep_dims=False)
        count = mb.maximum(x=mb.reduce_sum(x=m, axes=[1], keep_dims=False), y=np.float32(1e-3))
        pooled = mb.clip(x=mb.real_div(x=total, y=count), alpha=np.float32(-65504), beta=np.float32(65504))
        return mb.real_div(x=pooled, y=mb.reduce_l2_norm(x=pooled, axes=[-1], keep_dims=True), name=output)

    return program


def bert_weights():
    random = rng()
    normal = lambda *shape: random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
    small = lambda size: random.normal(0, 0.1, size).astype(np.float32)
    weights = {
        "table": random.normal(0, 1, (VOCABULARY, HIDDEN)).astype(np.float32),
        "positions": random.normal(0, 0.3, (64, HIDDEN)).astype(np.float32),
        "gamma": 1 + small(HIDDEN),
        "beta": small(HIDDEN),
    }
    for i in range(LAYERS):
        for name, rows, columns in [
            ("q", HIDDEN, HIDDEN),
            ("k", HIDDEN, HIDDEN),
            ("v", HIDDEN, HIDDEN),
            ("o", HIDDEN, HIDDEN),
            ("in", INNER, HIDDEN),
            ("out", HIDDEN, INNER),
        ]:
            weights[f"{name}_{i}"], weights[f"{name}_bias_{i}"] = normal(rows, columns), small(rows)
        for norm in ("norm1", "norm2"):
            weights[f"{norm}_gamma_{i}"], weights[f"{norm}_beta_{i}"] = 1 + small(HIDDEN), small(HIDDEN)
    return weights


def gelu(x, mode):
    if mode == "EXACT":
        from math import erf

        return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def bert_numpy(weights, ids, mask, mode):
    w = {name: weight.astype(np.float64) for name, weight in weights.items()}
    length = ids.shape[1]
    head = HIDDEN // HEADS

    def norm(x, name):
        gamma, beta = name
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * w[gamma] + w[beta]

    linear = lambda x, name, i: x @ w[f"{name}_{i}"].T + w[f"{name}_bias_{i}"]
    heads = lambda x: x.reshape(length, HEADS, head).transpose(1, 0, 2)
    x = norm(w["table"][np.maximum(ids[0], 0)] + w["positions"][:length], ("gamma", "beta"))
    bias = (1.0 - mask[0])[None, None] * -1e4
    for i in range(LAYERS):
        q, k, v = (heads(linear(x, name, i)) for name in "qkv")
        scores = softmax(q @ k.transpose(0, 2, 1) * head**-0.5 + bias)
        mixed = (scores @ v).transpose(1, 0, 2).reshape(length, HIDDEN)
        x = norm(x + linear(mixed, "o", i), (f"norm1_gamma_{i}", f"norm1_beta_{i}"))
        x = norm(x + linear(gelu(linear(x, "in", i), mode), "out", i), (f"norm2_gamma_{i}", f"norm2_beta_{i}"))
    m = mask[0][:, None]
    pooled = (x * m).sum(0) / m.sum()
    return (pooled / np.linalg.norm(pooled))[None]


def bert_program(weights, target, mode, length):
    """With one input, whose padding is -1: enumerated shapes before iOS 18 allow no second one."""
    const = lambda name: mb.const(val=weights[name], name=name)
    head = HIDDEN // HEADS

    @mb.program(input_specs=[mb.TensorSpec((1, length), types.int32)], opset_version=target)
    def program(input_ids):
        def norm(x, gamma, beta):
            return mb.layer_norm(x=x, axes=[-1], gamma=const(gamma), beta=const(beta), epsilon=np.float32(EPSILON))

        def linear(x, name, i):
            return mb.linear(x=x, weight=const(f"{name}_{i}"), bias=const(f"{name}_bias_{i}"))

        def heads(x):
            return mb.transpose(x=mb.reshape(x=x, shape=[1, -1, HEADS, head]), perm=[0, 2, 1, 3])

        mask = mb.cast(x=mb.greater_equal(x=input_ids, y=0), dtype="fp32")
        ids = mb.maximum(x=input_ids, y=0)
        if isinstance(length, int):
            positions = mb.slice_by_index(x=const("positions"), begin=[0, 0], end=[length, 0], end_mask=[False, True])
        else:
            size = mb.slice_by_size(x=mb.shape(x=input_ids), begin=[1], size=[1])
            size = mb.concat(values=[size, np.int32([HIDDEN])], axis=0)
            positions = mb.slice_by_size(x=const("positions"), begin=[0, 0], size=size)
        x = mb.add(x=mb.gather(x=const("table"), indices=ids, axis=0), y=positions)
        x = norm(x, "gamma", "beta")
        bias = mb.mul(x=mb.sub(x=np.float32(1), y=mask), y=np.float32(-1e4))
        bias = mb.expand_dims(x=bias, axes=[1, 2])
        for i in range(LAYERS):
            q, k, v = (heads(linear(x, name, i)) for name in "qkv")
            scores = mb.mul(x=mb.matmul(x=q, y=k, transpose_y=True), y=np.float32(head**-0.5))
            mixed = mb.matmul(x=mb.softmax(x=mb.add(x=scores, y=bias), axis=-1), y=v)
            mixed = mb.reshape(x=mb.transpose(x=mixed, perm=[0, 2, 1, 3]), shape=[1, -1, HIDDEN])
            x = norm(mb.add(x=x, y=linear(mixed, "o", i)), f"norm1_gamma_{i}", f"norm1_beta_{i}")
            inner = mb.gelu(x=linear(x, "in", i), mode=mode)
            x = norm(mb.add(x=x, y=linear(inner, "out", i)), f"norm2_gamma_{i}", f"norm2_beta_{i}")
        m = mb.expand_dims(x=mask, axes=[-1])
        total = mb.reduce_sum(x=mb.mul(x=x, y=m), axes=[1], keep_dims=False)
        pooled = mb.real_div(x=total, y=mb.reduce_sum(x=m, axes=[1], keep_dims=False))
        return mb.real_div(x=pooled, y=mb.reduce_l2_norm(x=pooled, axes=[-1], keep_dims=True), name="embedding")

    return program


def convert(program, target, precision=ct.precision.FLOAT16, **options):
    return ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=precision,
        minimum_deployment_target=target,
        skip_model_load=True,
        **options,
    )


def rounded(weights):
    return {name: weight.astype(np.float16).astype(np.float32) for name, weight in weights.items()}


def expanded(operation):
    """What a compressed weight holds, in double precision by the definition of its operation.

    coremltools would say it in halves, and its rounding is as large as what is looked for here. Only streams of bits, whose
    order is a matter of the format, are unpacked by coremltools.
    """

    def parameter(name):
        given = getattr(operation, name)
        if given is None:
            return None
        value = expanded(given.op) if given.val is None else given.val
        # Nibbles are objects of a type of coremltools' own.
        return np.asarray(value).astype(np.float64)

    def spread(blocks, shape):
        for axis, (size, count) in enumerate(zip(shape, blocks.shape)):
            blocks = blocks.repeat(size // count, axis)
        return blocks

    if operation.op_type == "constexpr_affine_dequantize":
        data, scale, zero_point = (parameter(name) for name in ("quantized_data", "scale", "zero_point"))
        along = [1] * data.ndim
        along[int(operation.axis.val)] = -1
        return (data - zero_point.reshape(along)) * scale.reshape(along)
    if operation.op_type == "constexpr_blockwise_shift_scale":
        data, scale, offset = (parameter(name) for name in ("data", "scale", "offset"))
        return (data - (0 if offset is None else spread(offset, data.shape))) * spread(scale, data.shape)
    if hasattr(operation, "shape") and operation.shape is not None:
        return operation.materialized_val_inference()
    indices, table = parameter("indices").astype(np.int64), parameter("lut")
    assert table.shape[-1] == 1
    table = spread(table, indices.shape)[..., 0]
    return np.take_along_axis(table, indices[..., None], -1)[..., 0]


def decompressed(model, weights):
    """The weights of `model` expanded; what was not compressed is rounded to halves."""
    found = rounded(weights)
    program = model._mil_program
    if program is None:
        from coremltools.converters.mil.frontend.milproto.load import load

        program = load(model.get_spec(), model.get_spec().specificationVersion, model.weights_dir)
    compressed = {}
    for operation in program.functions["main"].operations:
        # One that another one is made from is not a weight.
        inner = any(child.op_type.startswith("constexpr_") for child in operation.outputs[0].child_ops)
        if operation.op_type.startswith("constexpr_") and not inner:
            value = expanded(operation)
            stem = max(
                (name for name in weights if operation.name == name or operation.name.startswith(name + "_to_fp16")),
                key=len,
            )
            compressed[stem] = np.asarray(value, np.float64).reshape(weights[stem].shape)
    assert compressed, "nothing was compressed"
    return found | compressed


def texts():
    random = rng()
    for count in (7, LENGTH):
        ids = np.zeros((1, LENGTH), np.int32)
        mask = np.zeros((1, LENGTH), np.int32)
        ids[0, :count] = random.integers(1, VOCABULARY, count)
        mask[0, :count] = 1
        yield ids, mask


class Cases:
    def __init__(self, folder):
        self.folder = folder
        self.cases = []

    def add(self, name, model, output, runs, tolerance, expect):
        model.author, model.short_description, model.license = "Embedbar's tests", f"case {name}", "MIT"
        model.user_defined_metadata["case"] = name
        model.save(str(self.folder / f"{name}.mlpackage"))
        as_list = lambda tensor: {"shape": list(tensor.shape), "values": np.asarray(tensor).reshape(-1).tolist()}
        self.cases.append(
            {
                "name": name,
                "output": output,
                "tolerance": tolerance,
                "expect": expect,
                "runs": [
                    {
                        "inputs": {key: as_list(value) for key, value in inputs.items()},
                        "output": as_list(expected.astype(np.float64)),
                    }
                    for inputs, expected in runs
                ],
            }
        )
        print(name, flush=True)


def qwen3_cases(cases):
    weights = qwen3_weights()

    def runs(weights):
        return [
            ({"input_ids": ids, "attention_mask": mask}, qwen3_numpy(weights, ids, mask)) for ids, mask in texts()
        ]

    expect = lambda precision, opset, **more: {
        "precision": precision,
        "opset": opset,
        "ids": "input_ids",
        "mask": "attention_mask",
        "lengths": {"fixed": LENGTH},
        "dimensions": HIDDEN,
        "per_token": False,
        **more,
    }
    targets = [(ct.target.iOS16, "CoreML6"), (ct.target.iOS17, "CoreML7"), (ct.target.iOS18, "CoreML8")]
    models = {}
    for target, opset in targets:
        models[opset] = convert(qwen3_program(weights, target, "embedding"), target)
        name = f"qwen3_fp16_{opset.lower()}"
        cases.add(name, models[opset], "embedding", runs(rounded(weights)), 1e-5, expect("fp16", opset))
    # Against the weights as they were before they became halves.
    cases.add("qwen3_fp16_loss", models["CoreML6"], "embedding", runs(weights), 1e-3, expect("fp16", "CoreML6"))
    # What the SDK's converter makes: all of it in single precision, and an output without a name of its own.
    model = convert(qwen3_program(weights, ct.target.iOS15, "var_6614"), ct.target.iOS15, ct.precision.FLOAT32)
    cases.add("sdk_interface", model, "var_6614", runs(weights), 1e-5, expect("fp32", "CoreML5"))
    model = convert(qwen3_program(weights, ct.target.iOS18, "embedding", attention="fused"), ct.target.iOS18)
    cases.add("qwen3_fused", model, "embedding", runs(rounded(weights)), 1e-5, expect("fp16", "CoreML8"))
    model = convert(qwen3_program(weights, ct.target.iOS16, "embedding", layout="conv"), ct.target.iOS16)
    cases.add("qwen3_conv", model, "embedding", runs(rounded(weights)), 1e-5, expect("fp16", "CoreML6"))

    quantise = lambda **options: lambda model: cto.coreml.linear_quantize_weights(
        model, cto.coreml.OptimizationConfig(global_config=cto.coreml.OpLinearQuantizerConfig(mode="linear_symmetric", **options))
    )
    shifted = lambda **options: lambda model: cto.coreml.linear_quantize_weights(
        model, cto.coreml.OptimizationConfig(global_config=cto.coreml.OpLinearQuantizerConfig(mode="linear", **options))
    )
    palette = lambda **options: lambda model: cto.coreml.palettize_weights(
        model, cto.coreml.OptimizationConfig(global_config=cto.coreml.OpPalettizerConfig(mode="uniform", **options))
    )
    for name, opset, compress, precision in [
        ("int8", "CoreML6", quantise(), "int8"),
        ("int8_shifted", "CoreML7", shifted(), "int8"),
        ("int8", "CoreML8", quantise(), "int8"),
        ("int8_shifted", "CoreML8", shifted(), "int8"),
        ("palette4", "CoreML6", palette(nbits=4), "palette4"),
        ("palette2", "CoreML6", palette(nbits=2), "palette2"),
        ("palette6", "CoreML6", palette(nbits=6), "palette6"),
        ("palette1", "CoreML6", palette(nbits=1), "palette1"),
        ("palette8", "CoreML7", palette(nbits=8), "palette8"),
        ("palette4", "CoreML8", palette(nbits=4), "palette4"),
        ("palette3", "CoreML8", palette(nbits=3), "palette3"),
        ("palette4_grouped", "CoreML8", palette(nbits=4, granularity="per_grouped_channel", group_size=8), "palette4"),
        (
            "palette4_scaled",
            "CoreML8",
            palette(nbits=4, granularity="per_grouped_channel", group_size=8, enable_per_channel_scale=True),
            "palette4",
        ),
        ("int4_block", "CoreML8", quantise(dtype="int4", granularity="per_block", block_size=16), "int4_block"),
        ("uint4_block", "CoreML8", shifted(dtype="uint4", granularity="per_block", block_size=16), "int4_block"),
        ("int8_block", "CoreML8", quantise(dtype="int8", granularity="per_block", block_size=16), "int8_block"),
    ]:
        model = compress(models[opset])
        found = decompressed(model, weights)
        name = f"qwen3_{name}_{opset.lower()}"
        cases.add(name, model, "embedding", runs(found), 1e-5, expect(precision, opset))
    # A palette of bytes that have scales: one constexpr feeds another.
    joint = cto.coreml.linear_quantize_weights(
        cto.coreml.palettize_weights(
            models["CoreML8"],
            cto.coreml.OptimizationConfig(
                global_config=cto.coreml.OpPalettizerConfig(mode="uniform", nbits=4)
            ),
        ),
        cto.coreml.OptimizationConfig(global_config=cto.coreml.OpLinearQuantizerConfig(mode="linear_symmetric", granularity="per_tensor")),
        joint_compression=True,
    )
    found = decompressed(joint, weights)
    cases.add("qwen3_joint", joint, "embedding", runs(found), 1e-5, expect("palette4", "CoreML8"))


def bert_cases(cases):
    weights = bert_weights()

    def runs(weights, mode, lengths=(LENGTH,)):
        random = rng()
        for length in lengths:
            ids = np.full((1, length), -1, np.int32)
            count = length * 3 // 4
            ids[0, :count] = random.integers(1, VOCABULARY, count)
            mask = (ids >= 0).astype(np.int32)
            yield {"input_ids": ids}, bert_numpy(weights, ids, mask, mode)

    expect = lambda opset, lengths: {
        "precision": "fp16",
        "opset": opset,
        "ids": "input_ids",
        "mask": None,
        "lengths": lengths,
        "dimensions": HIDDEN,
        "per_token": False,
    }
    for mode in ("EXACT", "TANH_APPROXIMATION"):
        model = convert(bert_program(weights, ct.target.iOS16, mode, LENGTH), ct.target.iOS16)
        found = list(runs(rounded(weights), mode))
        cases.add(f"bert_{mode.lower()}", model, "embedding", found, 1e-5, expect("CoreML6", {"fixed": LENGTH}))
    lengths = (16, 32, 64)
    for name, shape, described in [
        ("enumerated", ct.EnumeratedShapes(shapes=[(1, length) for length in lengths], default=(1, 16)), {"enumerated": list(lengths)}),
        ("range", ct.Shape(shape=(1, ct.RangeDim(4, 64, default=16))), {"range": [4, 64]}),
    ]:
        program = bert_program(weights, ct.target.iOS16, "EXACT", get_new_symbol())
        model = convert(program, ct.target.iOS16, inputs=[ct.TensorType(name="input_ids", shape=shape)])
        found = list(runs(rounded(weights), "EXACT", lengths))
        cases.add(f"bert_{name}", model, "embedding", found, 1e-5, expect("CoreML6", described))


def multifunction(cases):
    """Two lengths that share their weights; the default one is 32."""
    weights = bert_weights()
    descriptor = ct.utils.MultiFunctionDescriptor()
    for length in (16, 32):
        model = convert(bert_program(weights, ct.target.iOS18, "EXACT", length), ct.target.iOS18)
        path = cases.folder / f"part_{length}.mlpackage"
        model.save(str(path))
        descriptor.add_function(str(path), "main", f"s{length}")
    descriptor.default_function_name = "s32"
    ct.utils.save_multifunction(descriptor, str(cases.folder / "multifunction.mlpackage"))
    for length in (16, 32):
        shutil.rmtree(cases.folder / f"part_{length}.mlpackage")


class Mutations:
    """Copies of a package that are wrong in one way each."""

    def __init__(self, folder, source):
        self.folder = folder
        self.source = folder / f"{source}.mlpackage"
        self.list = []

    def add(self, name, code, change=None, change_file=None):
        copy = self.folder / f"wrong_{name}.mlpackage"
        shutil.copytree(self.source, copy)
        inner = copy / "Data" / "com.apple.CoreML"
        if change is not None:
            spec = load_spec(str(inner / "model.mlmodel"))
            function = next(iter(spec.mlProgram.functions.values()))
            change(spec, function, next(iter(function.block_specializations.values())))
            (inner / "model.mlmodel").write_bytes(spec.SerializeToString())
        if change_file is not None:
            path = inner / "weights" / "weight.bin"
            data = bytearray(path.read_bytes())
            change_file(data)
            path.write_bytes(bytes(data))
        self.list.append({"name": f"wrong_{name}", "code": code})


def first(block, kind):
    return next(operation for operation in block.operations if operation.type == kind)


def output_type(operation):
    return operation.outputs[0].type.tensorType


def make_mutations(folder):
    wrong = Mutations(folder, "qwen3_int8_coreml6")

    def resize(operation, size):
        output_type(operation).dimensions[-1].constant.size = size

    def remove(block, kind):
        block.operations.remove(first(block, kind))

    def blob(block):
        """The constant that is a norm's weight."""
        for operation in block.operations:
            if operation.type == "const" and operation.attributes["val"].WhichOneof("value") == "blobFileValue":
                return operation.attributes["val"]
        raise AssertionError("no constant is in the weight file")

    def swap(block):
        index = next(i for i, operation in enumerate(block.operations) if operation.type == "linear")
        operations = list(block.operations)
        operations.append(operations.pop(index))
        del block.operations[:]
        block.operations.extend(operations)

    def duplicate(block):
        copy = type(block.operations[0])()
        copy.CopyFrom(first(block, "add"))
        block.operations.append(copy)

    def rename(block, old, new):
        for operation in block.operations:
            for output in operation.outputs:
                output.name = new if output.name == old else output.name
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    binding.name = new if binding.name == old else binding.name

    def scale_length(block):
        scale = first(block, "constexpr_affine_dequantize").attributes["scale"]
        scale.type.tensorType.dimensions[0].constant.size += 1

    def opset_key(function):
        old = function.opset
        function.block_specializations["CoreML9"].CopyFrom(function.block_specializations[old])
        del function.block_specializations[old]

    def array(feature):
        return feature.type.multiArrayType

    def put(data, at, value, size=4):
        data[at : at + size] = value.to_bytes(size, "little")

    wrong.add("shape", "type-mismatch", lambda spec, f, block: resize(first(block, "linear"), 3))
    wrong.add("dtype", "type-mismatch", lambda spec, f, block: setattr(output_type(first(block, "mul")), "dataType", 11))
    wrong.add("missing_input", "missing-input", lambda spec, f, block: first(block, "linear").inputs.pop("weight"))
    wrong.add("unknown_operation", "unknown-operation", lambda spec, f, block: setattr(first(block, "silu"), "type", "silu2"))
    wrong.add(
        "undefined_name",
        "undefined-name",
        lambda spec, f, block: setattr(first(block, "linear").inputs["x"].arguments[0], "name", "nothing"),
    )
    wrong.add("order", "used-before-defined", lambda spec, f, block: swap(block))
    wrong.add("blob_offset", "blob-offset", lambda spec, f, block: setattr(blob(block).blobFileValue, "offset", 1 << 40))
    wrong.add("blob_alignment", "blob-offset", lambda spec, f, block: setattr(blob(block).blobFileValue, "offset", 65))
    wrong.add("blob_file", "weight-file", lambda spec, f, block: setattr(blob(block).blobFileValue, "fileName", "@model_path/weights/x"))
    wrong.add("sentinel", "blob-sentinel", change_file=lambda data: put(data, 64, 0))
    wrong.add("blob_dtype", "blob-dtype", change_file=lambda data: put(data, 68, 2))
    wrong.add("blob_size", "blob-size", change_file=lambda data: put(data, 72, 2, 8))
    wrong.add("blob_cut", "blob-offset", change_file=lambda data: data.__delitem__(slice(len(data) - 8, None)))
    wrong.add("count", "weight-count", change_file=lambda data: put(data, 0, 3))
    wrong.add("version", "weight-header", change_file=lambda data: put(data, 4, 1))
    wrong.add("scale_length", "blob-size", lambda spec, f, block: scale_length(block))
    wrong.add(
        "constexpr_type",
        "constexpr-type",
        lambda spec, f, block: resize(first(block, "constexpr_affine_dequantize"), 63),
    )
    wrong.add("specification", "specification-version", lambda spec, f, block: setattr(spec, "specificationVersion", 6))
    wrong.add("opset", "specification-version", lambda spec, f, block: (opset_key(f), setattr(f, "opset", "CoreML9")))
    wrong.add("opset_key", "opset-without-block", lambda spec, f, block: opset_key(f))
    wrong.add("missing_output", "missing-output", lambda spec, f, block: block.outputs.__setitem__(0, "nothing"))
    wrong.add(
        "identifier",
        "bad-identifier",
        lambda spec, f, block: rename(block, first(block, "silu").outputs[0].name, "not-a-name"),
    )
    wrong.add("duplicate", "duplicate-name", lambda spec, f, block: duplicate(block))
    wrong.add("omitted", "omitted-input", lambda spec, f, block: first(block, "matmul").inputs.pop("transpose_x"))
    wrong.add(
        "description_name", "interface-mismatch", lambda spec, f, block: setattr(spec.description.input[0], "name", "other")
    )
    wrong.add(
        "description_shape",
        "interface-mismatch",
        lambda spec, f, block: array(spec.description.input[0]).shape.__setitem__(1, 33),
    )
    wrong.add(
        "description_dtype",
        "interface-mismatch",
        lambda spec, f, block: setattr(array(spec.description.output[0]), "dataType", 131104),
    )
    wrong.add(
        "no_shape",
        "input-without-shape",
        lambda spec, f, block: array(spec.description.input[0]).ClearField("shape"),
    )
    wrong.add(
        "half_output",
        "specification-version",
        lambda spec, f, block: (
            setattr(array(spec.description.output[0]), "dataType", 65552),
            setattr(spec, "specificationVersion", 6),
        ),
    )
    wrong.add("constant_type", "blob-size", lambda spec, f, block: blob(block).type.tensorType.dimensions[0].constant.__setattr__("size", 5))
    wrong.add("new_operation", "operation-too-new", lambda spec, f, block: setattr(first(block, "matmul"), "type", "scaled_dot_product_attention"))
    wrong.add("no_name", "operation-without-name", lambda spec, f, block: first(block, "matmul").attributes.pop("name"))
    (folder / "mutations.json").write_text(json.dumps(wrong.list))


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    cases = Cases(folder)
    qwen3_cases(cases)
    bert_cases(cases)
    multifunction(cases)
    (folder / "cases.json").write_text(json.dumps(cases.cases))
    make_mutations(folder)


if __name__ == "__main__":
    main()
