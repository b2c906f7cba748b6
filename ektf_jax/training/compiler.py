"""What XLA is told of training steps and predictions."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

Options = Mapping[str, str | bool]

# On a CPU, XLA 0.10 gives single products to YNNPACK. Those of dense layers are a tenth faster by Eigen's
# (benchmarks/step.py --compiler=default), but for factors in bfloat16, which only YNNPACK does fast.
_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}

# On a GPU, XLA tries many kernels of its own for each product. Without them a step compiles in two thirds of
# the time on an H100, and is as fast or faster.
_CUBLAS = {"xla_gpu_enable_triton_gemm": False}


def options(matmul_dtype: str) -> Options:
    """Options where dense layers multiply in `matmul_dtype`; {} where XLA's own are best."""
    if jax.default_backend() == "gpu":
        return _CUBLAS
    if matmul_dtype == "float32" and jax.default_backend() == "cpu" and _knows_eigen_products():
        return _EIGEN
    return {}


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """A jitted function for use within a larger program, in which it is compiled as it would be alone.

    Where XLA fuses it with what is around it, sums are rounded in another order. On a CPU the call stays a
    call; elsewhere barriers keep the two apart.
    """
    jitted = jax.jit(function)

    def call(*arguments: Any) -> Any:
        if jax.default_backend() == "cpu":
            return set_xla_metadata(jitted(*arguments), inlineable="false")
        return jax.lax.optimization_barrier(jitted(*jax.lax.optimization_barrier(arguments)))

    return call


@functools.cache
def _knows_eigen_products() -> bool:
    """Whether this XLA has the option, which is experimental: an unknown one is an error."""
    try:
        jax.jit(lambda: 0, compiler_options=_EIGEN).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
