#!/usr/bin/env python3
"""Judges Core ML packages of small random models with Apple's own coremltools, on any system.

    EMBEDBAR_PACKAGES=FOLDER cargo test --package embedbar-convert package
    pip install coremltools==9.0 'numpy<2' 'protobuf<6' kmeans1d safetensors
    python tests/package/check.py FOLDER

FOLDER holds packages called FAMILY-….mlpackage and, for each family, a folder with `config.json` and `model.safetensors`.
NAME-1of3.mlpackage and so on are a chain: one model in several packages, each of which takes what the one before gives, and
NAME.mlpackage is the same model in one. Each package

1.  is linted for what coremltools' loader lets through: counts, names, declared types, the description, the manifest;
2.  has a `weight.bin` with the same bytes that Apple's own writer gives for the same arrays;
3.  is loaded by coremltools, which infers every type again and compares it with the declared one;
4.  is evaluated twice by the small interpreter below, in double precision and with every result rounded to half precision
    where the program says so, and compared with the model's definition in double precision (below, from the checkpoint). For
    packages with fewer bits the definition gets the numbers that the package stands for, so that only the program is judged;
    how far those are from the checkpoint's own is checked separately; half-precision packages are also evaluated by
    coremltools' own value inference; a chain is evaluated from its first package to its last and has to give exactly what the
    model in one package gives;
5.  has the codes, scales and palettes that coremltools itself makes of the checkpoint. Exceptions that are meant: an 8-bit code
    may be the neighbour, because coremltools does not round the scale first; a block of int4 may have a smaller error.

It shares no code with the converter. It runs nothing on Core ML itself.
"""

import json
import logging
import math
import re
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

logging.disable(logging.WARNING)

import coremltools  # noqa: E402
from coremltools.converters.mil.frontend.milproto import load as milproto  # noqa: E402
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry  # noqa: E402
from coremltools.models.neural_network.quantization_utils import _get_kmeans_lookup_table_and_weight  # noqa: E402
from coremltools.optimize._utils import quantize_weight  # noqa: E402
from coremltools.libmilstoragepython import _BlobStorageWriter  # noqa: E402
from coremltools.proto import MIL_pb2, Model_pb2  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

TYPES = {
    MIL_pb2.BOOL: np.bool_,
    MIL_pb2.FLOAT16: np.float16,
    MIL_pb2.FLOAT32: np.float32,
    MIL_pb2.INT8: np.int8,
    MIL_pb2.INT32: np.int32,
    MIL_pb2.UINT8: np.uint8,
    MIL_pb2.UINT32: np.uint32,
}
FIELDS = {"floats": np.float32, "ints": np.int32, "bools": np.bool_}
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_@]*\Z")
CHUNK = re.compile(r"(.+)-(\d+)of(\d+)\Z")
INT32, FLOAT32 = 131104, 65568
SPECIFICATION = {"CoreML6": 7, "CoreML7": 8, "CoreML8": 9}
erf = np.vectorize(math.erf)


class Wrong(Exception):
    """Something about a package is not as it has to be."""


def demand(truth, message):
    if not truth:
        raise Wrong(message)


# ---------------------------------------------------------------- weight.bin


class Blobs:
    """The arrays of a weight file, read here byte by byte."""

    def __init__(self, path):
        self.data = path.read_bytes()
        self.path = path
        count, version = struct.unpack_from("<II", self.data)
        demand(version == 2 and not any(self.data[8:64]), "the head of weight.bin")
        self.arrays = {}
        offset, end = 64, 64
        while end < len(self.data):
            offset = (end + 63) // 64 * 64
            demand(not any(self.data[end:offset]), "padding is not zero")
            sentinel, kind, size, at, unused = struct.unpack_from("<IIQQQ", self.data, offset)
            demand(sentinel == 0xDEADBEEF and at == offset + 64, f"the array at {offset}")
            demand(not any(self.data[offset + 32 : at]), f"the head of the array at {offset}")
            self.arrays[offset] = (kind, self.data[at : at + size], unused)
            end = at + size
        demand(end == len(self.data), "the last array is cut short")
        demand(count == len(self.arrays), f"{count} arrays are declared, {len(self.arrays)} are there")

    def numbers(self, offset, data_type, shape):
        kind, raw, _ = self.arrays[offset]
        count = math.prod(shape)
        if data_type == MIL_pb2.INT4:
            demand(kind == 8, "an int4 array of another type")
            nibbles = np.frombuffer(raw, np.uint8)
            nibbles = np.stack([nibbles & 15, nibbles >> 4], 1).ravel()[:count].astype(np.int8)
            return np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8).reshape(shape)
        wanted = {MIL_pb2.FLOAT16: 1, MIL_pb2.UINT8: 3, MIL_pb2.INT8: 4}[data_type]
        demand(kind == wanted, f"the array at {offset} has type {kind}, not {wanted}")
        numbers = np.frombuffer(raw, TYPES[data_type])
        demand(len(numbers) == count, f"the array at {offset} has {len(numbers)} numbers, not {count}")
        return numbers.reshape(shape)

    def check_with_apples_writer(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weight.bin"
            writer = _BlobStorageWriter(str(path))
            for offset, (kind, raw, unused) in self.arrays.items():
                if kind == 1:
                    at = writer.write_fp16_data(np.frombuffer(raw, np.uint16))
                elif kind == 3:
                    at = writer.write_uint8_data(np.frombuffer(raw, np.uint8))
                elif kind == 4:
                    at = writer.write_int8_data(np.frombuffer(raw, np.int8))
                else:
                    count = len(raw) * 2 - unused // 4
                    at = writer.write_int4_data(self.numbers(offset, MIL_pb2.INT4, (count,)))
                demand(at == offset, f"Apple's writer puts the array at {at}, not at {offset}")
            del writer
            demand(path.read_bytes() == self.data, "Apple's writer gives other bytes for weight.bin")


# ---------------------------------------------------------------- the program


def shape_of(value_type):
    tensor = value_type.tensorType
    shape = tuple(dimension.constant.size for dimension in tensor.dimensions)
    demand(len(shape) == tensor.rank, "a rank that is not the number of dimensions")
    return tensor.dataType, shape


class Package:
    def __init__(self, path):
        self.path = path
        manifest = json.loads((path / "Manifest.json").read_text())
        demand(manifest["fileFormatVersion"] == "1.0.0", "the manifest's version")
        items = manifest["itemInfoEntries"]
        paths = {item["name"]: item["path"] for item in items.values()}
        demand(set(paths) == {"model.mlmodel", "weights"}, "the manifest's items")
        demand(all(item["author"] == "com.apple.CoreML" and item["description"] for item in items.values()), "authors")
        demand(items[manifest["rootModelIdentifier"]]["name"] == "model.mlmodel", "the manifest's root")
        self.weights = path / "Data" / paths["weights"]
        self.spec = Model_pb2.Model()
        self.spec.ParseFromString((path / "Data" / paths["model.mlmodel"]).read_bytes())
        demand(not self.spec.FindInitializationErrors(), "unset fields")
        self.blobs = Blobs(self.weights / "weight.bin")
        self.function = self.spec.mlProgram.functions["main"]
        self.opset = self.function.opset
        self.block = self.function.block_specializations[self.opset]
        metadata = self.spec.description.metadata.userDefined
        self.about = {key.removeprefix("embedbar."): it for key, it in metadata.items()}
        named = CHUNK.match(path.stem)
        demand(self.about.get("chunk") == (named and f"{named[2]}/{named[3]}"), "the chunk's number")
        self.number, self.of = (int(named[2]), int(named[3])) if named else (1, 1)

    def value(self, value):
        data_type, shape = shape_of(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            demand(value.blobFileValue.fileName == "@model_path/weights/weight.bin", "the weight file's name")
            self.used.add(value.blobFileValue.offset)
            return self.blobs.numbers(value.blobFileValue.offset, data_type, shape)
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "strings":
            return tensor.strings.values[0]
        if field == "bytes":
            numbers = np.frombuffer(tensor.bytes.values, TYPES[data_type])
        else:
            demand(FIELDS[field] == TYPES[data_type], f"{field} for a number of type {data_type}")
            numbers = np.array(getattr(tensor, field).values, FIELDS[field])
        demand(numbers.size == math.prod(shape), "an immediate value of another size than its shape")
        return numbers.reshape(shape)

    def lint(self):
        self.used = set()
        description = self.spec.description
        demand(self.spec.specificationVersion == SPECIFICATION[self.opset], "the version does not fit the opset")
        demand(list(self.function.block_specializations) == [self.opset], "blocks")
        declared = [(it.name, tuple(it.type.multiArrayType.shape)) for it in description.input]
        functions = [(it.name, shape_of(it.type)[1]) for it in self.function.inputs]
        inputs, outputs = [name for name, _ in declared], [it.name for it in description.output]
        first = ["input_ids"] if self.number == 1 else ["hidden"]
        others = [] if self.number == 1 or "shares" not in inputs else ["shares"]
        demand(declared == functions and inputs == [*first, "attention_mask", *others], f"inputs {inputs}")
        for it in description.input:
            wanted = INT32 if it.name in ("input_ids", "attention_mask") else FLOAT32
            demand(it.type.multiArrayType.dataType == wanted, f"the type of `{it.name}`")
        left = ["hidden_out"] if len(outputs) == 1 else ["hidden_out", "shares_out"]
        demand(outputs == (["embedding"] if self.number == self.of else left), f"outputs {outputs}")
        demand(all(it.type.multiArrayType.dataType == FLOAT32 for it in description.output), "an output is no float32")
        demand(list(self.block.outputs) == outputs, "the block's outputs")
        types = {it.name: shape_of(it.type) for it in self.function.inputs}
        operations = set()
        for operation in self.block.operations:
            demand(operation.attributes["name"].immediateValue.tensor.strings.values[0] not in operations, "a name twice")
            operations.add(operation.outputs[0].name)
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    if binding.WhichOneof("binding") == "name":
                        demand(binding.name in types, f"`{binding.name}` is used before it is made")
            is_constexpr = operation.type.startswith("constexpr_")
            if operation.type == "const":
                demand(set(operation.attributes) == {"name", "val"} and not operation.inputs, "a const's parameters")
            elif not is_constexpr or self.opset == "CoreML8":
                demand(set(operation.attributes) == {"name"}, f"attributes of {operation.type}")
            if is_constexpr:
                given = self.parameters(operation)
                wanted = self.decompress(operation.type, given).shape
                demand(shape_of(operation.outputs[0].type) == (MIL_pb2.FLOAT16, wanted), "a constexpr's declared type")
            elif operation.type != "const":
                optional = milproto_inputs(operation.type, self.opset)
                missing = optional - set(operation.inputs)
                demand(not missing, f"{operation.type} has no {missing}")
            for output in operation.outputs:
                demand(IDENTIFIER.match(output.name), f"`{output.name}` is no identifier")
                demand(output.name not in types, f"`{output.name}` is made twice")
                types[output.name] = shape_of(output.type)
        for it in description.output:
            shape = tuple(it.type.multiArrayType.shape)
            demand(types[it.name] == (MIL_pb2.FLOAT32, shape), f"the declared type of `{it.name}`")
        for operation in self.block.operations:
            if operation.type == "const":
                self.value(operation.attributes["val"])
        demand(self.used == set(self.blobs.arrays), "arrays that nothing uses")

    def load(self):
        return milproto.load(self.spec, self.spec.specificationVersion, str(self.weights))

    def fold(self, given):
        """The outputs as coremltools itself computes them: with constants for inputs, its loader infers every value. It
        cannot infer those of `silu` and of compressed weights."""
        spec = Model_pb2.Model()
        spec.CopyFrom(self.spec)
        function = spec.mlProgram.functions["main"]
        block = function.block_specializations[self.opset]
        operations = []
        for declared in function.inputs:
            numbers = given[declared.name].ravel()
            constant = MIL_pb2.Operation(type="const")
            constant.outputs.add().CopyFrom(declared)
            constant.attributes["name"].CopyFrom(name_value(declared.name))
            constant.attributes["val"].type.CopyFrom(declared.type)
            tensor = constant.attributes["val"].immediateValue.tensor
            field = tensor.ints if numbers.dtype == np.int32 else tensor.floats
            field.values.extend(numbers.tolist())
            operations.append(constant)
        for operation in self.block.operations:
            if operation.type == "silu":
                sigmoid = MIL_pb2.Operation()
                sigmoid.CopyFrom(operation)
                sigmoid.type = "sigmoid"
                sigmoid.outputs[0].name += "_sigmoid"
                sigmoid.attributes["name"].CopyFrom(name_value(sigmoid.outputs[0].name))
                product = MIL_pb2.Operation()
                product.CopyFrom(operation)
                product.type = "mul"
                product.inputs["y"].arguments.add().name = sigmoid.outputs[0].name
                operations += [sigmoid, product]
            else:
                operations.append(operation)
        del function.inputs[:], block.operations[:]
        block.operations.extend(operations)
        loaded = milproto.load(spec, spec.specificationVersion, str(self.weights))
        found = {name: it.val for name, it in zip(block.outputs, loaded.functions["main"].outputs, strict=True)}
        demand(all(it is not None for it in found.values()), "coremltools cannot compute it")
        return found

    def parameters(self, operation):
        given = {key: self.value(it) for key, it in operation.attributes.items() if key != "name"}
        for key, argument in operation.inputs.items():
            given[key] = self.value(argument.arguments[0].value)
        return given

    @staticmethod
    def decompress(kind, given):
        if kind == "constexpr_affine_dequantize":
            codes = given["quantized_data"].astype(np.float64) - given["zero_point"].astype(np.float64)[:, None]
            demand(int(given["axis"]) == 0, "the axis of scales")
            return codes * given["scale"].astype(np.float64)[:, None]
        if kind == "constexpr_lut_to_dense":
            raw, shape = given["indices"], tuple(int(size) for size in given["shape"])
            indices = np.stack([raw & 15, raw >> 4], 1).ravel()[: math.prod(shape)]
            return given["lut"].astype(np.float64)[indices].reshape(shape)
        demand(kind == "constexpr_blockwise_shift_scale", kind)
        data, scale = given["data"].astype(np.float64), given["scale"].astype(np.float64)
        demand(data.shape[1] % scale.shape[1] == 0 and data.shape[0] == scale.shape[0], "blocks")
        return data * np.repeat(scale, data.shape[1] // scale.shape[1], 1)

    def weights_by_name(self):
        """Every constant of the program as the numbers that it stands for."""
        found = {}
        self.used = set()
        for operation in self.block.operations:
            if operation.type == "const":
                found[operation.outputs[0].name] = self.value(operation.attributes["val"])
            elif operation.type.startswith("constexpr_"):
                found[operation.outputs[0].name] = self.decompress(operation.type, self.parameters(operation))
        return found

    def evaluate(self, given, constants, half):
        """The outputs, in double precision or rounded to the declared type after each operation."""
        values = {}
        for it in self.function.inputs:
            demand(given[it.name].shape == shape_of(it.type)[1], f"what is given as `{it.name}` has another shape")
            values[it.name] = given[it.name]
        for name, number in constants.items():
            wide = isinstance(number, np.ndarray) and number.dtype in (np.float16, np.float32)
            values[name] = number.astype(np.float64) if wide else number
            if half and isinstance(number, np.ndarray) and number.dtype == np.float64:
                values[name] = number.astype(np.float16).astype(np.float64)
        for operation in self.block.operations:
            if operation.type == "const" or operation.type.startswith("constexpr_"):
                continue
            given = {}
            for key, argument in operation.inputs.items():
                bound = [values[binding.name] for binding in argument.arguments]
                given[key] = bound if key == "values" else bound[0]
            results = OPERATIONS[operation.type](**given)
            results = results if isinstance(results, list) else [results]
            for output, result in zip(operation.outputs, results, strict=True):
                data_type, shape = shape_of(output.type)
                demand(np.shape(result) == shape, f"`{output.name}` is {np.shape(result)}, declared {shape}")
                if half and data_type in (MIL_pb2.FLOAT16, MIL_pb2.FLOAT32):
                    with np.errstate(over="ignore"):
                        result = result.astype(TYPES[data_type]).astype(np.float64)
                values[output.name] = result
        return {name: values[name] for name in self.block.outputs}


def run(chain, ids, mask, compute):
    """The vector of a model in one package or several. `compute` gives a package's outputs for its inputs."""
    given = {"input_ids": ids[None], "attention_mask": mask[None]}
    for number, package in enumerate(chain):
        found = compute(number, package, given)
        given = {"attention_mask": mask[None], **{name.removesuffix("_out"): it for name, it in found.items()}}
    return given["embedding"][0]


def name_value(name):
    value = MIL_pb2.Value()
    value.type.tensorType.dataType = MIL_pb2.STRING
    value.immediateValue.tensor.strings.values.append(name)
    return value


def milproto_inputs(kind, opset):
    """The inputs of an operation, the optional ones included, as coremltools has them for the opset."""
    target = {"CoreML6": coremltools.target.iOS16, "CoreML7": coremltools.target.iOS17, "CoreML8": coremltools.target.iOS18}[opset]
    versions = {version: of for version, of in SSAOpRegistry.core_ops[kind].items() if version.value <= target.value}
    wanted = set(versions[max(versions, key=lambda version: version.value)].input_spec.input_types)
    return wanted - {"split_sizes"} if kind == "split" else wanted


def softmax(x, axis):
    x = np.exp(x - x.max(int(axis), keepdims=True))
    return x / x.sum(int(axis), keepdims=True)


def layer_norm(x, axes, gamma, beta, epsilon):
    demand(axes.tolist() == [-1], "the axes of a norm")
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * gamma + beta


def gelu(x, mode):
    if mode == "EXACT":
        return x * 0.5 * (1 + erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def matmul(x, y, transpose_x, transpose_y):
    demand(not transpose_x, "a transposed first factor")
    return x @ (np.swapaxes(y, -1, -2) if transpose_y else y)


def reduce(of):
    return lambda x, axes, keep_dims: of(x, tuple(int(axis) for axis in axes), bool(keep_dims))


def gather(x, indices, axis, batch_dims, validate_indices=False):
    demand(axis == 0 and batch_dims == 0 and not validate_indices, "a gather of another kind")
    return x[indices]


def slice_by_size(x, begin, size):
    return x[tuple(slice(int(at), int(at) + int(count)) for at, count in zip(begin, size))]


OPERATIONS = {
    "cast": lambda x, dtype: x.astype(np.float64),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "real_div": lambda x, y: x / y,
    "maximum": lambda x, y: np.maximum(x, y),
    "equal": lambda x, y: x == y,
    "abs": lambda x: np.abs(x),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": gelu,
    "reduce_max": reduce(lambda x, axes, keep: x.max(axes, keepdims=keep)),
    "reduce_mean": reduce(lambda x, axes, keep: x.mean(axes, keepdims=keep)),
    "reduce_sum": reduce(lambda x, axes, keep: x.sum(axes, keepdims=keep, dtype=x.dtype)),
    "reduce_l2_norm": reduce(lambda x, axes, keep: np.sqrt((x**2).sum(axes, keepdims=keep))),
    "rsqrt": lambda x, epsilon: 1 / np.sqrt(x + epsilon),
    "gather": gather,
    "linear": lambda x, weight, bias: x @ weight.T + bias,
    "matmul": matmul,
    "reshape": lambda x, shape: x.reshape(tuple(int(size) for size in shape)),
    "transpose": lambda x, perm: x.transpose(tuple(int(axis) for axis in perm)),
    "softmax": softmax,
    "split": lambda x, num_splits, axis: np.split(x, int(num_splits), int(axis)),
    "concat": lambda values, axis, interleave: np.concatenate(values, int(axis)),
    "expand_dims": lambda x, axes: np.expand_dims(x, tuple(int(axis) for axis in axes)),
    "squeeze": lambda x, axes: np.squeeze(x, tuple(int(axis) for axis in axes)),
    "layer_norm": layer_norm,
    "slice_by_size": slice_by_size,
}


# ---------------------------------------------------------------- the models by definition


def bert(config, weights, ids):
    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        return layer_norm(x, np.array([-1]), weights[f"{name}.weight"], weights[f"{name}.bias"], config["epsilon"])

    activate = {
        "Gelu": lambda x: gelu(x, "EXACT"),
        "GeluTanh": lambda x: gelu(x, "TANH_APPROXIMATION"),
        "Relu": lambda x: np.maximum(x, 0),
    }[config["activation"]]
    positions = np.arange(len(ids)) + config["first_position"]
    x = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][positions]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    heads = config["heads"]
    states = []
    for layer in range(config["layers"]):
        at = f"encoder.layer.{layer}."
        split = lambda part: linear(x, f"{at}attention.self.{part}").reshape(len(ids), heads, -1)  # noqa: E731, B023
        q, k, v = split("query"), split("key"), split("value")
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        attended = np.einsum("hqk,khd->qhd", softmax(scores, -1), v).reshape(len(ids), -1)
        x = norm(x + linear(attended, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        inner = activate(linear(x, f"{at}intermediate.dense"))
        x = norm(x + linear(inner, f"{at}output.dense"), f"{at}output.LayerNorm")
        states.append(x)
    return states


def qwen3(config, weights, ids):
    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config["epsilon"]) * weights[f"{name}.weight"]

    count, head = len(ids), config["head"]
    frequencies = config["theta"] ** -(np.arange(0, head, 2) / head)
    angles = np.arange(count)[:, None, None] * frequencies

    def turn(x):
        first, second = np.split(x, 2, -1)
        return np.concatenate(
            [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], -1
        )

    hidden = np.triu(np.full((count, count), -np.inf), 1)
    x = weights["embed_tokens.weight"][ids]
    states = []
    for layer in range(config["layers"]):
        at = f"layers.{layer}."
        normed = norm(x, f"{at}input_layernorm")
        split = lambda part, n: (normed @ weights[f"{at}self_attn.{part}.weight"].T).reshape(count, n, head)  # noqa: E731, B023
        q = turn(norm(split("q_proj", config["heads"]), f"{at}self_attn.q_norm"))
        k = turn(norm(split("k_proj", config["groups"]), f"{at}self_attn.k_norm"))
        v = split("v_proj", config["groups"])
        k, v = (np.repeat(it, config["heads"] // config["groups"], 1) for it in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(head) + hidden
        attended = np.einsum("hqk,khd->qhd", softmax(scores, -1), v).reshape(count, -1)
        x = x + attended @ weights[f"{at}self_attn.o_proj.weight"].T
        normed = norm(x, f"{at}post_attention_layernorm")
        gate = normed @ weights[f"{at}mlp.gate_proj.weight"].T
        up = normed @ weights[f"{at}mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{at}mlp.down_proj.weight"].T
        states.append(x)
    states[-1] = norm(states[-1], "norm")
    return states


def wanted_vector(config, weights, ids, about):
    """The text alone, without any padding."""
    pooling, layers = about["pooling"], int(about["layers"])
    states = (bert if config["family"] == "bert" else qwen3)(config, weights, ids)
    state = np.mean(states[-layers:], 0)
    pooled = {"mean": lambda: state.mean(0), "cls": lambda: state[0], "last": lambda: state[-1]}[pooling]()
    return pooled / np.linalg.norm(pooled) if about["normalised"] == "true" else pooled


# ---------------------------------------------------------------- coremltools' own quantisation


def check_quantisation(package, source):
    """Every matrix against what coremltools makes of it."""
    names = {re.sub(r"\W", "_", name): numbers for name, numbers in source.items()}
    compared = 0
    for operation in package.block.operations:
        if not operation.type.startswith("constexpr_"):
            continue
        name = operation.outputs[0].name
        given, weight = package.parameters(operation), names[name].astype(np.float32)
        if operation.type == "constexpr_lut_to_dense":
            if weight.size < 10_000:
                continue
            # Its exact method is for half precision; for others it takes an approximate one.
            table, indices = _get_kmeans_lookup_table_and_weight(4, weight.astype(np.float16))
            found = np.stack([given["indices"] & 15, given["indices"] >> 4], 1).ravel()[: weight.size]
            demand(np.array_equal(given["lut"], table.astype(np.float16)), f"`{name}` has another palette")
            demand(np.array_equal(found, np.array(indices).ravel()), f"`{name}` has other indices")
        else:
            codes = given.get("quantized_data", given.get("data")).astype(int)
            blocks = given["scale"].size // weight.shape[0]
            scale = given["scale"].reshape(-1, 1)
            rows, codes = weight.reshape(len(scale), -1), codes.reshape(len(scale), -1)
            nbits = 8 if blocks == 1 else 4
            with np.errstate(invalid="ignore"):
                theirs, their_scale, _ = quantize_weight(rows, (1,), nbits, True, "LINEAR_SYMMETRIC", np.int8)
            their_scale = their_scale.reshape(-1, 1).astype(np.float16)
            if nbits == 8:
                # coremltools divides a row of zeros by its scale of zero.
                some = rows.any(1)
                demand((scale > 0).all() and not codes[~some].any(), f"`{name}` has no scale or no zeros for a row of zeros")
                scale, their_scale, codes, theirs = scale[some], their_scale[some], codes[some], theirs[some]
                demand(np.array_equal(scale, their_scale), f"`{name}` has other scales")
                demand(np.abs(codes - theirs).max() <= 1, f"`{name}` has other codes")
                demand((codes != theirs).mean() < 0.05, f"`{name}` has too many other codes")
            else:
                error = lambda codes, scale: ((codes * scale.astype(float) - rows.astype(float)) ** 2).sum(1)  # noqa: E731, B023
                demand((error(codes, scale) <= error(theirs, their_scale) * 1.001).all(), f"`{name}` has larger errors")
        compared += 1
    return compared


# ---------------------------------------------------------------- the verdict


def check_alone(package, source):
    """What can be said of a package by itself."""
    package.lint()
    package.blobs.check_with_apples_writer()
    loaded = package.load()
    demand(len(loaded.functions["main"].operations) > 0, "nothing was loaded")
    compared = check_quantisation(package, source)
    demand((compared > 0) == (package.about["precision"] != "fp16"), "no matrix was compared with coremltools' own")


def numbers_stored(source, config, constants):
    """The checkpoint's tensors as the packages have them. A table may be stored in part; what is missing is never read."""
    stored = dict(source)
    for name, numbers in source.items():
        identifier = re.sub(r"\W", "_", name)
        found = next(of[identifier] for of in constants if identifier in of)
        found = np.asarray(found, np.float64).reshape(-1, *numbers.shape[1:])
        if len(found) != len(numbers):
            start = config.get("first_position", 0) if "position_embeddings" in name else 0
            found = np.concatenate([numbers[:start], found, numbers[start + len(found) :]])
        stored[name] = found
    return stored


def check(chain, whole, checkpoints):
    """A model in one package, or a chain of packages and the same model in one."""
    about = chain[0].about
    family = next(name for name in sorted(checkpoints, key=len, reverse=True) if chain[0].path.name.lower().startswith(f"{name}-macos"))
    config, source = checkpoints[family]
    demand([package.number for package in chain] == list(range(1, chain[0].of + 1)), "a chain is not complete")
    for package in chain:
        check_alone(package, source)
        demand({**package.about, "chunk": ""} == {**about, "chunk": ""}, "chunks are of different models")
    length = int(about["length"])
    constants = [package.weights_by_name() for package in chain]
    of_whole = [whole.weights_by_name()] if whole else []
    stored = numbers_stored(source, config, constants)
    generator = np.random.default_rng(7)
    vocabulary = len(source["embed_tokens.weight" if config["family"] == "qwen3" else "embeddings.word_embeddings.weight"])
    worst = {"double": 0.0, "half": 0.0, "stored": 0.0, "coremltools": 0.0}
    for count in sorted({1, 2, length // 2 + 1, length - 1, length}):
        # What stands in the padding must not matter.
        ids = generator.integers(0, vocabulary, length).astype(np.int32)
        # Qwen3's first token is a row of zeros, which a norm must survive. A text of nothing else has no vector.
        ids[0] = max(ids[0], 1)
        ids[1:2] = 0
        mask = (np.arange(length) < count).astype(np.int32)
        exact = wanted_vector(config, source, ids[:count], about)
        wanted = wanted_vector(config, stored, ids[:count], about)
        for kind in ("double", "half"):
            evaluate = lambda of: lambda number, package, given: package.evaluate(given, of[number], kind == "half")  # noqa: E731, B023
            vector = run(chain, ids, mask, evaluate(constants))
            demand(np.isfinite(vector).all(), f"a vector that is not finite, in {kind} precision, {count} tokens")
            if whole:
                same = np.array_equal(vector, run([whole], ids, mask, evaluate(of_whole)))
                demand(same, f"the chain gives another vector than the package of the whole model, {kind}, {count} tokens")
            # Of a vector of length 1, whatever the vector's own length is.
            worst[kind] = max(worst[kind], np.abs(vector - wanted).max() / np.linalg.norm(wanted))
        if about["precision"] == "fp16" and count == length // 2 + 1:
            vector = run(chain, ids, mask, lambda number, package, given: package.fold(given))
            worst["coremltools"] = np.abs(vector - wanted).max() / np.linalg.norm(wanted)
        worst["stored"] = max(worst["stored"], np.abs(exact - wanted).max() / np.linalg.norm(wanted))
    limits = {
        "double": 3e-4,
        "coremltools": 1e-3,
        "half": 1e-3 if about["precision"] == "fp16" else 2e-3,
        "stored": {"fp16": 1e-3, "int8": 3e-2, "4-bit": 0.5}[about["precision"]],
    }
    for kind, limit in limits.items():
        demand(worst[kind] <= limit, f"the largest difference, {kind}, is {worst[kind]:.2e}; {limit:.0e} is the limit")
    return sum(len(package.block.operations) for package in chain), worst


def in_chains(paths):
    """The packages by the model that they are of: its name, and its packages in their order."""
    chains = {}
    for path in paths:
        named = CHUNK.match(path.stem)
        name, number = (f"{named[1]}-in-{named[3]}", int(named[2])) if named else (path.stem, 1)
        chains.setdefault(name, []).append((number, path))
    return {name: [path for _, path in sorted(of)] for name, of in chains.items()}


def main():
    folder = Path(sys.argv[1])
    paths = sorted(folder.glob("*.mlpackage"))
    checkpoints = {}
    for config in folder.glob("*/config.json"):
        weights = load_file(config.parent / "model.safetensors")
        weights = {name: numbers.astype(np.float64) for name, numbers in weights.items()}
        checkpoints[config.parent.name] = (json.loads(config.read_text()), weights)
    chains, failed, chains_failed = in_chains(paths), 0, 0
    print(f"{'package':58} operations   double     half   stored  coremltools")
    for name, parts in chains.items():
        is_chain = CHUNK.match(parts[0].stem)
        try:
            whole = Package(folder / f"{is_chain[1]}.mlpackage") if is_chain else None
            operations, worst = check([Package(path) for path in parts], whole, checkpoints)
            print(f"{name:58} {operations:10}", *(f"{number:8.1e}" for number in worst.values()))
            continue
        except Wrong as wrong:
            print(f"{name:58} WRONG: {wrong}")
        except Exception as error:  # noqa: BLE001: what coremltools raises is not ours to name
            print(f"{name:58} REFUSED: {type(error).__name__}: {error}")
        failed += len(parts)
        chains_failed += bool(is_chain)
    print(f"{sum(bool(CHUNK.match(of[0].stem)) for of in chains.values())} chains, {chains_failed} wrong")
    print(f"{len(paths)} packages, {failed} wrong")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
