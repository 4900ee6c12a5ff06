"""How v4_tenant.db was made, for the record: `python -m tests.golden.make_v4_tenant FOLDER`.

What v1_tenant.db holds, written by version 4 of the tables: they list the journal by run, and
have places for labels that are on their way.
"""

import asyncio
import sys
from pathlib import Path

from tests.golden.make_v1_tenant import make

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    asyncio.run(make(folder))
    (folder / "v1_tenant.db").rename(folder / "v4_tenant.db")
