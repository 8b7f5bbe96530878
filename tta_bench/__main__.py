"""`python -m tta_bench`."""

from tta_bench.cli import main

if __name__ == "__main__":
    main()
