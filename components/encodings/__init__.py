"""Items to token ids and back."""
