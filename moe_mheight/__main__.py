"""`python -m moe_mheight` is `mheight`."""

from .cli.main import main

if __name__ == "__main__":
    main()
