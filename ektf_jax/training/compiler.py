"""What XLA is told of training steps and predictions."""

import functools
from collections.abc import Mapping

import jax

Options = Mapping[str, str | bool]

# On a CPU, XLA 0.10 gives single products to YNNPACK. With Eigen's a step of dense layers is faster
# (benchmarks/variants.py), but for factors in bfloat16, which only YNNPACK does fast.
_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}

# On a GPU, XLA tries many kernels of its own for each product. Without them a step compiles sooner on an
# H100, and was as fast or faster there.
_CUBLAS = {"xla_gpu_enable_triton_gemm": False}


def options(matmul_dtype: str) -> Options:
    """Options where dense layers multiply in `matmul_dtype`; {} where XLA's own are best."""
    if jax.default_backend() == "gpu":
        return _CUBLAS
    if matmul_dtype == "float32" and jax.default_backend() == "cpu" and _knows_eigen_products():
        return _EIGEN
    return {}


@functools.cache
def _knows_eigen_products() -> bool:
    """Whether this XLA has the option, which is experimental: an unknown one is an error."""
    try:
        jax.jit(lambda: 0, compiler_options=_EIGEN).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
