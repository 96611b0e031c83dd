"""Files as given, none of them trusted: found, unpacked, decoded, cut into cells, or read in a process of their own."""
