"""Makes `mlx.json`: small matrices as Apple's MLX quantises them, and the numbers that MLX makes of them again.

Usage: pip install "mlx[cpu]==0.32.4" numpy, then make_mlx.py. The tests of `embedbar-mlx` read the file.
"""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np

ROWS, COLUMNS = 3, 128


def case(bits: int, group: int, dtype: mx.Dtype, seed: int) -> dict:
    random = np.random.default_rng(seed)
    matrix = random.normal(0, 0.05, (ROWS, COLUMNS)).astype(np.float32)
    # One group of equal numbers, one of zeros, one whose largest number is negative.
    matrix[0, :group] = 0.125
    matrix[1, :group] = 0
    matrix[1, -1] = -1
    packed, scales, biases = mx.quantize(mx.array(matrix).astype(dtype), group_size=group, bits=bits)
    # In single precision, so that nothing is rounded on the way back.
    single = mx.dequantize(
        packed, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=bits
    )
    halves = lambda numbers: np.array(numbers.view(mx.uint16)).reshape(-1).tolist()
    return {
        "bits": bits,
        "group_size": group,
        "dtype": "BF16" if dtype == mx.bfloat16 else "F16",
        "shape": [ROWS, COLUMNS],
        "packed": np.array(packed).reshape(-1).tolist(),
        "scales": halves(scales),
        "biases": halves(biases),
        "numbers": [float(np.float32(number)) for number in np.array(single).reshape(-1)],
    }


def main() -> None:
    kinds = [
        (bits, group, dtype)
        for bits in (2, 3, 4, 5, 6, 8)
        for group, dtype in ((32, mx.bfloat16), (64, mx.float16), (128, mx.bfloat16))
    ]
    cases = [case(bits, group, dtype, seed) for seed, (bits, group, dtype) in enumerate(kinds)]
    lines = ",\n".join(json.dumps(it) for it in cases)
    Path(__file__).with_name("mlx.json").write_text(f'{{"mlx": "{mx.__version__}", "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
