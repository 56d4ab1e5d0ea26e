"""The patterns of tokens in each encoding, and the search for the offsets at which a token may begin."""
