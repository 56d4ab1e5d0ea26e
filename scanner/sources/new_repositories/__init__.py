"""The source of new public repositories, which waits for the first push to each of them."""
