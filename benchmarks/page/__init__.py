"""The page of all benchmarks, from results/benchmarks/*.json: python -m benchmarks.page

cells       numbers and provenance as text
accuracy    of the models that the report has trained
figures     what is drawn
sections    a section for each benchmark, but for these:
predictions those that predict
faults      broken inputs and ended commands
soak        training for hours, with kills
together    runs that share a process
members     members of one network
variants    choices in a training step
stored      rows on disk
fields      lists, attention and pretrained vectors
device      an accelerator
"""

from benchmarks import common
from benchmarks.page import device, sections
from ektf_jax.report import figures, render
from ektf_jax.report.render import Block, Picture, Text


def write() -> None:
    """Write README.md and its figures, PNG and SVG, beside the JSON files; one without a file is left out."""
    blocks: list[Block] = [
        Text(
            "Made by `python -m benchmarks.page` from the JSON files beside it. A figure is a median"
            " (smallest to largest); the two sides took turns on the same machine. `load` is what else ran on"
            " it when a benchmark started."
        )
    ]
    for name, section in sections.SECTIONS.items():
        if found := common.read(name):
            blocks += section(found)
    for path in sorted(common.RESULTS.glob("accelerator_*.json")):
        blocks += device.accelerator(common.read(path.stem))
    for block in blocks:
        if isinstance(block, Picture):
            figures.save(block.figure, common.RESULTS / block.name)
    (common.RESULTS / "README.md").write_text(render.markdown("Benchmarks", blocks), encoding="utf-8")
