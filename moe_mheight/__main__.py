"""`python -m moe_mheight` is `mheight`."""

try:
    from .cli.main import main
except ModuleNotFoundError:  # a checkout that is not installed
    from cli.main import main

if __name__ == "__main__":
    main()
