"""XLA's options for training steps and predictions."""

import functools

import jax

# On a CPU, XLA 0.10 gives single products to YNNPACK. Those of dense layers are a tenth faster by Eigen's
# (benchmarks/step.py --compiler=default), but for factors in bfloat16, which only YNNPACK does fast.
_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def options(matmul_dtype: str) -> dict[str, str]:
    """Options where dense layers multiply in `matmul_dtype`; {} where XLA's own are best."""
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
