"""Stepwell's storage engine: tenants, journal, chunks, search.  No HTTP, no wire types."""
