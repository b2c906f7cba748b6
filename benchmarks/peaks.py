"""What accelerators reach at most, by the name that JAX gives them (`device_kind`)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peak:
    """FLOP/s of a dense product by what it multiplies in, and bytes/s of the device's memory."""

    flops: dict[str, float]
    bandwidth: float
    source: str


# float32: without tensor cores. The data sheets' figures with sparsity are twice these.
_HOPPER = {"float32": 66.9e12, "tf32": 494.7e12, "bfloat16": 989.4e12}

H100 = Peak(_HOPPER, 3.35e12, "NVIDIA H100 Tensor Core GPU data sheet, SXM, without sparsity")
H200 = Peak(_HOPPER, 4.8e12, "NVIDIA H200 Tensor Core GPU data sheet, SXM, without sparsity")

PEAKS = {"NVIDIA H100 80GB HBM3": H100, "NVIDIA H200": H200}
