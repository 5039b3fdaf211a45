"""``python -m benchmarks.stand_ins FOLDER``."""

from benchmarks.stand_ins.cli import main

if __name__ == "__main__":
    main(prog_name="python -m benchmarks.stand_ins")
