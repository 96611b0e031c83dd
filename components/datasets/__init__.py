"""From files to items, and from items to a packed, memory-mapped store."""
