"""Mirror the C interface of the library, `kernels/csrc/nemotron_cpu.h`, for ctypes."""

import ctypes
from ctypes import c_double, c_int64, c_void_p

VERSION = 1

FP32, BF16, FP16, INT8, FP8 = range(5)

NO_ISA, AVX2, AVX512, AVX512_BF16 = range(4)

ISAS = {AVX2: "AVX2", AVX512: "AVX-512", AVX512_BF16: "AVX-512 with BF16 products"}


class LinearStruct(ctypes.Structure):
    """y = W·x + bias."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("outputs", c_int64), ("inputs", c_int64)]


class BlockStruct(ctypes.Structure):
    """One block and the memory it has."""

    _fields_ = [
        ("kind", c_int64),
        ("norm", c_void_p),
        ("input", LinearStruct),
        ("output", LinearStruct),
        *((name, c_void_p) for name in ("conv_weight", "conv_bias", "A", "D", "dt_bias", "gate_norm")),
        *((name, c_void_p) for name in ("states", "scales", "before", "taps", "xs", "Bs", "sums", "keys")),
        *((name, c_void_p) for name in ("key_pages", "value_pages", "gate", "correction", "up", "down")),
        ("to_latent", LinearStruct),
        ("from_latent", LinearStruct),
    ]


class ModelStruct(ctypes.Structure):
    """The whole network."""

    _fields_ = [
        *((name, c_int64) for name in ("dtype", "state_dtype", "kv_dtype", "hidden", "vocabulary", "blocks")),
        *((name, c_int64) for name in ("heads", "head_dim", "state_size", "groups", "taps")),
        *((name, c_int64) for name in ("query_heads", "kv_heads", "attention_dim", "page_tokens")),
        *((name, c_int64) for name in ("experts", "chosen", "expert_size", "expert_width")),
        *((name, c_int64) for name in ("router_groups", "router_top_groups", "normalize", "ring", "block_tokens")),
        ("eps", c_double),
        ("router_scale", c_double),
        ("embeddings", c_void_p),
        ("norm", c_void_p),
        ("head", LinearStruct),
        ("block", ctypes.POINTER(BlockStruct)),
    ]


class StepStruct(ctypes.Structure):
    """The new tokens of b sequences."""

    _fields_ = [
        *((name, c_int64) for name in ("rows", "sequences", "yields", "table_width")),
        *((name, c_void_p) for name in ("tokens", "counts", "slots", "starts", "anchors", "commits")),
        *((name, c_void_p) for name in ("tables", "yielding", "logits", "normed")),
    ]


STRUCTS = (LinearStruct, BlockStruct, ModelStruct, StepStruct)
"""In the order in which `nk_sizeof` counts them."""

FUNCTIONS = {
    "nk_version": (c_int64,),
    "nk_sizeof": (c_int64, c_int64),
    "nk_isa": (c_int64,),
    "nk_open": (c_void_p, ctypes.POINTER(ModelStruct), c_int64, c_int64),
    "nk_step": (c_int64, c_void_p, ctypes.POINTER(StepStruct)),
    "nk_close": (None, c_void_p),
    "nk_linear": (c_int64, c_int64, c_int64, ctypes.POINTER(LinearStruct), c_void_p, c_int64, c_void_p),
    "nk_rms_norm": (c_int64, c_int64, c_void_p, c_void_p, c_int64, c_int64, c_double, c_void_p),
    "nk_function": (c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p),
    "nk_route": (c_int64, c_int64, ctypes.POINTER(ModelStruct), c_void_p, c_void_p, c_int64, c_void_p, c_void_p),
}
"""What each function returns, and takes."""
