"""`python -m spherecv` is `spherecv`."""

from spherecv.cli import main

if __name__ == "__main__":
    main()
