"""Mend what Triton's interpreter, which tests/conftest.py has run the kernels on a CPU, gets wrong about numbers."""

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


def _widened(operand: TensorHandle) -> TensorHandle:
    """FP32 for BF16, which numpy has no type for."""
    if operand.dtype.scalar != tl.bfloat16:
        return operand
    return TensorHandle((operand.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def _to_nearest(numbers: Any) -> Any:
    """The bits of the nearest BF16, of two the even one."""
    bits = numbers.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(numbers), (bits >> 16) | 0x40, rounded).astype(np.uint16)


_product, _cast = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl


def _product_of_numbers(self, a, b, *others):  # type: ignore[no-untyped-def]
    """Triton's interpreter, up to 3.9 at least, multiplies the bits of BF16 as if they were whole numbers."""
    return _product(self, _widened(a), _widened(b), *others)


def _rounding_cast(self, source, target):  # type: ignore[no-untyped-def]
    """It also cuts FP32 off to BF16, where GPUs round to the nearest."""
    if (source.dtype.scalar, target.scalar) == (tl.float32, tl.bfloat16):
        return TensorHandle(_to_nearest(source.data), tl.bfloat16)
    return _cast(self, source, target)


_patch = interpreter._patch_lang_tensor


def _patch_and_index(tensor, scope):  # type: ignore[no-untyped-def]
    """Triton 3.6's takes an array of one number for a number, which numpy 2.4 refuses."""
    _patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


interpreter._patch_lang_tensor = _patch_and_index
InterpreterBuilder.create_dot = _product_of_numbers
InterpreterBuilder.cast_impl = _rounding_cast
