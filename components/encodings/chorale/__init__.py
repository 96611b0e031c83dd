"""Four-part chorales as tokens: the encoding, its vocabulary, and what planning, rewriting and constraints need."""
