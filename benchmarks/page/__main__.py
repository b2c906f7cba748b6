"""Write the page."""

from absl import app

from benchmarks import page


def main(argv: list[str]) -> None:
    """Write it."""
    del argv
    page.write()


if __name__ == "__main__":
    app.run(main)
