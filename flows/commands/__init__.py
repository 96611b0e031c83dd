"""The commands of `reprise`, by what they are for. Heavy libraries are imported inside them."""
