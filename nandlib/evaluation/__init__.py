"""What is measured: the protocol, how sure its numbers are, and what speaks against them."""
