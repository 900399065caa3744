"""Find a layer's tensors by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from nemotron_kernels.rms_norm import add_rms_norm_fused, rms_norm


@dataclass(frozen=True, slots=True)
class Linear:
    """x: (t, inputs) → (t, outputs), in the weight's dtype."""

    weight: Tensor
    bias: Tensor | None
    product: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Norm:
    """x: (t, d) → (t, d), each row at root mean square 1, times the weight."""

    weight: Tensor
    eps: float
    mean: Callable[[Tensor], Tensor]
    is_fused: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return self.after(x, None)[1]

    def after(self, h: Tensor, delta: Tensor | None) -> tuple[Tensor, Tensor]:
        """h + delta, (t, d), and its norm."""
        if self.is_fused:
            return add_rms_norm_fused(h, delta, self.weight, self.eps)
        h = h if delta is None else h + delta
        return h, rms_norm(h, self.weight, self.eps, self.mean)


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors whose names begin with `prefix`."""

    tensors: Mapping[str, Tensor]
    product: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    prefix: str = ""

    def under(self, prefix: str) -> "Weights":
        return Weights(self.tensors, self.product, f"{self.prefix}{prefix}.")

    def tensor(self, name: str) -> Tensor:
        return self.tensors[self.prefix + name]

    def maybe(self, name: str) -> Tensor | None:
        return self.tensors.get(self.prefix + name)

    def linear(self, name: str) -> Linear:
        return Linear(self.tensor(f"{name}.weight"), self.maybe(f"{name}.bias"), self.product)
