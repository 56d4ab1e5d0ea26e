"""What a token looks like in each encoding, and the search for the offsets at which one may begin."""
