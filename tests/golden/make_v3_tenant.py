"""How v3_tenant.db was made, for the record: `python -m tests.golden.make_v3_tenant FOLDER`.

What v1_tenant.db holds, written by version 3 of the tables: those of deletion for good.
"""

import asyncio
import sys
from pathlib import Path

from tests.golden.make_v1_tenant import make

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    asyncio.run(make(folder))
    (folder / "v1_tenant.db").rename(folder / "v3_tenant.db")
