"""Generation of sequences with a trained model: sampling, beam search, CTC decoding, infilling."""
