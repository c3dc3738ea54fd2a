"""``python -m api``: the server that ``nas serve`` becomes."""

from api.main import main

if __name__ == "__main__":
    main()
