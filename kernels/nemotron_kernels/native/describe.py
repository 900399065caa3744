"""Turn a network's tensors into the library's structures, and refuse what the library would misread."""

import ctypes
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from nemotron_kernels.native import interface
from nemotron_kernels.native.interface import BlockStruct, LinearStruct, ModelStruct
from nemotron_kernels.native.network import Attention, Block, Experts, Linear, Mamba, Mlp, Network

CODES: Mapping[torch.dtype, int] = {
    torch.float32: interface.FP32,
    torch.bfloat16: interface.BF16,
    torch.float16: interface.FP16,
    torch.int8: interface.INT8,
    torch.float8_e4m3fn: interface.FP8,
}
MODEL_TYPES = (torch.float32, torch.bfloat16)
STATE_TYPES = (torch.float32, torch.float16, torch.int8)
MOST_EXPERTS = 1024
"""That the library has room for beside a row's scores."""
SCALED_TOGETHER = 128

Dimensions = tuple[int | None, ...]


class Described:
    """The library's structures of a network, with every tensor they point to kept alive."""

    def __init__(self, network: Network) -> None:
        """Raises ValueError, naming the tensor, for a type, shape, layout or device the library does not take."""
        self._kept: list[object] = [network]
        self._dtype = network.embeddings.dtype
        if self._dtype not in MODEL_TYPES:
            raise ValueError(f"the network's type is {self._dtype}: the library computes in FP32 and BF16")
        self._hidden = network.embeddings.shape[-1]
        self._numbers: dict[str, Any] = {}
        self.model = ModelStruct()
        self._describe(network)

    def _describe(self, network: Network) -> None:
        routing = network.routing
        self._set(dtype=CODES[self._dtype], kv_dtype=CODES[self._dtype], hidden=self._hidden)
        self._set(vocabulary=network.head.weight.shape[0], blocks=len(network.blocks), eps=network.eps)
        self._set(query_heads=network.query_heads, block_tokens=network.block_tokens, chosen=routing.chosen)
        self._set(router_groups=routing.groups, router_top_groups=routing.top_groups)
        self._set(router_scale=routing.scale, normalize=int(routing.normalize))
        blocks = (BlockStruct * len(network.blocks))(*map(self._block, network.blocks))
        self._kept.append(blocks)
        self.model.embeddings = self._model("embeddings", network.embeddings, (None, self._hidden))
        self.model.norm = self._fp32("the final norm", network.norm, (self._hidden,))
        self.model.head = self._linear("the head", network.head, None, self._hidden)
        self.model.block = ctypes.cast(blocks, ctypes.POINTER(BlockStruct))
        for name, value in self._numbers.items():
            setattr(self.model, name, value)

    def _set(self, **numbers: Any) -> None:
        """Numbers of the model; what two blocks disagree about is refused."""
        for name, value in numbers.items():
            if self._numbers.setdefault(name, value) != value and name != "kv_dtype":
                raise ValueError(f"blocks disagree about {name}: {self._numbers[name]} and {value}")

    def _block(self, block: Block) -> BlockStruct:
        describe: Mapping[type, tuple[str, Callable[[Any], Iterator[tuple[str, Any]]]]] = {
            Mamba: ("M", self._mamba),
            Attention: ("*", self._attention),
            Experts: ("E", self._experts),
            Mlp: ("-", self._mlp),
        }
        kind, fields = describe[type(block)]
        norm = self._fp32("a block's norm", block.norm, (self._hidden,))
        return BlockStruct(kind=ord(kind), norm=norm, **dict(fields(block)))

    def _mamba(self, block: Mamba) -> Iterator[tuple[str, Any]]:
        state, *scales = block.states
        slots, h, p, n = state.shape
        g, r = block.Bs.shape[1:3]
        c, k = block.conv_weight.shape
        if state.dtype not in STATE_TYPES:
            raise ValueError(f"states are {state.dtype}: the library reads FP32, FP16 and INT8")
        self._set(heads=h, head_dim=p, state_size=n, groups=g, taps=k, ring=r, state_dtype=CODES[state.dtype])
        if c != h * p + 2 * g * n or h % g:
            raise ValueError(f"a convolution of {c} channels does not fit {h} heads of {p} and {g} groups of {n}")
        yield "input", self._linear("in_proj", block.in_proj, h * p + c + h, self._hidden)
        yield "output", self._linear("out_proj", block.out_proj, self._hidden, h * p)
        yield "conv_weight", self._fp32("the convolution's weight", block.conv_weight.t().contiguous(), (k, c))
        yield "conv_bias", (block.conv_bias is not None and self._fp32("its bias", block.conv_bias, (c,))) or None
        for name in ("A", "D", "dt_bias"):
            yield name, self._fp32(name, getattr(block, name), (h,))
        yield "gate_norm", self._fp32("the gated norm", block.gate_norm, (h * p,))
        yield "states", self._address("states", state, state.dtype, (slots, h, p, n))
        if state.dtype == torch.int8:
            yield "scales", self._fp32("scales", scales[0], (slots, h, -(-p * n // SCALED_TOGETHER)))
        for name, shape in (("before", (slots, h)), ("sums", (slots, h, r)), ("keys", (slots, h, r))):
            yield name, self._address(name, getattr(block, name), torch.float64, shape)
        for name, of_slot in (("taps", (r, c)), ("xs", (h, r, p)), ("Bs", (g, r, n))):
            yield name, self._model(name, getattr(block, name), (slots, *of_slot))

    def _attention(self, block: Attention) -> Iterator[tuple[str, Any]]:
        pages, s, k, d = block.keys.shape
        queries = self._numbers["query_heads"]
        self._set(kv_heads=k, attention_dim=d, page_tokens=s)
        if block.keys.dtype == torch.float8_e4m3fn:
            self._numbers["kv_dtype"] = interface.FP8
        dtype = torch.float8_e4m3fn if self._numbers["kv_dtype"] == interface.FP8 else self._dtype
        yield "input", self._linear("qkv_proj", block.qkv_proj, (queries + 2 * k) * d, self._hidden)
        yield "output", self._linear("o_proj", block.o_proj, self._hidden, queries * d)
        yield "key_pages", self._address("keys", block.keys, dtype, (pages, s, k, d))
        yield "value_pages", self._address("values", block.values, dtype, (pages, s, k, d))

    def _experts(self, block: Experts) -> Iterator[tuple[str, Any]]:
        e, inner, width = block.up.shape
        if e > MOST_EXPERTS:
            raise ValueError(f"{e} experts: the library has room for {MOST_EXPERTS}")
        self._set(experts=e, expert_size=inner, expert_width=width)
        yield "gate", self._fp32("the gate", block.gate, (e, self._hidden))
        yield "correction", self._fp32("the correction bias", block.correction, (e,))
        yield "up", self._model("experts' up", block.up, (e, inner, width))
        yield "down", self._model("experts' down", block.down, (e, width, inner))
        if block.to_latent and block.from_latent:
            yield "to_latent", self._linear("to_latent", block.to_latent, width, self._hidden)
            yield "from_latent", self._linear("from_latent", block.from_latent, self._hidden, width)
        elif width != self._hidden:
            raise ValueError(f"experts of width {width} need latent projections beside a model of width {self._hidden}")
        if block.shared_up and block.shared_down:
            yield from self._up_down(block.shared_up, block.shared_down)

    def _mlp(self, block: Mlp) -> Iterator[tuple[str, Any]]:
        yield from self._up_down(block.up, block.down)

    def _up_down(self, up: Linear, down: Linear) -> Iterator[tuple[str, Any]]:
        yield "input", self._linear("up_proj", up, None, self._hidden)
        yield "output", self._linear("down_proj", down, self._hidden, up.weight.shape[0])

    def _linear(self, name: str, linear: Linear, outputs: int | None, inputs: int) -> LinearStruct:
        weight = self._model(name, linear.weight, (outputs, inputs))
        rows = linear.weight.shape[0]
        # A bias is a handful of numbers: widened once, it needs no second kind of addition.
        bias = None if linear.bias is None else self._fp32(f"{name}'s bias", linear.bias.float(), (rows,))
        return LinearStruct(weight, bias, rows, inputs)

    def _fp32(self, name: str, tensor: Tensor, shape: Dimensions) -> int:
        return self._address(name, tensor, torch.float32, shape)

    def _model(self, name: str, tensor: Tensor, shape: Dimensions) -> int:
        return self._address(name, tensor, self._dtype, shape)

    def _address(self, name: str, tensor: Tensor, dtype: torch.dtype, shape: Dimensions) -> int:
        self._kept.append(tensor)
        return address(name, tensor, dtype, shape)


def address(name: str, tensor: Tensor, dtype: torch.dtype, shape: Dimensions) -> int:
    """Where a tensor's numbers lie; None in `shape` is any number. Raises ValueError for another tensor."""
    fits = len(shape) == tensor.ndim and all(
        wanted in (None, size) for wanted, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype != dtype:
        raise ValueError(f"{name} must be {dtype} {shape}, but is {tensor.dtype} {tuple(tensor.shape)}")
    if tensor.device.type != "cpu":
        raise ValueError(f"{name} lies on {tensor.device}: the library reads the CPU's memory")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} has strides {tensor.stride()}: call contiguous() on it once, before")
    return tensor.data_ptr()
