"""Lead sheets as tokens: the encoding, its vocabulary and grammar, and what copying, planning and constraints need."""
